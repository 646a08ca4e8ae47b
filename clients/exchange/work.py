"""Work of a site's run, as an exchange asks for it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmodel.ledger.tree_head import Standing
from fedmodel.update import Update
from fedmodel.wire import Order

__all__ = ["Work"]


class Work(Protocol):
    """What a site's run does for an order."""

    def check(self, order: Order) -> None:
        """Refuse an order that doesn't belong to the run."""

    def train(self, order: Order) -> Update:
        """Train one round; what it costs is in the ledger before."""

    def contribution(self, order: Order, *, paid: bool) -> NDArray[np.floating]:
        """Return what a shared sum takes of this site: bounded, and without noise. Secret.

        Args:
            order: what to do.
            paid: this is another attempt of a round that is paid, and at most one is ever opened.
        """

    def given(self, order: Order, update: str, manifest: str = "") -> None:
        """Write down what leaves for an order, before it does.

        Args:
            order: what was asked.
            update: SHA-256 (hex) of what leaves.
            manifest: SHA-256 (hex) of the manifest of the attempt that it is masked for.
        """

    def payments(self, round_: int) -> int:
        """Return how many times the site's ledger has a round as paid."""

    def standing(self, entries: int | None = None) -> Standing | None:
        """Return where the site's ledger stands; ``None`` for a job that spends nothing."""
