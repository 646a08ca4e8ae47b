"""Check elements: a few numbers more in every masked vector, by which a wrong sum is known.

A mask that isn't the one that two sites have agreed on, or that is taken off by a wrong seed, adds
a pseudorandom vector to the sum: the model would be ruined, and nobody would see by what. So each
vector ends in

* *ones*, as many as have 128 bits together: in the sum they come to the number of survivors. A
  wrong stream leaves a random number in each, so it passes with probability 2**-128, and nobody
  can look for a seed that passes. One element alone would let a site that drops out try some
  2**bits seeds and leave one that passes.
* a *weighted sum* of its elements, modulo 2**bits, with public odd weights that follow from the
  attempt. It is linear, so the sites' add up to that of the sum. What is wrong in some elements
  only (a stream that goes astray after a while, a bit that flips in somebody's memory) isn't seen
  in the ones: here an error in one element always shows, for an odd number times it isn't 0, and
  errors at random in several but for about 2**-bits. Not seen is 2**(bits - 1) in an even number
  of elements, whatever the weights: each odd number times it is itself.

Both are functions of the sum that the coordinator learns anyhow, and tell it nothing else. A site
that lies about its own numbers isn't found out by them: it can make them fit.
"""

import hashlib
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import mask_stream
from fedmodel.errors import ProtocolError
from fedmodel.secagg.fields import label
from fedmodel.secagg.masking import TILE, Encode
from fedmodel.secagg.ring import packed_size

__all__ = ["Checked", "check_total", "checks", "upload_sha256", "upload_size"]

_BITS = 128  # of all ones together
_Whole = TypeVar("_Whole", np.int32, np.int64)


def checks(bits: int) -> int:
    """Return how many elements are added to a vector of ring elements of ``bits``.

    >>> checks(16), checks(24), checks(32)
    (9, 7, 5)
    """
    return -(-_BITS // bits) + 1


def upload_size(count: int, bits: int) -> int:
    """Return the bytes of a masked vector of ``count`` elements, with those that check it."""
    return packed_size(count + checks(bits), bits)


def upload_sha256(packed: NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of a masked vector as it travels: its site signs it."""
    return hashlib.sha256(np.ascontiguousarray(packed).data).hexdigest()


class Checked:
    """Writes a vector's ring elements with those that check it after them.

    Args:
        values: writes the vector, tile by tile and in order.
        count: of its elements.
        bits: of the ring.
        attempt: digest of the manifest.
    """

    def __init__(self, values: Encode, count: int, bits: int, attempt: bytes) -> None:
        self._values = values
        self._vector = count
        self._ones = checks(bits) - 1
        self._attempt = attempt
        self._weights = _Weights(attempt)
        self.count = count + self._ones + 1

    def __call__(self, start: int, stop: int, out: NDArray[np.uint32]) -> None:
        """Overwrite ``out`` with the elements from ``start`` to ``stop``; called in order."""
        if start == 0:
            self._weights = _Weights(self._attempt)
        inner = max(0, min(stop, self._vector) - start)
        if inner:
            self._values(start, start + inner, out[:inner])
            self._weights.weigh(out[:inner])
        if stop > self._vector:
            tail = np.ones(self._ones + 1, np.uint32)
            tail[-1] = self._weights.sum
            out[inner:] = tail[start + inner - self._vector : stop - self._vector]


def check_total(
    total: NDArray[_Whole], survivors: int, bits: int, attempt: bytes
) -> NDArray[_Whole]:
    """Return an unmasked sum without the elements that check it, if they fit.

    Args:
        total: ``[count + checks(bits)]``, any representatives.
        survivors: whose vectors are in it.
        bits: of the ring.
        attempt: digest of the manifest.

    Raises:
        ProtocolError: when they don't: the sum isn't that of the survivors' vectors.
    """
    ring = np.int64((1 << bits) - 1)
    vector = total[: total.size - checks(bits)]
    ones, weighted = total[vector.size : -1], int(total[-1])
    if ((ones - survivors) & ring).any():
        raise ProtocolError(
            f"the sum isn't that of the {survivors} survivors' vectors: its check elements don't "
            "come to their number. A site has masked by another seed than the one it had agreed "
            "on, or one that dropped out had left wrong seeds. The sum is refused"
        )
    weights = _Weights(attempt)
    for start in range(0, vector.size, TILE):
        weights.weigh(vector[start : start + TILE].astype(np.uint32))
    if (weights.sum - weighted) & int(ring):
        raise ProtocolError(
            f"the sum isn't that of the {survivors} survivors' vectors: it is wrong in some "
            "elements, by their weighted sum. Somebody's masks went astray, or a machine made an "
            "error. The sum is refused"
        )
    return vector


class _Weights:
    """The public weights of an attempt, and the weighted sum of what has been weighed by them.

    An element's weight is that of its place in its tile, times that of the tile: so the sum costs
    a small part of a mask.
    """

    __slots__ = ("_at", "_of_place", "_of_tile", "_stream", "sum")

    def __init__(self, attempt: bytes) -> None:
        self._stream = mask_stream(hashlib.sha256(label("checks", attempt)).digest())
        self._of_place = self._next(TILE)
        self._at = 0  # elements that were weighed
        self._of_tile = 0
        self.sum = 0

    def _next(self, count: int) -> NDArray[np.uint32]:
        return np.frombuffer(self._stream.update(bytes(4 * count)), "<u4") | np.uint32(1)

    def weigh(self, part: NDArray[np.uint32]) -> None:
        """Add the next elements times their weights, modulo 2**32."""
        start = 0
        while start < part.size:
            place = self._at % TILE
            if place == 0:
                self._of_tile = int(self._next(1)[0])
            size = min(TILE - place, part.size - start)
            weights = self._of_place[place : place + size]
            # In one pass and modulo 2**32, which np.dot of integers does at half the speed.
            tile = int(np.einsum("i,i->", weights, part[start : start + size]))
            self.sum = (self.sum + self._of_tile * tile) % (1 << 32)
            self._at += size
            start += size
