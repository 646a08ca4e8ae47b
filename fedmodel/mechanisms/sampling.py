"""Sampling of a step's units: each one independently, with the same probability.

The accounting holds for this sampling alone; shuffled or fixed-size batches cost more than their
Poisson ε says (arXiv 2403.17673, 2411.10614). A batch's size varies, and may be 0.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import keystream
from fedmodel.errors import PrivacyError
from fedmodel.seeds import Entropy

__all__ = ["choose", "poisson"]

_TILE = 1 << 17


def poisson(entropy: Entropy, rows: int, rate: float) -> NDArray[np.int64]:
    """Return the indices of the units in one step (Poisson sampling; arXiv 1908.10530).

    Each unit is in with probability ⌊rate·2**64⌋ / 2**64: exactly ``rate`` where that is a
    multiple of 2**-64 (any float64 from 2**-11 on), else less by under 2**-64. It is never
    more, so the accounted ε holds.

    Args:
        entropy: where the keys of the byte streams come from. Never a seed: who knows the sample
            loses the amplification that the ε rests on.
        rows: number of units, ≥ 0.
        rate: probability, in (0, 1].

    Returns:
        int64, shape ``[drawn]``, ascending; may be empty.

    Raises:
        PrivacyError: for a rate outside (0, 1] or a negative number of rows.
    """
    if not 0 < rate <= 1:
        raise PrivacyError(f"the sampling rate must be in (0, 1], got {rate}")
    if rows < 0:
        raise PrivacyError("the number of rows to sample from must be ≥ 0")
    if rate == 1:
        return np.arange(rows, dtype=np.int64)
    below = np.uint64(math.floor(math.ldexp(rate, 64)))
    drawn = [np.empty(0, dtype=np.int64)]
    for start in range(0, rows, _TILE):
        size = min(_TILE, rows - start)
        uniform = np.frombuffer(keystream(entropy, 8 * size), dtype="<u8")
        drawn.append(np.flatnonzero(uniform < below) + start)
    return np.concatenate(drawn)


def choose(entropy: Entropy, rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most ``limit`` of some rows, every subset of that size equally likely.

    Args:
        entropy: as for :func:`poisson`.
        rows: int64, any length.
        limit: ≥ 1.

    Returns:
        int64, ascending positions kept: ``rows`` itself where there are no more than ``limit``.
    """
    if len(rows) <= limit:
        return rows
    # Ties among 64-bit keys are rarer than 1e-12 here and only favour one subset a little.
    keys = np.frombuffer(keystream(entropy, 8 * len(rows)), dtype="<u8")
    return rows[np.sort(np.argsort(keys, kind="stable")[:limit])]
