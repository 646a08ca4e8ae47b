"""The coordinator's end of a network, as the verb ``serve`` uses it."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from flwr.serverapp import Grid

from fedmodel.identity.home import PartyHome
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.runs import Traffic

__all__ = ["Carrier", "Hub", "Listening"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """What a coordinator's end of a network is given.

    Args:
        home: the coordinator's folder: certificate and keys.
        passphrase: that its keys are sealed under; ``None``: they are in the clear.
        roster: who may dial, by which keys.
        listen: address and port.
        run: folder of the run, for what must outlive this process.
        grace: seconds that a site may be away before it fails what it was asked.
        largest: bytes that a site's answer may have.
    """

    home: PartyHome
    passphrase: bytes | None = field(repr=False)
    roster: SignedRoster
    listen: str
    run: Path
    grace: float
    largest: int


class Hub(Protocol):
    """A network that listens: it carries messages while its context lasts."""

    @property
    def grid(self) -> Grid:
        """To all sites of the roster, connected or not."""

    @property
    def port(self) -> int:
        """On which it listens."""

    def present(self) -> Collection[str]:
        """Return the names of the sites that are connected."""

    def traffic(self) -> Traffic | None:
        """Return what has crossed by now; ``None`` where nobody counts."""


Carrier: TypeAlias = Callable[[Listening], AbstractContextManager[Hub]]
"""Begins to listen, and ends it with the context."""
