"""Sums of shares are the central Gaussian: computed exactly here, by none of the package's code.

All in steps of the grid. What is checked for a noise of a few steps, where the distance could be
seen, is claimed for 64 and more.
"""

import functools
import itertools
import math
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import pld
from numpy.typing import NDArray
from scipy import integrate, interpolate, optimize, stats  # type: ignore[import-untyped]

from fedmodel.accounting.claims import claim
from fedmodel.accounting.planning import make_plan
from fedmodel.job import Privacy
from fedmodel.mechanisms.shares import Shares, distance

Floats = NDArray[np.float64]
REACH = 200
POINTS = np.arange(-REACH, REACH + 1)
EXACT = 1e-13  # to which floats can be trusted in these sums
SHIFTS = (0.0, 0.3, -1.27, 2.5, 0.499)  # one for each site


def cells(mean: Any, std: float) -> Floats:
    """Return the probabilities that a normal is nearest to each point."""
    z = (POINTS - np.asarray(mean)[..., None]) / std
    half = 0.5 / std
    # From the side where the tail is small, or the difference would be lost.
    left = stats.norm.cdf(z + half) - stats.norm.cdf(z - half)
    right = stats.norm.sf(z - half) - stats.norm.sf(z + half)
    return np.asarray(np.where(z < 0, left, right))


def sum_of_rounded(means: tuple[float, ...], std: float) -> Floats:
    """Return the exact probabilities of Σ round(x_j + N(0, s²)) at the points."""
    return functools.reduce(
        lambda a, b: np.convolve(a, b)[REACH : 3 * REACH + 1], [cells(x, std) for x in means]
    )


def rounded_sum(means: tuple[float, ...], std: float) -> Floats:
    """Return those of round(Σx_j + N(0, h·s²) + U_2 + … + U_h), by integrating over ΣU."""
    total, sites = sum(means), len(means)
    spread = std * math.sqrt(sites)
    if sites == 1:
        return cells(total, spread)
    knots = np.arange(sites) - (sites - 1) / 2
    density = interpolate.BSpline.basis_element(knots, extrapolate=False)  # of h − 1 uniforms
    nodes, weights = np.polynomial.legendre.leggauss(40)
    found = np.zeros(len(POINTS))
    for low, high in itertools.pairwise(knots):
        u = low + (high - low) * (nodes + 1) / 2
        w = weights * (high - low) / 2 * density(u)
        found += w @ cells(total + u, spread)
    return found


def total_variation(p: Floats, q: Floats) -> float:
    return float(np.abs(p - q).sum() / 2)


def hockey_stick(p: Floats, q: Floats, epsilon: float) -> float:
    return float(np.maximum(p - math.exp(epsilon) * q, 0).sum())


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Return δ(ε) of a Gaussian mechanism (Balle & Wang 2018, arXiv 1805.06530, Theorem 8)."""
    a, b = 1 / (2 * noise), epsilon * noise
    return float(stats.norm.cdf(a - b) - math.exp(epsilon) * stats.norm.cdf(-a - b))


# -- the theorem ---------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [1.5, 2.0, 3.0])
@pytest.mark.parametrize("sites", [1, 2, 3, 4, 5])
def test_a_sum_of_rounded_shares_is_the_central_gaussian_rounded(std: float, sites: int) -> None:
    means = SHIFTS[:sites]
    p, q = sum_of_rounded(means, std), rounded_sum(means, std)
    assert p.sum() == pytest.approx(1, abs=EXACT)
    assert q.sum() == pytest.approx(1, abs=EXACT)
    assert total_variation(p, q) <= distance(std, sites) + EXACT
    assert distance(std, sites) < {1.5: 0.02, 2.0: 1e-5, 3.0: 1e-15}[std]


def test_where_the_noise_is_too_fine_the_distance_is_seen() -> None:
    """The comparison can fail: it sees exp(−π²s²), what really happens, where that is large."""
    for std in (0.4, 0.5, 0.7, 1.0):
        means = (0.25, 0.25)
        seen = total_variation(sum_of_rounded(means, std), rounded_sum(means, std))
        assert 0.01 < seen / math.exp(-((math.pi * std) ** 2)) < 2
    wrong = total_variation(sum_of_rounded((0.3, 0.1), 2.0), rounded_sum((0.3, 0.2), 2.0))
    assert wrong > 1e-2
    # Nor is it the central Gaussian rounded without the coins of its own.
    assert total_variation(sum_of_rounded((0.3, 0.1), 2.0), cells(0.4, 2 * math.sqrt(2))) > 1e-3


def test_the_bound_is_what_is_claimed_of_it() -> None:
    """Its logarithm for the least and most noise that occur: floats can't say it."""
    for std in (64, 128):
        for sites in (1, 10**6):
            alias = math.log10(2.01) - (math.pi * std) ** 2 / 2 / math.log(10)
            points = math.log10(2 * math.pi * std**2 * math.sqrt(sites) + sites + 1)
            # (1 + a)^h − 1 < 2ha for so small an a.
            assert points + math.log10(2 * sites + 1) + alias + 1 < -8000
    assert distance(64, 10**6) == 0.0
    assert [distance(s, 3) for s in (1.5, 2.0)] == sorted([distance(s, 3) for s in (1.5, 2.0)])[
        ::-1
    ]


def test_aliases_are_bounded_as_claimed() -> None:
    """a bounds what aliasing adds, at every angle."""
    theta = np.linspace(-math.pi, math.pi, 2001)
    for std in (1.0, 1.5, 2.0):
        added = sum(
            np.exp(-((std * (theta + 2 * math.pi * m)) ** 2) / 2)
            * np.abs(np.sinc(theta / (2 * math.pi) + m))
            for m in (-3, -2, -1, 1, 2, 3)
        )
        assert np.max(added) <= 2.01 * math.exp(-((math.pi * std) ** 2) / 2)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("std", [2.0, 3.0])
@pytest.mark.parametrize("sites", [1, 2, 4])
@pytest.mark.parametrize("clip", [0.37, 1.0, 2.5, 4.8])
def test_neighbours_are_as_close_as_under_the_gaussian(std: float, sites: int, clip: float) -> None:
    """One unit more at one site, over two coordinates: no worse than the central mechanism."""
    noise = std * math.sqrt(sites) / clip
    rng = np.random.default_rng(int(1000 * clip) + sites)
    for _ in range(12):
        at, angle = rng.uniform(-4, 4, size=(2, sites)), rng.uniform(0, 2 * math.pi)
        moved = at.copy()
        moved[:, 0] += clip * np.array([math.cos(angle), math.sin(angle)])
        p, q = (
            np.outer(*(sum_of_rounded(tuple(coordinate), std) for coordinate in x)).ravel()
            for x in (at, moved)
        )
        for epsilon in (0.0, 0.1, 0.5, 1.0, 2.0):
            slack = 2 * (1 + math.exp(epsilon)) * distance(std, sites) + EXACT
            most = gaussian_delta(epsilon, noise)
            assert hockey_stick(p, q, epsilon) <= most + slack
            assert hockey_stick(q, p, epsilon) <= most + slack


def test_inputs_that_are_rounded_before_the_noise_are_not() -> None:
    """The same check finds fault with the textbook way: its sensitivity is more than C."""
    std, clip = 2.0, 0.6
    p, q = cells(np.rint(0.45), std), cells(np.rint(0.45 + clip), std)
    noise = std / clip
    assert hockey_stick(p, q, 0.1) > gaussian_delta(0.1, noise) + 0.05
    kept = hockey_stick(cells(0.45, std), cells(0.45 + clip, std), 0.1)
    assert kept <= gaussian_delta(0.1, noise)


# -- ε -------------------------------------------------------------------------------------------


def real_noise(std: float, honest: int) -> float:
    """Return the standard deviation of a sum of h shares, rounding and all."""
    shares = Shares(std=std, honest=honest, parties=honest + 2, bits=24)
    return math.sqrt(honest * shares.share_std**2 + honest * shares.grid**2 / 12)


@pytest.mark.slow
@pytest.mark.long
# The shares know nothing of the rate, nor the calibration of the shares: each once.
@pytest.mark.parametrize(("honest", "rate"), [(1, 0.2), (3, 0.02), (8, 0.2), (40, 0.02)])
def test_epsilon_of_distributed_steps(honest: int, rate: float) -> None:
    """Never below the continuous Gaussian's of equal variance, and within 2 % of it."""
    privacy = Privacy(mechanism="distributed", rate=rate)
    plan = make_plan(
        privacy,
        batch_size=64,
        rounds=50,
        steps=1,
        evaluate=False,
        honest=honest,
        survivors=honest + 1,
    )
    claimed = claim(plan.spends(), plan.delta).epsilon
    accountant = pld.PLDAccountant(value_discretization_interval=1e-4)
    gaussian = dp.GaussianDpEvent(real_noise(plan.noise_std(1), honest) / plan.clip)
    accountant.compose(dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(rate, gaussian), 50))
    continuous = accountant.get_epsilon(plan.delta)
    assert continuous <= claimed <= 1.02 * continuous
    assert 0.98 * privacy.epsilon < claimed <= privacy.epsilon


@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_epsilon_of_sites(adjacency: Any) -> None:
    """Without sampling all rounds are one Gaussian, whose ε is known in closed form."""
    privacy = Privacy(
        mechanism="site", unit="site", adjacency=adjacency, evaluation="suppressed", clip=0.7
    )
    plan = make_plan(
        privacy, batch_size=64, rounds=20, steps=9, evaluate=True, honest=7, survivors=9
    )
    apart = 1.0 if adjacency == "add-remove" else 2.0
    noise = real_noise(plan.noise_std(1), 7) / (plan.clip * apart * math.sqrt(20))
    exact = optimize.brentq(lambda e: gaussian_delta(e, noise) - plan.delta, 0.1, 30)
    claimed = claim(plan.spends(), plan.delta, adjacency).epsilon
    assert exact <= claimed <= 1.02 * exact


def test_the_integral_is_of_a_density() -> None:
    density = interpolate.BSpline.basis_element(np.arange(4) - 1.5, extrapolate=False)
    whole, _ = integrate.quad(lambda u: float(density(u)), -1.5, 1.5 - 1e-12)
    variance, _ = integrate.quad(lambda u: u * u * float(density(u)), -1.5, 1.5 - 1e-12)
    assert (whole, variance) == (pytest.approx(1), pytest.approx(3 / 12))
