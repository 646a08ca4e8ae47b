"""The primary accountant: privacy loss distributions (PLD), those of ``dp_accounting``.

One step is the sum of clipped contributions of norm at most C, each in with probability q, plus
N(0, (σC)²I). Which two distributions on the line are as far apart as any two neighbours' outputs
can be (a dominating pair; arXiv 2106.08567) depends on the adjacency, with C = 1:

* ``add-remove``: (1−q)·N(0, σ²) + q·N(1, σ²) and N(0, σ²), in both orders.
* ``replace``: (1−q)·N(0, σ²) + q·N(−1, σ²) and (1−q)·N(0, σ²) + q·N(1, σ²). Without sampling that
  is a Gaussian of sensitivity 2: here, as in ``dp_accounting``'s PLD, σ is over C and not over 2C.

Why the second pair dominates: let the unit that is exchanged contribute u or v, ‖u‖, ‖v‖ ≤ 1. By
joint convexity the other units may be held fixed. With L_w the density of N(w, σ²I) over that of
N(0, σ²I), the hockey-stick divergence is E[((1−q)(1−γ) + q·L_u − γq·L_v)₊] under N(0, σ²I), a
convex function of q·L_u − γq·L_v. By Price's theorem its derivative in the covariance ⟨u, v⟩/σ² of
the logarithms is ≤ 0, and those in the variances ‖u‖²/σ² and ‖v‖²/σ² are ≥ 0. So it is largest
where both norms are 1 and v = −u. (For groups of units, compare arXiv 2403.04867.)

The losses and what ε they are worth are ``dp_accounting``'s, and so is the way they are rounded to
a grid, pessimistically ("connect the dots", arXiv 2207.04380). Ours are the choice of the grid,
all points of one step at once instead of one by one (the same formulas), the composition of all
kinds of step in one FFT (:mod:`fedmodel.accounting.convolution`), and the caches: a round more
costs one new kind of step.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from dp_accounting.pld.pld_pmf import DensePLDPmf
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray

from fedmodel.accounting.convolution import Masses, compose
from fedmodel.accounting.spends import Adjacency, Spend

__all__ = ["epsilon", "grid", "step_losses"]

_FINEST, _COARSEST = 10, 6  # the usual grids are 10**(−k/2) for these k: 1e-5 to 1e-3
_SINGLE_POINTS, _TOTAL_POINTS = 5e4, 8e6


@lru_cache(maxsize=512)
def epsilon(schedule: tuple[Spend, ...], delta: float, adjacency: Adjacency) -> float:
    """Return ε of a merged schedule (see :func:`fedmodel.accounting.claims.epsilon`)."""
    if not schedule:
        return 0.0
    step = grid(schedule, adjacency)
    found = 0.0
    for direction in _directions(schedule, adjacency):
        total = compose(
            [(step_losses(rate, i, step, direction), n) for n, rate, i in _kinds(schedule)]
        )
        pmf = DensePLDPmf(step, total.low, total.probs, total.infinite, pessimistic_estimate=True)
        found = max(found, float(pmf.get_epsilon_for_delta(delta)))
    return found


def _directions(schedule: Sequence[Spend], adjacency: Adjacency) -> tuple[AdjacencyType, ...]:
    """Return which orders of the two distributions must be looked at."""
    if adjacency == "replace":
        return (AdjacencyType.REPLACE,)
    if all(spend.rate == 1 for spend in schedule):  # both orders are alike
        return (AdjacencyType.REMOVE,)
    return AdjacencyType.REMOVE, AdjacencyType.ADD


def grid(schedule: Sequence[Spend], adjacency: Adjacency = "add-remove") -> float:
    """Return the distance of the grid points that privacy losses are rounded to.

    Any grid gives a valid bound; a fine one costs time, a coarse one tightness. Rounding a loss to
    its two neighbours on a grid of step h adds a variance of about h·min(s, h), s being the
    loss's standard deviation in one step, which is at most Δ/σ and about q·Δ·√(exp(1/σ²) − 1)
    (arXiv 1911.11607, section 3), Δ being 1 or, for ``replace``, 2. The coarsest grid is taken
    that keeps the sum below 1 % of the variance of the whole (in effect ε is 0.1-0.2 % high):
    1e-3 for most jobs, where it is ten times faster than the usual 1e-4, down to 1e-5 for tiny
    steps, where 1e-4 would be 100 % high. Only powers of √10 occur, so that what is remembered
    for a grid serves again.
    """
    reach = 1.0 if adjacency == "add-remove" else 2.0
    kinds = _kinds(schedule)
    losses = [(n, reach * _loss_std(rate, i)) for n, rate, i in kinds]
    variance = sum(n * std**2 for n, std in losses)
    fine = (
        h
        for h in (10 ** (-k / 2) for k in range(_COARSEST, _FINEST + 1))
        if sum(n * h * min(h, std) for n, std in losses) <= variance / 100
    )
    step = next(fine, 10 ** (-_FINEST / 2))
    # Points cost time one by one in a single step and memory in the sum: coarser is still valid.
    single = max(_largest_loss(rate, i, adjacency) for _, rate, i in kinds)
    mean = sum(n * rate * (reach * i) ** 2 / 2 for n, rate, i in kinds)
    span = mean + 20 * math.sqrt(variance) + single
    needed = max(step, single / _SINGLE_POINTS, span / _TOTAL_POINTS)
    return step if needed == step else float(10 ** (math.ceil(2 * math.log10(needed)) / 2))


def _kinds(schedule: Sequence[Spend]) -> list[tuple[int, float, float]]:
    """Return steps, rate and 1/σ of each kind of step, as they are composed.

    Without sampling, any Gaussian steps are together one of 1/σ² = Σ 1/σ²: nothing to convolve.
    """
    kinds = [(s.steps, s.rate, 1 / s.noise_multiplier) for s in schedule if s.rate < 1]
    whole = sum(s.steps / s.noise_multiplier**2 for s in schedule if s.rate == 1)
    return [*kinds, (1, 1.0, math.sqrt(whole))] if whole else kinds


def _loss_std(rate: float, inverse: float) -> float:
    sampled = rate * math.sqrt(math.expm1(min(inverse**2, 500)))
    return min(inverse, sampled)


def _largest_loss(rate: float, inverse: float, adjacency: Adjacency) -> float:
    """Return about the largest loss of one step, ten σ out."""
    loss = _log_odds(rate, inverse**2 / 2 + 10 * inverse)
    if adjacency == "replace":
        other = 1.5 * inverse**2 + 10 * inverse
        loss += other if rate == 1 else min(other, -math.log1p(-rate))
    return loss


def _log_odds(rate: float, loss: float) -> float:
    """Return the privacy loss of a sampled step where the unsampled one's is ``loss`` ≥ 0."""
    if loss > 500:  # exp would overflow
        return loss + math.log(rate)
    return math.log1p(rate * math.expm1(loss))


@lru_cache(maxsize=512)
def step_losses(rate: float, inverse: float, step: float, direction: AdjacencyType) -> Masses:
    """Return the losses of one step, rounded to a grid by Algorithm 1 of arXiv 2207.04380.

    They are the same as in ``dp_accounting``'s ``from_gaussian_mechanism``.

    Args:
        rate: q, in (0, 1].
        inverse: 1/σ.
        step: distance of the grid points.
        direction: which of the two distributions the output is from.
    """
    loss = GaussianPrivacyLoss(1 / inverse, sampling_prob=rate, adjacency_type=direction)
    bounds = loss.connect_dots_bounds()
    low, high = math.floor(bounds.epsilon_lower / step), math.ceil(bounds.epsilon_upper / step)
    deltas = np.minimum.accumulate(_deltas(loss, np.arange(low, high + 1) * step))
    fall = np.diff(deltas)
    shrink, rest = math.exp(-step), -math.expm1(-step)
    first = 1 - deltas[0] + fall[0] * shrink / rest
    inner = (fall[1:] * shrink - fall[:-1]) / rest
    last = -fall[-1] / rest
    probs = np.maximum(0.0, np.concatenate([[first], inner, [last]]))
    probs.flags.writeable = False
    return Masses(low, probs, float(deltas[-1]))


def _deltas(loss: GaussianPrivacyLoss, losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hockey-stick divergence at each of many ε, which may be negative.

    The loss falls with x, so it is above ε exactly left of some x(ε), and δ(ε) is what the upper
    distribution has there more than e^ε times the lower one.
    """
    x = _inverse(loss, losses)
    upper = loss.mu_upper_cdf(x)
    lower = np.exp(losses + loss.mu_lower_log_cdf(x))
    return np.asarray(np.clip(upper - lower, 0, 1), dtype=np.float64)


def _inverse(loss: GaussianPrivacyLoss, losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the loss takes each value; −∞ or ∞ where it is always below or above it."""
    rate, variance = float(loss.sampling_prob), float(loss.standard_deviation) ** 2
    if loss.adjacency_type == AdjacencyType.REMOVE:
        return -0.5 - variance * _unsampled(losses, rate)
    if loss.adjacency_type == AdjacencyType.ADD:
        return 0.5 + variance * _unsampled(-losses, rate)
    if rate == 1:
        return -losses * variance / 2
    # asinh(α·sinh(ε/2)), in logarithms: α = exp(1/2σ²)·(1−q)/q may be too large for a float.
    half = np.abs(losses) / 2
    with np.errstate(divide="ignore"):  # ε = 0 is at x = 0
        log_sinh = half + np.log(-np.expm1(-2 * half)) - math.log(2)
    log = 0.5 / variance + math.log1p(-rate) - math.log(rate) + log_sinh
    asinh = np.logaddexp(0.5 * np.logaddexp(0, 2 * log), log)
    return np.asarray(-np.sign(losses) * variance * (asinh + half))


def _unsampled(losses: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return log((e^ε − 1 + q)/q): the loss without sampling where that with it is ε."""
    if rate == 1:
        return losses
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        small = np.log1p(np.maximum(np.expm1(losses) / rate, -1.0))
        large = losses - math.log(rate) + np.log1p((rate - 1) * np.exp(-losses))
    return np.where(losses > 1, large, small)
