"""The distribution of a sum of many independent losses on one grid, by a single FFT.

``dp_accounting`` composes one pair of distributions at a time. A schedule with another noise in
every round has as many kinds of step as rounds, and all of them together need only one FFT each
and one back.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft  # type: ignore[import-untyped]

__all__ = ["Masses", "compose"]

_TAIL = 1e-15  # the mass that may lie outside what is kept; as in dp_accounting
# By how much rounding may lower δ, for each step. An FFT's values are sums of masses, together 1,
# so they are off by a small multiple of 2⁻⁵³, and their n-th powers by n times that. δ weights the
# masses by numbers that rise from 0 to 1 with the loss, so it is off by at most the largest sum of
# their errors from some loss upwards: 4·n·2⁻⁵³ was the most, measured against an FFT in extended
# precision (tests/fedmodel/accounting/test_rounding.py). A single step's own δ was off by 2·2⁻⁵³ at
# most, and n steps' by n times that. Both together, doubled:
_ROUNDING = 12 * 2.0**-53
# Factors of the slope that is best for a normal distribution.
_SLOPES = (0.1, 0.25, 0.5, 0.7, 0.85, 1.0, 1.3, 2.0)


@dataclass(frozen=True, slots=True, eq=False)
class Masses:
    """A distribution of losses, rounded up to a grid.

    Args:
        low: number of the first grid point.
        probs: mass at each grid point from there on, float64.
        infinite: mass of an infinite loss.
    """

    low: int
    probs: NDArray[np.float64]
    infinite: float


def compose(parts: Sequence[tuple[Masses, int]]) -> Masses:
    """Return the distribution of the sum of ``count`` independent losses of each part.

    Where the result is cut off, at most 1e-15 is left out on both sides together. The FFT is
    cyclic, so that mass isn't lost: it shows up inside. Counted as infinite besides, it keeps the
    result pessimistic.

    So is what rounding may have taken (see ``_ROUNDING``), 1.3e-15 for each step.

    Args:
        parts: distributions on the same grid, and how often each is taken; at least one.
    """
    low, high = _window(parts)
    size = high - low + 1
    length = fft.next_fast_len(max(size, *(part.probs.size for part, _ in parts)), real=True)
    product: NDArray[np.complex128] | None = None
    for part, count in parts:
        transformed = fft.rfft(part.probs, length) ** count
        product = transformed if product is None else product * transformed
    first = sum(count * part.low for part, count in parts)
    probs = np.roll(fft.irfft(product, length), first - low)[:size]
    finite = sum(count * math.log1p(-part.infinite) for part, count in parts)
    steps = sum(count for _, count in parts)
    return Masses(low, probs, min(1.0, -math.expm1(finite) + _TAIL + steps * _ROUNDING))


def _window(parts: Sequence[tuple[Masses, int]]) -> tuple[int, int]:
    """Return the first and last grid point outside which there is at most 1e-15 (Chernoff)."""
    lowest = sum(count * part.low for part, count in parts)
    highest = sum(count * (part.low + part.probs.size - 1) for part, count in parts)
    variance = sum(count * _variance(part.probs) for part, count in parts)
    longest = max(part.probs.size for part, _ in parts)
    normal = math.sqrt(2 * math.log(2 / _TAIL) / max(variance, 1e-30))
    # Where one rare, large loss decides, a normal distribution's slopes are far too steep.
    slopes = [normal * factor for factor in _SLOPES] + [k / longest for k in (1, 4, 16, 64)]
    low, high = lowest, highest
    for slope in slopes:
        # Shared by all parts: an exp costs more than a product.
        falling = np.exp(-slope * np.arange(longest))
        rising = falling[::-1].copy()
        upward = sum(count * _log_moment(part, slope, rising) for part, count in parts)
        downward = sum(count * _log_moment(part, -slope, falling) for part, count in parts)
        high = math.ceil(min(high, (upward + math.log(2 / _TAIL)) / slope))
        low = math.floor(max(low, -(downward + math.log(2 / _TAIL)) / slope))
    return low, max(low, high)


def _variance(probs: NDArray[np.float64]) -> float:
    points = np.arange(probs.size, dtype=np.float64)
    points -= _dot(points, probs)
    return _dot(points * points, probs)


def _log_moment(part: Masses, slope: float, weights: NDArray[np.float64]) -> float:
    """Return log E exp(slope·loss) of the finite losses, in grid points; ``inf`` if unsure."""
    size = part.probs.size
    up = slope > 0
    moment = _dot(weights[-size:] if up else weights[:size], part.probs)
    anchor = part.low + size - 1 if up else part.low
    # Below this, terms that matter may have underflowed to 0.
    return math.log(moment) + slope * anchor if moment > 1e-280 else math.inf


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    # Not ``@``: BLAS splits so long a product among threads, which wait when cores are busy.
    return float(np.einsum("i,i", a, b))
