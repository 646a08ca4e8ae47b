"""A lower bound on ε: what an adversary can surely tell, from neither accountant."""

import math

from fedmodel.accounting.spends import Adjacency, Spend

__all__ = ["least"]


def least(spend: Spend, delta: float, adjacency: Adjacency = "add-remove") -> float:
    """Return an ε that no true claim about a spend can be below: its ε is at least this.

    The unit at stake adds C·B to the sum of n steps, B being Binomial(n, rate), and the noise is
    N(0, n·(σC)²); under ``replace`` the other unit takes C·B away. Whoever sees only that sum and
    guesses "the first" above t is right with P(t) and wrong with Q(t), and (ε, δ)-DP demands
    P(t) ≤ exp(ε)·Q(t) + δ for every t (Wasserman & Zhou 2010; arXiv 1311.0776, Theorem 2.1). With
    rate 1 or one step it is the exact ε.

    Args:
        spend: steps of one kind.
        delta: δ, in (0, 1).
        adjacency: of neighbouring datasets.

    Returns:
        ε in nats, ≥ 0.
    """
    import numpy as np
    from scipy.special import log_ndtr, logsumexp, ndtr  # type: ignore[import-untyped]
    from scipy.stats import binom  # type: ignore[import-untyped]

    n, std = spend.steps, spend.noise_multiplier * math.sqrt(spend.steps)
    reach = 10 * math.sqrt(n * spend.rate * (1 - spend.rate)) + 10
    mean = n * spend.rate
    count = np.arange(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    t = np.linspace(-9 * std - count[-1], count[-1] + 9 * std, 2001)[:, None]
    right = (ndtr((count - t) / std) * binom.pmf(count, n, spend.rate)).sum(axis=1)
    if adjacency == "replace":
        logs = [binom.logpmf(count, n, spend.rate) + log_ndtr(-(count + t) / std)]
        if spend.rate < 1:
            # However rare the counts left out are, they must not make a guess look better.
            below = binom.cdf(count[0] - 1, n, spend.rate)
            above = binom.sf(count[-1], n, spend.rate)
            for rest, at in ((below, 0), (above, count[-1])):
                logs.append(math.log(max(rest, 1e-300)) + log_ndtr(-(at + t) / std))
        wrong = logsumexp(np.concatenate(logs, axis=1), axis=1)
    else:
        wrong = log_ndtr(-t[:, 0] / std)
    useful = right > delta * (1 + 1e-3)
    best = np.log(right[useful] - delta) - wrong[useful]
    return max(0.0, float(best.max(initial=0.0)))
