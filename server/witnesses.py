"""Witnesses of the coordinator's own ledger: what each site is shown of it, and has seen."""

from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.wire import MOST_PROOFS, Shown

__all__ = ["Witnesses"]


class Witnesses:
    """What a coordinator shows of its ledger to the nodes of a run.

    With each order goes the signed head, and the proof that the ledger has grown from whatever the
    site may have seen last: what it said when it joined, or any head that was sent since, until it
    has answered one.

    Args:
        ledger: ``None``: there is none, and nothing is shown.
    """

    def __init__(self, ledger: CoordinatorLedger | None) -> None:
        self._ledger = ledger
        self._may_know: dict[int, list[int]] = {}  # node → sizes of heads, rising
        self._head: TreeHead | None = None  # as the ledger is
        self._proofs: dict[int, tuple[str, ...]] = {}  # size → from there to that head

    def changed(self) -> None:
        """Take note that the ledger has grown."""
        self._head, self._proofs = None, {}

    def joined(self, node: int, entries: int) -> None:
        """Take note of what a site says that it has been shown.

        Args:
            node: that has joined.
            entries: of the last head that it has seen; 0: it has seen none.
        """
        self._may_know[node] = [entries] if entries else []

    def answered(self, node: int) -> None:
        """Take note that a site has got what it was sent last: it has answered it."""
        self._may_know[node] = self._may_know.get(node, [])[-1:]

    def show(self, node: int) -> Shown | None:
        """Return what goes with an order to a node.

        Raises:
            LedgerError: when the ledger can't be read, or isn't valid.
        """
        if self._ledger is None:
            return None
        if self._head is None:
            self._head = self._ledger.head()
        head, sizes = self._head, self._may_know.setdefault(node, [])
        proofs = {size: self._proof(self._ledger, size) for size in sizes if size < head.size}
        if not sizes or sizes[-1] != head.size:
            # Of a site that answers nothing for so long the middle ones are let go of.
            del sizes[1 : max(1, len(sizes) + 2 - MOST_PROOFS)]
            sizes.append(head.size)
        return Shown(head=head, proofs=proofs)

    def _proof(self, ledger: CoordinatorLedger, size: int) -> tuple[str, ...]:
        if size not in self._proofs:
            self._proofs[size] = tuple(ledger.prove(size))
        return self._proofs[size]
