"""Rounding errors of long schedules: counted, so that PLD stays an upper bound."""

import math

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType
from scipy import fft  # type: ignore[import-untyped]
from scipy.special import log_ndtr  # type: ignore[import-untyped]

from fedmodel.accounting import convolution
from fedmodel.accounting import pld as losses
from fedmodel.accounting.claims import Adjacency, claim, epsilon
from fedmodel.accounting.spends import Spend

WHOLE = 1 - 1e-12  # a rate at which nothing is gained, but every step is composed


def log_delta(noise: float, eps: float) -> float:
    """ln δ(ε) of one Gaussian (arXiv 1805.06530, Theorem 8)."""
    above, below = 0.5 / noise - eps * noise, -0.5 / noise - eps * noise
    lost = eps + log_ndtr(below) - log_ndtr(above)
    return float(log_ndtr(above) + np.log(-np.expm1(lost)))


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize(
    ("noise", "steps"), [(500.0, 10**4), (450.0, 2 * 10**5), (1000.0, 10**6), (4000.0, 10**6)]
)
@pytest.mark.parametrize("delta", [1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6])
def test_a_long_schedule_is_not_below_the_truth(noise: float, steps: int, delta: float) -> None:
    schedule = [Spend(WHOLE, noise, steps)]
    cost = epsilon(schedule, delta)
    assert cost == math.inf or log_delta(noise / math.sqrt(steps), cost) <= math.log(delta)
    assert (cost == math.inf) == (steps * 12 * 2.0**-53 + 1e-15 > delta)
    assert claim(schedule, delta).epsilon < math.inf  # RDP has no such limit


@pytest.mark.parametrize(
    ("delta", "true"), [(1e-12, 2.727), (1e-10, 1.1816)], ids=["1e-12", "1e-10"]
)
def test_the_cases_that_were_below(delta: float, true: float) -> None:
    noises = np.geomspace(100, 1e4, 4000)
    logs = [log_delta(noise / 1000, true) for noise in noises]
    noise = float(noises[int(np.argmin(np.abs(np.array(logs) - math.log(delta))))])
    assert epsilon([Spend(WHOLE, noise, 10**6)], delta) >= true


@pytest.mark.sample(3)
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
@pytest.mark.parametrize(
    ("rate", "noise", "steps"),
    [(0.001, 0.6, 10000), (0.001, 20.0, 10000), (0.01, 4.0, 10000), (0.5, 100.0, 10000)],
)
def test_ordinary_schedules_cost_what_they_did(
    rate: float, noise: float, steps: int, adjacency: Adjacency, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = (Spend(rate, noise, steps),)
    cost = losses.epsilon.__wrapped__(schedule, 1e-8, adjacency)
    monkeypatch.setattr(convolution, "_ROUNDING", 0.0)
    assert cost == pytest.approx(losses.epsilon.__wrapped__(schedule, 1e-8, adjacency), rel=1e-4)


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize("direction", [AdjacencyType.REMOVE, AdjacencyType.ADD])
@pytest.mark.parametrize(
    ("rate", "noise", "count"),
    [
        (WHOLE, 1000.0, 10**6),
        (WHOLE, 10.0, 10),
        (0.1, 500.0, 10**6),
        (0.01, 4.0, 10**4),
        (1e-4, 0.7, 10**6),
        (0.001, 0.5, 3),
    ],
)
def test_the_error_of_the_fft_is_below_half_of_what_is_counted(
    rate: float, noise: float, count: int, direction: AdjacencyType
) -> None:
    step = losses.grid([Spend(rate, noise, count)])
    part = losses.step_losses(rate, 1 / noise, step, direction)
    found = convolution.compose([(part, count)])
    length = fft.next_fast_len(max(found.probs.size, part.probs.size), real=True)
    power = fft.rfft(part.probs.astype(np.longdouble), length)
    product, left = np.ones_like(power), count
    while left:  # by squaring: what the C library makes of ** is another question
        product = product * power if left % 2 else product
        power, left = power * power, left // 2
    exact = np.roll(fft.irfft(product, length), count * part.low - found.low)[: found.probs.size]
    error = np.cumsum((found.probs - exact)[::-1])
    assert np.abs(error).max() <= count * convolution._ROUNDING / 2
