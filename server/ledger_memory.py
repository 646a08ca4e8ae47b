"""Memory of the sites' ledgers at the coordinator: what each was when it last answered.

A site that brings back an old copy of its ledger is told what it had, and refuses to go on with it.
A head says how many entries a ledger has, and nothing of what is in them.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.ledger.kept_heads import heads_text, merge_heads, read_heads
from fedmodel.ledger.tree_head import Standing, TreeHead

__all__ = ["LedgerMemory", "other_memories"]

logger = logging.getLogger(__name__)


class LedgerMemory:
    """The newest verified head of each ledger.

    Args:
        files: where they are kept: read at the start, and brought up to date by :meth:`save`.
        keys: node id → the site's public key (hex), as far as it is known beforehand. Otherwise
            a node's first head says whose it is.
        copies: other files of heads, read only: of earlier runs, say, so that a state folder that
            was brought back whole, the coordinator's memory with it, is noticed. What can't be
            read there is passed over with a warning.

    Raises:
        RunFolderError: if a file can't be read.
        ProtocolError: if a head in one isn't valid.
    """

    def __init__(
        self,
        files: Sequence[Path] = (),
        keys: Mapping[int, str] | None = None,
        copies: Sequence[Path] = (),
    ) -> None:
        self._files = tuple(files)
        self._keys = dict(keys or {})
        self._of_node: dict[int, str] = {}  # node → the ledger that it has shown in this run
        self._heads: dict[str, TreeHead] = {}
        for path in self._files:
            merge_heads(self._heads, read_heads(path))
        self._saved = dict(self._heads)
        for path in copies:
            merge_heads(self._heads, self._of_these_sites(path))

    def _of_these_sites(self, path: Path) -> dict[str, TreeHead]:
        try:
            found = read_heads(path)
        except RunFolderError as error:
            logger.warning("another run's memory of ledgers was passed over: %s", error)
            return {}
        keys = set(self._keys.values())
        return {name: head for name, head in found.items() if head.key in keys}

    def bind(self, node: int, key: str) -> None:
        """Take whose ledgers a node's are, by a signature that has been verified.

        Args:
            node: whose.
            key: the site's public key (hex).

        Raises:
            ProtocolError: when the node was another site's before.
        """
        if self._keys.setdefault(node, key) != key:
            raise ProtocolError(
                "the node has signed as another site than the one whose ledger it has shown"
            )

    def offered(self, node: int) -> list[TreeHead]:
        """Return what a node is told at the join: the heads of its own ledgers."""
        key = self._keys.get(node)
        return [head for head in self._heads.values() if head.key == key]

    def entries(self, node: int) -> int:
        """Return how many entries a node's ledger had when it last answered; 0 if it never did."""
        name = self._of_node.get(node)
        return self._heads[name].size if name is not None else 0

    def head(self, node: int) -> TreeHead | None:
        """Return the newest head of the ledger that a node has shown in this run, if it has."""
        name = self._of_node.get(node)
        return None if name is None else self._heads[name]

    def note(self, node: int, standing: Standing | None) -> None:
        """Keep what a node's answer says of its ledger.

        Raises:
            ProtocolError: if the ledger hasn't grown from what it was, isn't the one that the node
                has shown before, or isn't told any more.
        """
        if standing is None:
            if node in self._of_node:
                raise ProtocolError("the answer has no head of the site's ledger")
            return
        head = standing.head
        head.verify(self._keys.get(node))
        if self._of_node.setdefault(node, head.ledger) != head.ledger:
            raise ProtocolError(
                f"a head of ledger {head.ledger:.80}, expected {self._of_node[node]:.80}"
            )
        if (known := self._heads.get(head.ledger)) is not None:
            head.check_follows(known, standing.proof)
        self._keys.setdefault(node, head.key)
        self._heads[head.ledger] = head

    def save(self) -> None:
        """Write what has changed, together with what other runs have written meanwhile.

        Raises:
            RunFolderError: if a file can't be read or written.
        """
        if self._heads == self._saved:
            return
        for path in self._files:
            try:
                if not path.parent.is_dir():
                    _files.make_folder(path.parent)
                with _files.locked(path.with_name(f".{path.name}.lock"), write=True):
                    merged = read_heads(path)
                    merge_heads(merged, self._heads)
                    _files.write_atomic(path, heads_text(merged), durable=False)
            except OSError as error:
                raise RunFolderError(f"can't write {path}: {error}") from error
        self._saved = dict(self._heads)


def other_memories(own: Path, keys: Mapping[int, str]) -> list[Path]:
    """Return the files of heads of other runs beside this one that may have one of these sites'.

    A backup of the coordinator's folder has its memory as it was then. Where runs are kept isn't in
    it: their folders know what came later.

    Args:
        own: this run's file of heads, in its folder.
        keys: node id → the site's public key (hex).
    """
    found = sorted(own.parent.parent.glob(f"*/{own.name}"))
    return [path for path in found if path != own and _names_one(path, keys)]


def _names_one(path: Path, public: Mapping[int, str]) -> bool:
    """Return whether a file of tree heads may have one of these keys': verifying takes longer."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    return any(key.encode() in text for key in public.values())
