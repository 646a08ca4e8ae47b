"""Masks over a vector in a sum: pairwise ones that cancel, and one that survivors take off.

The construction of Bonawitz et al. 2017 ("Practical secure aggregation for privacy-preserving
machine learning"): each site adds to its ring vector a stream that only it knows, and for each
neighbour a stream that the two share, which the one adds and the other subtracts. Here a stream
is AES-256-CTR, 4 bytes little endian per element; a ring of fewer bits drops the upper ones.

All is done in one pass over tiles, outer loop tiles, inner loop streams, so that what is summed
stays in the processor's cache; memory beyond the upload is a few tiles.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import mask_stream
from fedmodel.secagg.ring import Packer, Unpacker, centred, packed_size

__all__ = ["TILE", "Encode", "Sum", "mask"]

TILE = 1 << 15  # elements: 128 KiB and as much of stream, which fits a core's second-level cache

# Writes the ring elements from ``start`` to ``stop`` into the uint32 array given.
Encode: TypeAlias = Callable[[int, int, NDArray[np.uint32]], None]

_ZEROS = memoryview(bytes(4 * TILE))


def mask(
    encode: Encode, count: int, bits: int, *, add: Sequence[bytes], subtract: Sequence[bytes]
) -> NDArray[np.uint8]:
    """Return one site's masked and packed vector.

    Args:
        encode: called once for each tile, in order, with the first element, the one after the
            last, and a uint32 array of that size to overwrite with ring elements (uint32; bits
            from ``bits`` on don't matter).
        count: of elements.
        bits: of the ring; the upload takes ``bits / 8`` bytes per element.
        add: 32-byte seeds of the streams that are added. A seed is for one vector only.
        subtract: the same, of the streams that are subtracted.

    Returns:
        uint8, shape ``[packed_size(count, bits)]``.
    """
    upload = np.empty(packed_size(count, bits), np.uint8)
    packer = Packer(bits, upload, count)
    streams = _Streams(add, subtract)
    tile = np.empty(min(TILE, count), np.uint32)
    for start in range(0, count, TILE):
        part = tile[: min(TILE, count - start)]
        encode(start, start + part.size, part)
        streams.apply(part)
        packer.put(start, part)
    return upload


class Sum:
    """The sum of masked vectors, in 4 bytes per element, and its unmasking.

    Args:
        count: of elements.
        bits: of the ring.
    """

    __slots__ = ("_bits", "_total")

    def __init__(self, count: int, bits: int) -> None:
        packed_size(count, bits)  # refuses unknown bits
        self._bits = bits
        # Sums modulo 2**32 are right modulo any smaller power of two.
        self._total = np.zeros(count, np.uint32)

    @classmethod
    def of_masked(cls, total: NDArray[np.uint32], bits: int) -> "Sum":
        """Return a sum that goes on from what :meth:`masked` gave.

        Args:
            total: uint32 ``[count]``; it is taken, not copied.
            bits: of the ring.
        """
        made = cls(total.size, bits)
        made._total = total
        return made

    def masked(self) -> memoryview:
        """Return the sum as it is so far, 4 bytes little endian for each element."""
        return self._total.astype("<u4", copy=False).data.cast("B")

    def check_upload(self, data: NDArray[np.uint8]) -> None:
        """Check a vector's type and size.

        Raises:
            ProtocolError: when it can't be one that :func:`mask` returned.
        """
        Unpacker(self._bits, data, self._total.size)

    def add_upload(self, data: NDArray[np.uint8]) -> None:
        """Add one site's vector, as :func:`mask` returned it.

        Raises:
            ProtocolError: when it is of another size; the sum stays as it was.
        """
        count = self._total.size
        unpacker = Unpacker(self._bits, data, count)
        tile = np.empty(min(TILE, count), np.uint32)
        for start in range(0, count, TILE):
            part = tile[: min(TILE, count - start)]
            unpacker.get(start, part)
            self._total[start : start + part.size] += part

    def unmask(self, *, add: Sequence[bytes], subtract: Sequence[bytes]) -> None:
        """Add and subtract the streams of some seeds, in one pass.

        Args:
            add: 32-byte seeds of streams that were subtracted from what has been summed.
            subtract: the same, of streams that were added.
        """
        streams = _Streams(add, subtract)
        for start in range(0, self._total.size, TILE):
            streams.apply(self._total[start : start + TILE])

    def total(self) -> NDArray[np.int64]:
        """Return the sum as signed integers: int64, shape ``[count]``."""
        out = np.empty(self._total.size, np.int64)
        for start in range(0, out.size, TILE):
            part = slice(start, start + TILE)
            out[part] = centred(self._total[part], self._bits)
        return out

    def taken(self) -> NDArray[np.int32]:
        """Return the sum as signed integers, int32 ``[count]``, in its own memory: it is done with.

        An element is the representative nearest to 0, as :func:`fedmodel.secagg.ring.centred` says.
        """
        top = 32 - self._bits
        signed = self._total.view(np.int32)
        if top:
            np.left_shift(self._total, np.uint32(top), out=self._total)
            np.right_shift(signed, np.int32(top), out=signed)
        return signed


class _Streams:
    """Several mask streams that advance together."""

    __slots__ = ("_bytes", "_streams", "_words")

    def __init__(self, add: Sequence[bytes], subtract: Sequence[bytes]) -> None:
        self._streams = [
            *((mask_stream(seed).update_into, np.add) for seed in add),
            *((mask_stream(seed).update_into, np.subtract) for seed in subtract),
        ]
        self._bytes = memoryview(bytearray(4 * TILE))
        self._words = np.frombuffer(self._bytes, "<u4")

    def apply(self, tile: NDArray[np.uint32]) -> None:
        """Add to and subtract from a tile the next elements of all streams."""
        zeros = _ZEROS[: 4 * tile.size]
        out = self._bytes[: len(zeros)]
        words = self._words[: tile.size]
        for update_into, operation in self._streams:
            update_into(zeros, out)
            operation(tile, words, tile)
