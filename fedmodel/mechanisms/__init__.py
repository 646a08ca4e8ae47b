"""Mechanisms, each in two halves: bound one contribution, then noise the sum."""

from fedmodel.mechanisms.clipping import clipped_sum, factors
from fedmodel.mechanisms.noise import add_gaussian, gaussian
from fedmodel.mechanisms.sampling import poisson
from fedmodel.mechanisms.shares import Shares

__all__ = ["Shares", "add_gaussian", "clipped_sum", "factors", "gaussian", "poisson"]
