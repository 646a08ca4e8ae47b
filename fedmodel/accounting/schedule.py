"""The noise of each round over that of the first.

Training from zero has the same in all rounds, or one that changes geometrically. A head that starts
from means (:meth:`fedmodel.job.Train.stage`) has two releases before its steps. All are Gaussian
releases about the same units, so that 1/σ² adds (arXiv 1905.02383, corollary 3.3): the shares below
are of that sum. They were chosen on other splits of the rows than those that figures are shown for,
and are the same for every ε, set and mechanism.
"""

import math

from fedmodel.job import HeadStart

__all__ = ["factor"]

_MEAN, _CLASS_SUMS = 0.06, 0.34  # the steps have the rest
_ALONE = 0.12  # the mean's share where no step follows


def factor(round_: int, *, rounds: int, decay: float = 1.0, start: HeadStart = "zero") -> float:
    """Return the noise multiplier of a round over that of the first.

    Args:
        round_: 1, 2, …
        rounds: of the run, ≥ 1.
        decay: of the last round over the first round of steps; between them it changes
            geometrically.
        start: what the steps start from.
    """
    if start == "zero":
        return _decayed(decay, rounds, round_)
    if rounds == 2:
        return (1.0, math.sqrt(_ALONE / (1 - _ALONE)))[round_ - 1]
    if round_ == 1:
        return 1.0
    if round_ == 2:
        return math.sqrt(_MEAN / _CLASS_SUMS)
    # 1/σ² of the steps together, where the first of them had the noise of the first round.
    steps = [_decayed(decay, rounds - 2, step) for step in range(1, rounds - 1)]
    together = sum(noise**-2 for noise in steps)
    first = math.sqrt(_MEAN * together / (1 - _MEAN - _CLASS_SUMS))
    return first * steps[round_ - 3]


def _decayed(decay: float, rounds: int, round_: int) -> float:
    return 1.0 if rounds == 1 else float(decay ** ((round_ - 1) / (rounds - 1)))
