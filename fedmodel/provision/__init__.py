"""The verb ``provision``: keys, certificates and the signed roster of a consortium."""

from fedmodel.provision.verb import main

__all__ = ["main"]
