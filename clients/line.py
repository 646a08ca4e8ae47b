"""The site's end of a network, as the verb ``join`` uses it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from clients.app import SiteApp
from fedmodel.identity.home import PartyHome

__all__ = ["Carrier", "Line"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a site's end of a network is given.

    Args:
        site_app: answers what is asked.
        home: the site's folder: certificate, keys, and the roster, which may change meanwhile.
        passphrase: that its keys are sealed under; ``None``: they are in the clear.
        address: host name and port of the coordinator.
        proxy: what the site's file says of one (:func:`fedmodel.transport.proxy.route_to`).
        patience: seconds without the coordinator after which to give up; ``None``: never.
        runs: run → the site's own folder for it.
        stop: is set once somebody asks the process to end.
    """

    site_app: SiteApp
    home: PartyHome
    passphrase: bytes | None = field(repr=False)
    address: str
    proxy: str | None = field(repr=False)
    patience: float | None
    runs: Callable[[str], Path]
    stop: threading.Event


Carrier: TypeAlias = Callable[[Line], None]
"""Carries messages until it is asked to stop; raises FedmodelError where it can't go on."""
