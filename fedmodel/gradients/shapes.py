"""Shapes of forward passes, chosen so that no row's numbers depend on which other rows there are.

A matrix product rounds by its shape, and a row that is padded further is another product. Whoever
chooses the parameters can make such a last bit decide a whole gradient: then one row more changes
every other row's contribution, and clipping bounds nothing. So a row's pass is as wide as its own
length says, and as long as was shown, on this machine, to give every row the bits it has alone.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shapes", "ladder", "power_above", "tokens_of", "widths"]

# The fewer widths, the more tokens of a row are padding; the more, the fewer rows of a draw share a
# pass, and what fills the passes up costs as much.
_FINEST = 16  # tokens from one width to the next, below 128
_PARTS = 8  # widths between a power of two and the next
_TOKENS = {"cpu": 1 << 9, "cuda": 1 << 14}  # of one pass; more is hardly faster
_SMALL = 384  # numbers of a token; with fewer it is the calls that cost, so passes are longer
_MOST = 1 << 12
_IDLE = 64  # tokens that fill a pass up rather than make two of it


def widths(lengths: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Return how far each row is padded: a public function of its own length alone.

    Steps of 16 tokens up to 128, of 32 up to 256, and so on: above 64 a row is padded by a quarter
    of its own length at most.

    Args:
        lengths: tokens of each row, int64 ``[rows]``.
        longest: the job's longest row, in tokens; no width is above it.

    >>> widths(np.array([1, 16, 17, 65, 100, 127, 300]), 256).tolist()
    [16, 16, 32, 80, 112, 128, 256]
    """
    above = 2.0 ** np.ceil(np.log2(np.maximum(lengths, 1)))
    step = np.maximum(_FINEST, above // _PARTS)
    padded = np.ceil(np.maximum(lengths, 1) / step) * step
    return np.asarray(np.minimum(padded, longest), dtype=np.int64)


def power_above(count: int) -> int:
    """Return the least power of two that isn't below ``count``.

    >>> [power_above(n) for n in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    return 1 << max(count - 1, 0).bit_length()


def tokens_of(device: str, hidden: int | None) -> int:
    """Return how many tokens a pass may have: a public number, by machine and network.

    Args:
        device: ``cpu`` or ``cuda``.
        hidden: numbers that the network has of a token, where that is known.

    >>> [tokens_of("cpu", hidden) for hidden in (64, 128, 384, 768, None)]
    [4096, 2048, 512, 512, 512]
    """
    most = _TOKENS.get(device, _TOKENS["cpu"])
    while hidden is not None and hidden < _SMALL and most < _MOST:
        most, hidden = 2 * most, 2 * hidden
    return most


def ladder(width: int, size: int, tokens: int = 1 << 9) -> tuple[int, ...]:
    """Return the numbers of rows that a pass of a width may have: 1, 2, 4, … .

    Args:
        width: tokens of each row.
        size: rows in one pass at most (``train.physical_batch``).
        tokens: in one pass at most (:func:`tokens_of`).

    >>> ladder(32, 100)
    (1, 2, 4, 8, 16)
    """
    most = max(1, min(size, tokens // max(width, 1)))
    return tuple(1 << i for i in range(most.bit_length()))


class Shapes:
    """Cuts what is to be computed into passes of proven shapes.

    Args:
        proven: by width, the least and the largest number of rows of a pass: all powers of two
            between them give a row the same bits, wherever it stands and whoever is beside it.
            Where fewer rows are left, rows of weight 0 fill the pass up. A width of which nothing
            is proven is computed one unit at a time, which is always right.
        size: rows in one pass at most.
        tokens: in one pass at most.
    """

    def __init__(
        self, proven: Mapping[int, tuple[int, int]], size: int, tokens: int = 1 << 9
    ) -> None:
        self._proven, self._size, self._tokens = proven, size, tokens

    def cut(self, width: int, units: int, rows: int = 1) -> list[tuple[int, int]]:
        """Return how many units each pass takes, and how many rows it is filled up to.

        Args:
            width: tokens of each row.
            units: how many there are, of one width and number of rows.
            rows: of each unit; they are never parted.
        """
        least, most = self._proven.get(width, (1, 1))
        most = min(most, ladder(width, self._size, self._tokens)[-1])
        if rows > most or least > most:
            return [(1, max(least, power_above(rows)))] * units
        each = most // rows
        found = [(each, power_above(each * rows))] * (units // each)
        rest = units % each
        while rest:
            # In parts that fill their passes, unless little is missing.
            missing = power_above(rest) - rest
            parted = rows == 1 and rest >= least and missing * width > _IDLE
            count = 1 << (rest.bit_length() - 1) if parted else rest
            found.append((count, max(least, power_above(count * rows))))
            rest -= count
        return found
