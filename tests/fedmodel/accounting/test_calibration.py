"""Calibration: the smallest noise, for one kind of step and for whole schedules."""

import math

import pytest

from fedmodel.accounting.calibration import Scaled, calibrate, calibrate_schedule
from fedmodel.accounting.claims import MIN_NOISE, Adjacency, epsilon
from fedmodel.accounting.spends import Spend
from fedmodel.errors import PrivacyError


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("target", "rate", "steps"),
    [
        (0.1, 0.01, 20000),
        (0.1, 1.0, 1),
        (1.0, 0.032, 300),
        (8.0, 0.2, 50),
        (3.0, 0.9, 20000),
        (8.0, 0.005, 1),
        (100.0, 0.2, 300),
        (100.0, 1.0, 20000),
    ],
)
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_hits_the_target_from_below(
    target: float, rate: float, steps: int, adjacency: Adjacency
) -> None:
    noise = calibrate(target, 1e-5, rate, steps, adjacency)
    cost = epsilon([Spend(rate, noise, steps)], 1e-5, "pld", adjacency)
    assert 0.995 * target <= cost <= target
    assert epsilon([Spend(rate, noise * 0.995, steps)], 1e-5, "pld", adjacency) > target


# dp.md, section 3.6: patients sampled as such need the noise of records at the same rate.
@pytest.mark.long
@pytest.mark.parametrize(("target", "noise"), [(8.0, 0.66), (3.0, 1.00)])
def test_pinned_noise(target: float, noise: float) -> None:
    assert calibrate(target, 1e-4, 0.032, 300) == pytest.approx(noise, abs=6e-3)


def test_a_delta_below_rounding_errors_is_named() -> None:
    with pytest.raises(
        PrivacyError, match=r"rounding errors over 100000 steps; raise privacy\.del"
    ):
        calibrate(1.0, 1e-11, 0.01, 10**5)


@pytest.mark.long
def test_limits() -> None:
    assert calibrate(1.0, 1e-3, 1e-4, 5) == pytest.approx(MIN_NOISE)  # δ > rate·steps
    with pytest.raises(PrivacyError, match=r"privacy\.epsilon"):
        calibrate(1e-9, 1e-9, 1.0, 20000)
    for target in (0.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="target"):
            calibrate(target, 1e-5, 0.1, 1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
@pytest.mark.parametrize("decay", [0.5, 2.0])
@pytest.mark.parametrize("fixed", [(), (Spend(1.0, 10.0, 1),)])
def test_a_schedule_hits_the_target_from_below(
    adjacency: Adjacency, decay: float, fixed: tuple[Spend, ...]
) -> None:
    schedule = tuple(Scaled(0.05, decay ** (i / 9), 10) for i in range(10))
    noise = calibrate_schedule(3.0, 1e-5, schedule, fixed, adjacency)
    for factor, low, high in ((1.0, 2.985, 3.0), (0.99, 3.0, 3.2)):
        spends = [*(part.at(noise * factor) for part in schedule), *fixed]
        assert low <= epsilon(spends, 1e-5, "pld", adjacency) <= high


def test_what_is_fixed_costs_noise() -> None:
    parts = (Scaled(0.1, 1.0, 50),)
    alone = calibrate_schedule(2.0, 1e-5, parts)
    assert alone == calibrate(2.0, 1e-5, 0.1, 50)
    assert calibrate_schedule(2.0, 1e-5, parts, (Spend(1.0, 5.0, 1),)) > alone


def test_too_much_is_fixed() -> None:
    parts = (Scaled(0.1, 1.0, 50),)
    with pytest.raises(PrivacyError, match=r"privacy\.evaluation=suppressed"):
        calibrate_schedule(0.3, 1e-5, parts, (Spend(1.0, 2.0, 1),))
    limited = (Scaled(1.0, 1.0, 1), Scaled(1.0, 1e-6, 5))  # the second's noise is 1 at most
    with pytest.raises(PrivacyError, match="besides ε"):
        calibrate_schedule(2.0, 1e-5, limited, (Spend(1.0, 5.0, 1),))


@pytest.mark.long
def test_no_factor_leaves_the_range_of_noise() -> None:
    parts = (Scaled(1e-4, 1.0, 1), Scaled(1e-4, 0.01, 1))
    noise = calibrate_schedule(1.0, 1e-2, parts)
    assert parts[1].at(noise).noise_multiplier == pytest.approx(MIN_NOISE)
    with pytest.raises(PrivacyError, match="no noise multiplier"):
        calibrate_schedule(1.0, 1e-5, (Scaled(0.1, 1.0, 1), Scaled(0.1, 1e-9, 1)))
