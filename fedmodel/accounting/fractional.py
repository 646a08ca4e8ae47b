"""RDP of a Poisson-sampled Gaussian step at orders that aren't integers, all of them at once.

It is the sum of arXiv 1908.10530, section 3.3, as ``dp_accounting`` adds it up, by the same rule
for where to stop. That goes order by order and term by term in Python: half a minute where each of
a thousand rounds has a noise of its own.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr  # type: ignore[import-untyped]

__all__ = ["log_moments"]

_BLOCK = 50  # terms at once
_MOST = 1000  # terms; an order that hasn't converged by then proves nothing
_SMALL = 30  # a term so far below the sum, in logarithms, is left out, with those after it

_Array = NDArray[np.float64]


def log_moments(rate: float, noise_multiplier: float, orders: tuple[float, ...]) -> _Array:
    """Return log A(α), which is (α − 1) times the RDP; ``inf`` where its terms don't converge.

    Args:
        rate: q, in (0, 1).
        noise_multiplier: σ.
        orders: α, none of them an integer.
    """
    found = np.full(len(orders), math.inf)
    open_ = np.ones(len(orders), dtype=bool)
    total = np.full(len(orders), -math.inf)
    before = np.full((2, len(orders)), -math.inf)
    for start in range(0, _MOST, _BLOCK):
        terms = _terms(rate, noise_multiplier, orders, start)
        sums = np.logaddexp.accumulate(np.vstack([total, np.logaddexp(*terms)]))[1:]
        falling = np.diff(terms, axis=1, prepend=before[:, None]) < 0
        done = falling.all(axis=0) & (terms.max(axis=0) < sums - _SMALL)
        ends = open_ & done.any(axis=0)
        found[ends] = sums[done.argmax(axis=0), np.arange(len(orders))][ends]
        open_ &= ~ends
        if not open_.any():
            break
        total, before = sums[-1], terms[:, -1]
    return found


def _terms(rate: float, noise: float, orders: tuple[float, ...], start: int) -> _Array:
    """Return the logarithms of a block's terms: of both halves, by number and order."""
    i, j, binomials = _block(orders, start)
    log_q, log_rest, variance = math.log(rate), math.log1p(-rate), noise**2
    middle = variance * math.log(1 / rate - 1) + 0.5
    left = i * log_q + j * log_rest + (i * i - i) / (2 * variance) + log_ndtr((middle - i) / noise)
    right = j * log_q + i * log_rest + (j * j - j) / (2 * variance) + log_ndtr((j - middle) / noise)
    return np.stack([binomials + left, binomials + right])


@lru_cache(maxsize=64)
def _block(orders: tuple[float, ...], start: int) -> tuple[_Array, _Array, _Array]:
    """Return i, α − i, and the logarithm of the size of α over i."""
    i = np.arange(start, start + _BLOCK, dtype=np.float64)[:, None]
    j = np.array(orders) - i
    binomials = gammaln(np.array(orders) + 1) - gammaln(i + 1) - gammaln(j + 1)
    return i, j, np.asarray(binomials, dtype=np.float64)
