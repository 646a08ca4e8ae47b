"""Which noise a target ε needs."""

import math
from collections.abc import Callable
from functools import lru_cache

from fedmodel.errors import PrivacyError
from fedmodel.privacy.accounting import MAX_NOISE, MIN_NOISE, Spend, epsilon

__all__ = ["calibrate"]

_TOLERANCE = 1e-3
_MAX_TRIES = 60


@lru_cache(maxsize=128)
def calibrate(target: float, delta: float, rate: float, steps: int) -> float:
    """Return the smallest noise multiplier (to about 0.1 %) that keeps a schedule within ε.

    The result is checked, not only solved for: ``epsilon([Spend(rate, result, steps)], delta)``
    with the default accountant is never above the target.

    Args:
        target: ε of all steps together, finite and > 0.
        delta: δ, in [1e-12, 1).
        rate: sampling rate of every step, in (0, 1].
        steps: how many, at least 1.

    Returns:
        The noise multiplier, in [0.05, 1e6]; 0.05 also where less would do.

    Raises:
        PrivacyError: for values without meaning, or when no noise up to 1e6 keeps the target.
    """
    if not 0 < target < math.inf:
        raise PrivacyError(f"the target ε must be finite and > 0, got {target}")

    def excess(log_noise: float) -> float:
        """Return the log of ε over the target: ≤ 0 keeps it; it falls as noise grows."""
        noise = min(max(math.exp(log_noise), MIN_NOISE), MAX_NOISE)
        cost = epsilon([Spend(rate, noise, steps)], delta)
        return math.log(max(cost, target * 1e-3) / target) if cost < math.inf else 5.0

    x = _solve(excess, math.log(_guess(target, delta, rate, steps)))
    if x is None:
        raise PrivacyError(
            f"no noise multiplier up to {MAX_NOISE:g} keeps ε ≤ {target} at δ = {delta} over "
            f"{steps} steps at sampling rate {rate:.3g}; raise privacy.epsilon or privacy.delta, "
            "or lower train.rounds, train.steps or train.batch_size"
        )
    return min(max(math.exp(x), MIN_NOISE), MAX_NOISE)


def _solve(excess: Callable[[float], float], x: float) -> float | None:
    """Return an x with −tolerance ≤ excess(x) ≤ 0, or the right end of a closed bracket."""
    low, high = math.log(MIN_NOISE), math.log(MAX_NOISE)
    bottom: tuple[float, float] | None = None  # nearest point known to cost too much
    top: tuple[float, float] | None = None  # nearest point known to keep the target
    for _ in range(_MAX_TRIES):
        value = excess(x)
        if value <= 0:
            top = (x, value)
            if value >= -_TOLERANCE or x <= low:
                return x
        else:
            bottom = (x, value)
            if x >= high:
                return None
        if top and bottom and top[0] - bottom[0] < _TOLERANCE / 4:
            return top[0]
        x = min(max(_next(x, value, bottom, top), low), high)
    return top[0] if top else None


def _next(
    x: float,
    value: float,
    bottom: tuple[float, float] | None,
    top: tuple[float, float] | None,
) -> float:
    """Return the next x to try: by the chord of the bracket, or outwards where one end is open."""
    if bottom is None or top is None:
        # ln ε falls with a slope between about −1 and −4 in ln σ; overshoot a little to bracket.
        return x + min(max(value / 1.5, -0.7), 0.7) + math.copysign(0.01, value)
    width = top[0] - bottom[0]
    chord = bottom[0] + width * (bottom[1] + _TOLERANCE / 2) / (bottom[1] - top[1])
    # Staying off the ends keeps a curved function from closing the bracket on one side only.
    return min(max(chord, bottom[0] + 0.02 * width), top[0] - 0.02 * width)


def _guess(target: float, delta: float, rate: float, steps: int) -> float:
    """Return where to start: the central limit (arXiv 1911.11607), which is never a claim."""
    tail = math.sqrt(2 * math.log(1 / delta))
    mu = math.sqrt(tail**2 + 2 * target) - tail
    return 1 / math.sqrt(math.log1p((mu / rate) ** 2 / max(steps, 1)))
