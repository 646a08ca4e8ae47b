"""Integers modulo a power of two, and how they travel: packed to as few bits as they need.

A vector of ring elements is packed in planes, so that a tile of it is a contiguous part of each
plane and no bit is spent on padding between elements:

========  ==================================================  ==================
bits      planes, one after the other                         bytes per element
========  ==================================================  ==================
16        low 16 bits                                         2
20        low 16 bits, then nibbles                           2.5
24        low 16 bits, then the next 8                        3
28        low 16 bits, then the next 8, then nibbles          3.5
32        all 32 bits                                         4
========  ==================================================  ==================

Numbers of 16 and of 32 bits are little endian. A byte of a nibble plane holds the top four bits
of two elements, the earlier one in its low half; after an odd count the last high half is 0.
"""

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.job import BITS

__all__ = ["BITS", "Packer", "Unpacker", "centred", "packed_size"]

_WHOLE = 32


def packed_size(count: int, bits: int) -> int:
    """Return how many bytes ``count`` ring elements of ``bits`` take, packed.

    >>> packed_size(1000, 24), packed_size(3, 20)
    (3000, 8)

    Raises:
        ConfigError: for a number of bits other than :data:`BITS`.
    """
    _check_bits(bits)
    return count * (bits // 8) + (count + 1) // 2 * (bits % 8 != 0)


def centred(values: NDArray[np.uint32], bits: int) -> NDArray[np.int64]:
    """Return the representatives of ring elements that are nearest to 0.

    >>> centred(np.array([1, 2**16 - 1, 2**15], np.uint32), 16)
    array([     1,     -1, -32768])

    Args:
        values: uint32, any shape; bits from ``bits`` on are ignored.
        bits: of the ring.

    Returns:
        int64, the same shape: in [-2**(bits-1), 2**(bits-1)).
    """
    _check_bits(bits)
    top = _WHOLE - bits
    shifted = values << np.uint32(top) if top else values
    signed = shifted.view(np.int32)
    return (signed >> np.int32(top) if top else signed).astype(np.int64)


class _Planes:
    """The parts of a packed vector; its buffer is shared, not copied."""

    __slots__ = ("_byte", "_count", "_nibble", "_word")

    def __init__(self, bits: int, data: NDArray[np.uint8], count: int) -> None:
        size = packed_size(count, bits)
        if data.dtype != np.uint8 or data.shape != (size,):
            raise ProtocolError(
                f"a packed vector of {count} numbers of {bits} bits must be {size} bytes, "
                f"got {data.dtype} of shape {data.shape}"
            )
        wide = bits == _WHOLE
        at = count * (4 if wide else 2)
        self._count = count
        self._word = data[:at].view("<u4" if wide else "<u2")
        self._byte = data[at : at + count] if bits in (24, 28) else None
        at += count if self._byte is not None else 0
        self._nibble = data[at:] if bits % 8 else None

    def _stop(self, start: int, size: int) -> int:
        stop = start + size
        if start < 0 or stop > self._count:
            raise ProtocolError(
                f"elements {start} to {stop} of a packed vector that has {self._count}"
            )
        if self._nibble is not None and (start % 2 or (size % 2 and stop != self._count)):
            raise ProtocolError(
                f"two elements share a byte: a tile from {start} to {stop} must start and end at "
                "an even element"
            )
        return stop


class Packer(_Planes):
    """Writes ring elements into a packed vector, tile by tile in any order.

    Args:
        bits: of an element.
        data: uint8, shape ``[packed_size(count, bits)]``: what is written to.
        count: of elements in all.

    Raises:
        ProtocolError: when ``data`` has another size.
    """

    __slots__ = ()

    def put(self, start: int, tile: NDArray[np.uint32]) -> None:
        """Write elements from ``start`` on.

        Args:
            start: of the tile; even.
            tile: uint32, contiguous, shape ``[any]``; bits from ``bits`` on are dropped. Its size
                is even but for the vector's last tile.
        """
        stop = self._stop(start, tile.size)
        np.copyto(self._word[start:stop], tile, casting="unsafe")
        if self._byte is None and self._nibble is None:
            return
        rest = tile >> np.uint32(16)
        if self._byte is not None:
            np.copyto(self._byte[start:stop], rest, casting="unsafe")
        if self._nibble is not None:
            half = (rest >> np.uint32(8 * (self._byte is not None))).astype(np.uint8)
            out = self._nibble[start // 2 : (stop + 1) // 2]
            np.bitwise_and(half[::2], 0xF, out=out)
            out[: half.size // 2] |= half[1::2] << np.uint8(4)


class Unpacker(_Planes):
    """Reads ring elements from a packed vector, tile by tile in any order.

    Args:
        bits: of an element.
        data: uint8, shape ``[packed_size(count, bits)]``.
        count: of elements in all.

    Raises:
        ProtocolError: when ``data`` has another size.
    """

    __slots__ = ()

    def get(self, start: int, out: NDArray[np.uint32]) -> None:
        """Overwrite ``out`` with the elements from ``start`` on.

        Args:
            start: of the tile; even.
            out: uint32, contiguous, shape ``[any]``; gets numbers below 2**bits. Its size is even
                but for the vector's last tile.
        """
        stop = self._stop(start, out.size)
        shift = 16
        np.copyto(out, self._word[start:stop])
        if self._byte is not None:
            out |= self._byte[start:stop].astype(np.uint32) << np.uint32(shift)
            shift = 24
        if self._nibble is not None:
            pairs = self._nibble[start // 2 : (stop + 1) // 2].astype(np.uint32)
            out[::2] |= (pairs & np.uint32(0xF)) << np.uint32(shift)
            out[1::2] |= (pairs[: out.size // 2] >> np.uint32(4)) << np.uint32(shift)


def _check_bits(bits: int) -> None:
    if bits not in BITS:
        raise ConfigError(f"secagg.bits must be one of {', '.join(map(str, BITS))}, got {bits}")
