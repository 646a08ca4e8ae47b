"""The noise that a target ε needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from fedmodel.accounting.claims import MAX_NOISE, MIN_NOISE, Adjacency, Spend, epsilon
from fedmodel.errors import PrivacyError

__all__ = ["Scaled", "calibrate", "calibrate_schedule"]

_TOLERANCE = 1e-3
_MAX_TRIES = 60


@dataclass(frozen=True, slots=True)
class Scaled:
    """A spend whose noise is still to be found.

    Args:
        rate: sampling rate, in (0, 1].
        factor: its noise multiplier over the one that is looked for, > 0.
        steps: how many, at least 1.
    """

    rate: float
    factor: float
    steps: int

    def at(self, noise: float) -> Spend:
        """Return the spend for a noise multiplier."""
        return Spend(self.rate, noise * self.factor, self.steps)


def calibrate(
    target: float, delta: float, rate: float, steps: int, adjacency: Adjacency = "add-remove"
) -> float:
    """Return the smallest noise multiplier (to about 0.1 %) that keeps equal steps within ε.

    See :func:`calibrate_schedule`; 0.05 is returned also where less would do.
    """
    return calibrate_schedule(target, delta, (Scaled(rate, 1.0, steps),), (), adjacency)


@lru_cache(maxsize=128)
def calibrate_schedule(
    target: float,
    delta: float,
    schedule: tuple[Scaled, ...],
    fixed: tuple[Spend, ...] = (),
    adjacency: Adjacency = "add-remove",
) -> float:
    """Return the smallest noise multiplier (to about 0.1 %) that keeps a whole schedule within ε.

    The result is checked, not only solved for: ε of ``schedule`` at it and ``fixed`` together, by
    the default accountant, is never above the target.

    Args:
        target: ε of everything together, finite and > 0.
        delta: δ, in [1e-12, 1).
        schedule: what the noise is for, at least one.
        fixed: what is spent besides, whatever the noise.
        adjacency: of neighbouring datasets.

    Returns:
        The noise multiplier. At it no factor's own is outside [0.05, 1e6]; the smallest such is
        returned also where less would do.

    Raises:
        PrivacyError: for values without meaning, when ``fixed`` alone exceeds the target, or when
            no noise keeps it.
    """
    if not 0 < target < math.inf:
        raise PrivacyError(f"the target ε must be finite and > 0, got {target}")
    alone = epsilon(fixed, delta, adjacency=adjacency)
    if alone > target:
        raise PrivacyError(
            f"what has its own noise, such as the evaluation, costs ε = {alone:.4g} by itself, "
            f"more than the {target:g} of the whole run; raise privacy.evaluation_noise or "
            "privacy.epsilon, or set privacy.evaluation=suppressed"
        )
    # Rounding of a product mustn't put the smallest or the largest noise out of range.
    low = max(MIN_NOISE / part.factor for part in schedule) * (1 + 1e-12)
    high = min(MAX_NOISE / part.factor for part in schedule) * (1 - 1e-12)

    def excess(log_noise: float) -> float:
        """Return the log of ε over the target: ≤ 0 keeps it; it falls as noise grows."""
        noise = min(max(math.exp(log_noise), low), high)
        cost = epsilon([*(part.at(noise) for part in schedule), *fixed], delta, "pld", adjacency)
        return math.log(max(cost, target * 1e-3) / target) if cost < math.inf else 5.0

    x = None
    if low < high:
        start = _guess(target, delta, schedule, fixed, adjacency)
        x = _solve(excess, start, math.log(low), math.log(high))
    if x is None:
        steps = sum(part.steps for part in schedule)
        besides = f", besides ε = {alone:.4g} for what has its own noise" if fixed else ""
        largest = [*(part.at(high) for part in schedule), *fixed] if low < high else []
        if epsilon(largest, delta, adjacency=adjacency) == math.inf:
            raise PrivacyError(
                f"δ = {delta} is too small to be told from rounding errors over {steps} steps; "
                "raise privacy.delta, or lower train.rounds or train.steps"
            )
        raise PrivacyError(
            f"no noise multiplier up to {MAX_NOISE:g} keeps ε ≤ {target} at δ = {delta} over "
            f"{steps} steps at sampling rate {schedule[0].rate:.3g}{besides}; raise "
            "privacy.epsilon or privacy.delta, or lower train.rounds, train.steps or "
            "train.batch_size"
        )
    return min(max(math.exp(x), low), high)


def _solve(excess: Callable[[float], float], x: float, low: float, high: float) -> float | None:
    """Return an x with −tolerance ≤ excess(x) ≤ 0, or the right end of a closed bracket."""
    x = min(max(x, low), high)
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


def _guess(
    target: float,
    delta: float,
    schedule: tuple[Scaled, ...],
    fixed: tuple[Spend, ...],
    adjacency: Adjacency,
) -> float:
    """Return the log of where to start: the central limit (arXiv 1911.11607), never a claim."""
    tail = math.sqrt(2 * math.log(1 / delta))
    mu = math.sqrt(tail**2 + 2 * target) - tail
    if adjacency == "replace":
        mu /= 2
    wanted = mu**2 - sum(_limit(s.rate, s.noise_multiplier, s.steps) for s in fixed)
    low, high = math.log(MIN_NOISE), math.log(MAX_NOISE)
    while high - low > 0.01:
        middle = (low + high) / 2
        found = sum(_limit(p.rate, math.exp(middle) * p.factor, p.steps) for p in schedule)
        low, high = (middle, high) if found > wanted else (low, middle)
    return high


def _limit(rate: float, noise: float, steps: int) -> float:
    return steps * rate**2 * math.expm1(min(noise**-2, 500))
