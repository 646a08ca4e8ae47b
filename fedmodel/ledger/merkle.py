"""Merkle trees over a growing list, and proofs that one list begins with another.

The tree of RFC 6962, section 2.1: a leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖
right), and the left subtree of n leaves holds the largest power of two below n. The two prefixes
keep a leaf from passing for a node. Proofs are those of section 2.1.2; how one is checked is in
RFC 9162, section 2.1.4.2.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from fedmodel.errors import ProtocolError

__all__ = ["Tree", "check_consistency", "leaf_hash", "root_of"]

EMPTY = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry of the list."""
    return hashlib.sha256(b"\0" + entry).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _paired(level: Sequence[bytes]) -> list[bytes]:
    """Return the nodes above a level, without an odd one out."""
    sha256 = hashlib.sha256
    pairs = zip(level[::2], level[1::2], strict=False)
    return [sha256(b"\1" + left + right).digest() for left, right in pairs]


class Tree:
    """A list's tree: appending and the root take O(log n).

    It keeps the hash of every full subtree, 64 bytes for each entry, so that a proof doesn't
    take the whole list again.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        # [k][i]: of leaves i·2^k … (i+1)·2^k − 1; level by level takes half the time of appending
        self._levels: list[list[bytes]] = [list(leaves)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_paired(self._levels[-1]))

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash."""
        level, place = self._levels[0], 0
        level.append(leaf)
        while len(level) % 2 == 0:
            node = _node(level[-2], level[-1])
            place += 1
            if place == len(self._levels):
                self._levels.append([])
            level = self._levels[place]
            level.append(node)

    def root(self, size: int | None = None) -> bytes:
        """Return the root over all leaves, or over the first ``size``."""
        end = len(self) if size is None else size
        if not 0 <= end <= len(self):
            raise IndexError(f"expected a size from 0 to {len(self)}, got {end}")
        return self._prefix(end)

    def _prefix(self, size: int) -> bytes:
        """Return the hash over the first leaves: its whole subtrees, joined from the smallest."""
        if not size:
            return EMPTY
        sha256, levels = hashlib.sha256, self._levels
        (place, left), *others = _subtrees(size)
        root = levels[place][left]
        for place, left in others:
            root = sha256(b"\1" + levels[place][left] + root).digest()
        return root

    def leaves(self) -> Sequence[bytes]:
        """Return all leaf hashes, in order."""
        return self._levels[0]

    def proof(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the first ``new`` entries begin with the first ``old``.

        Args:
            old: from 0 (which every list begins with: nothing to prove) to ``new``.
            new: to the number of entries; all of them by default.
        """
        end = len(self) if new is None else new
        if not 0 <= old <= end <= len(self):
            raise IndexError(f"expected 0 ≤ {old} ≤ {end} ≤ {len(self)}")
        return self._path(old, 0, end, whole=True) if old else []

    def _path(self, old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        """Return SUBPROOF of RFC 6962, 2.1.2, for the leaves from ``start`` to ``end``."""
        size = end - start
        if old == size:
            return [] if whole else [self._hash(start, end)]
        split = _split(size)
        if old <= split:
            left = self._path(old, start, start + split, whole=whole)
            return [*left, self._hash(start + split, end)]
        right = self._path(old - split, start + split, end, whole=False)
        return [*right, self._hash(start, start + split)]

    def _hash(self, start: int, end: int) -> bytes:
        """Return the hash over leaves ``start`` to ``end``; ``start`` is a subtree's."""
        size = end - start
        if size == 0:
            return EMPTY
        if size & (size - 1) == 0:
            place = size.bit_length() - 1
            return self._levels[place][start >> place]
        split = _split(size)
        return _node(self._hash(start, start + split), self._hash(start + split, end))


@lru_cache(maxsize=4096)  # of many trees roots are asked for over as many leaves
def _subtrees(size: int) -> tuple[tuple[int, int], ...]:
    """Return the whole subtrees of the first leaves, from the smallest: level, and place in it.

    Args:
        size: how many leaves; there is a subtree for each bit that is set.
    """
    bits = (n for n in range(size.bit_length()) if size >> n & 1)
    return tuple((n, (size >> n) - 1) for n in bits)


def _split(size: int) -> int:
    """Return the largest power of two below ``size`` ≥ 2."""
    return 1 << (size - 1).bit_length() - 1


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, without keeping a tree."""
    if not leaves:
        return EMPTY
    level = list(leaves)
    while len(level) > 1:
        # An odd one out rises as it is: the same tree, built from below.
        level = _paired(level) + (level[-1:] if len(level) % 2 else [])
    return level[0]


def check_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that a list of ``new`` entries begins with one of ``old`` (RFC 9162, 2.1.4.2).

    Raises:
        ProtocolError: when the proof doesn't show it.
    """
    if not _consistent(old, new, old_root, new_root, proof):
        raise ProtocolError(
            f"{len(proof)} hashes don't prove that the list of {new} entries begins with the one "
            f"of {old}: entries were changed or taken out, or the proof is for other sizes"
        )


def _consistent(old: int, new: int, first: bytes, second: bytes, proof: Sequence[bytes]) -> bool:
    if not 0 <= old <= new:
        return False
    if old == 0:
        return first == EMPTY and not proof and (new > 0 or second == EMPTY)
    if old == new:
        return first == second and not proof
    path = list(proof) if old & (old - 1) else [first, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    seen_first = seen_second = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            seen_first, seen_second = _node(node, seen_first), _node(node, seen_second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            seen_second = _node(seen_second, node)
        place, last = place >> 1, last >> 1
    return seen_first == first and seen_second == second and last == 0
