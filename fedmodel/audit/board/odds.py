"""Odds: what (ε, δ) means to somebody who doesn't know what ε is.

Whoever sees an (ε, δ)-DP output and knows all rows but one tells "it was there" from "it wasn't"
no better than a coin with these odds. Between two answers that were equally likely before, the
share of right ones is at most (e^ε + δ)/(1 + e^ε): the two error rates of a test obey
α + e^ε·β ≥ 1 - δ and the same with α and β exchanged (Kairouz, Oh and Viswanath, arXiv
1311.0776, section 2.1), so
that their sum is at least 2·(1 - δ)/(1 + e^ε).
"""

import math
from statistics import NormalDist

__all__ = ["gaussian_mu", "right_guesses"]

_STEPS = 200  # of bisection: far more than a float has


def right_guesses(epsilon: float, delta: float) -> float:
    """Return the largest share of right guesses between two answers that were equally likely.

    Args:
        epsilon: ε, at least 0.
        delta: δ, in [0, 1).
    """
    # With e^-ε, which is 0 where e^ε would be beyond a float.
    small = math.exp(-epsilon)
    return min(1.0, (1 + delta * small) / (1 + small))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the μ of the Gaussian mechanism that is (ε, δ)-DP and no better.

    It solves δ = Φ(μ/2 - ε/μ) - e^ε·Φ(-μ/2 - ε/μ) (Balle and Wang, arXiv 1805.06530, theorem 5; the
    same curve is corollary 2.13 of arXiv 1905.02383). It only says which Gaussian is as strong at
    this one δ: the run itself needn't be μ-GDP.

    Args:
        epsilon: ε, at least 0.
        delta: δ, in (0, 1).
    """
    low, high = 0.0, 1.0
    while _delta(high, epsilon) < delta:
        high *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(middle, epsilon) < delta else (low, middle)
    return high


def _delta(mu: float, epsilon: float) -> float:
    cdf = NormalDist().cdf
    second = cdf(-mu / 2 - epsilon / mu) if mu > 0 else 0.0
    if second == 0.0:
        return cdf(mu / 2 - epsilon / mu) if mu > 0 else 0.0
    return cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + math.log(second))
