"""The accountants against published numbers, closed forms and dp_accounting itself."""

import logging
import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr  # type: ignore[import-untyped]

from fedmodel.errors import PrivacyError
from fedmodel.privacy import Spend, accounting, calibrate, claim, epsilon

Q = 256 / 60000


def gaussian_delta(noise: float, eps: float) -> float:
    """δ(ε) of one Gaussian (Balle & Wang 2018, arXiv 1805.06530, Theorem 8)."""
    return float(ndtr(0.5 / noise - eps * noise) - math.exp(eps) * ndtr(-0.5 / noise - eps * noise))


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "by_pld", "by_rdp"),
    [
        (Q, 1.1, 14062, 1e-5, 2.382, 2.597),
        (0.01, 4, 10000, 1e-5, 0.947, 1.036),
        (1024 / 67349, 0.6, 197, 1e-5, 5.900, 7.118),
        (64 / 2000, 1, 300, 1e-4, 3.003, 3.463),
        (0.1, 2, 500, 1e-3, 3.980, 4.510),
        (1, 10, 100, 1e-5, 4.377, 4.729),
        (0.05, 0.4, 2000, 1e-5, 183.2, 439.3),
    ],
)
def test_pinned_values(
    rate: float, noise: float, steps: int, delta: float, by_pld: float, by_rdp: float
) -> None:
    schedule = [Spend(rate, noise, steps)]
    assert epsilon(schedule, delta) == pytest.approx(by_pld, rel=1e-3)
    assert epsilon(schedule, delta, "rdp") == pytest.approx(by_rdp, rel=1e-3)
    assert accounting.least(schedule[0], delta) <= by_pld * (1 + 1e-3)


def test_equals_dp_accounting_directly() -> None:
    event = dp.ComposedDpEvent(
        [
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.2, dp.GaussianDpEvent(1.5)), 20),
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(1.0)), 5),
        ]
    )
    direct = pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    expected = direct.compose(event).get_epsilon(1e-5)
    schedule = [Spend(0.2, 1.5, 20), Spend(0.1, 1.0, 5)]
    assert epsilon(schedule, 1e-5) == pytest.approx(expected, rel=2e-3)
    assert sorted(schedule, key=lambda s: s.rate) == list(accounting.spends_of(event))


@pytest.mark.parametrize(
    ("noise", "steps"), [(0.1, 1), (1.0, 1), (30.0, 77), (500.0, 20000), (20.0, 20000)]
)
def test_full_batches_match_the_closed_form(noise: float, steps: int) -> None:
    cost = epsilon([Spend(1.0, noise, steps)], 1e-5)
    assert gaussian_delta(noise / math.sqrt(steps), cost) <= 1e-5
    assert gaussian_delta(noise / math.sqrt(steps), cost * (1 - 2e-3)) > 1e-5
    assert accounting.least(Spend(1.0, noise, steps), 1e-5) == pytest.approx(cost, rel=2e-3)


def test_tiny_steps_are_not_lost_in_the_grid() -> None:
    found = claim([Spend(0.001, 100.0, 20000)], 1e-5)
    assert 0.0028 < found.epsilon < 0.0036  # the usual grid of 1e-4 says 0.0097


def test_empty_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0.0
    assert claim([], 1e-5) == accounting.Claim(0.0, 0.0, 0.0)


def test_splitting_and_order_do_not_matter() -> None:
    a, b = Spend(0.1, 1.0, 3), Spend(0.2, 2.0, 4)
    assert epsilon([a, b, a], 1e-5) == epsilon([b, Spend(0.1, 1.0, 6)], 1e-5)


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_composition_costs_at_least_each_part(accountant: accounting.Accountant) -> None:
    parts = [Spend(0.1, 1.0, 10), Spend(0.02, 0.7, 30), Spend(1.0, 20.0, 5)]
    whole = epsilon(parts, 1e-5, accountant)
    assert all(whole >= epsilon([part], 1e-5, accountant) for part in parts)
    assert whole >= epsilon(parts[:2], 1e-5, accountant)


def test_claim_takes_the_smaller_bound() -> None:
    found = claim([Spend(0.1, 1.0, 10), Spend(0.02, 0.7, 30)], 1e-5)
    assert found.epsilon == min(found.pld, found.rdp) == found.pld


def test_claim_refuses_a_bound_below_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "_rdp", lambda *_: 0.9)
    with pytest.raises(PrivacyError, match="can't be right"):
        claim([Spend(0.01, 4.0, 10000)], 1e-5)  # truth: between 0.930 and 0.947


@settings(max_examples=8, deadline=None)
@given(
    rate=st.floats(1e-4, 1.0),
    noise=st.floats(0.7, 50.0),
    steps=st.integers(1, 500),
    delta=st.sampled_from([1e-8, 1e-5, 1e-3]),
)
def test_bounds_are_above_the_attack(rate: float, noise: float, steps: int, delta: float) -> None:
    spend = Spend(rate, noise, steps)
    assert claim([spend], delta).epsilon >= accounting.least(spend, delta) * (1 - 1e-6) - 1e-9


@pytest.mark.parametrize(
    "event",
    [
        dp.LaplaceDpEvent(1.0),
        dp.NonPrivateDpEvent(),
        dp.PoissonSampledDpEvent(0.1, dp.LaplaceDpEvent(1.0)),
        dp.ComposedDpEvent([dp.GaussianDpEvent(1.0), dp.UnsupportedDpEvent()]),
        dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0)),
    ],
)
def test_unknown_events_are_errors(event: object) -> None:
    with pytest.raises(PrivacyError, match="no ε is claimed"):
        accounting.spends_of(event)


def test_known_events() -> None:
    assert accounting.spends_of(dp.NoOpDpEvent()) == ()
    nested = dp.SelfComposedDpEvent(dp.SelfComposedDpEvent(dp.GaussianDpEvent(2.0), 3), 4)
    assert accounting.spends_of(nested) == (Spend(1.0, 2.0, 12),)
    assert accounting.spends_of(Spend(0.3, 2.0, 7).event()) == (Spend(0.3, 2.0, 7),)


@pytest.mark.parametrize(
    ("rate", "noise", "steps"),
    [
        (0.0, 1.0, 1),
        (1.1, 1.0, 1),
        (math.nan, 1.0, 1),
        (0.5, 0.0, 1),
        (0.5, math.inf, 1),
        (0.5, math.nan, 1),
        (0.5, -1.0, 1),
        (0.5, 1.0, 0),
    ],
)
def test_spend_is_checked(rate: float, noise: float, steps: int) -> None:
    with pytest.raises(PrivacyError, match="got"):
        Spend(rate, noise, steps)


def test_arguments_are_checked() -> None:
    for delta in (0.0, 1.0, 1e-13, math.nan):
        with pytest.raises(PrivacyError, match="delta"):
            epsilon([Spend(0.1, 1.0, 1)], delta)
    with pytest.raises(PrivacyError, match="gdp"):
        epsilon([], 1e-5, "gdp")  # type: ignore[arg-type]


def test_left_out_orders_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        epsilon([Spend(0.05, 0.41, 2000)], 1e-5, "rdp")
    assert not caplog.records


def test_rounding_errors_prove_nothing() -> None:
    assert epsilon([Spend(1e-6, 1e6, 20000)], 1e-5, "rdp") == math.inf


@pytest.mark.parametrize("rate", [1.0, 0.5, 1e-6])
def test_hopeless_schedules_still_get_a_bound(rate: float) -> None:
    spend = Spend(rate, accounting.MIN_NOISE, 20000)
    assert 200 < epsilon([spend], 1e-5) < 1e7
    assert claim([spend], 1e-5).epsilon >= accounting.least(spend, 1e-5)


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
def test_calibrate_hits_the_target_from_below(target: float, rate: float, steps: int) -> None:
    noise = calibrate(target, 1e-5, rate, steps)
    cost = epsilon([Spend(rate, noise, steps)], 1e-5)
    assert 0.995 * target <= cost <= target
    assert epsilon([Spend(rate, noise * 0.995, steps)], 1e-5) > target


def test_calibrate_at_its_limits() -> None:
    assert calibrate(1.0, 1e-3, 1e-4, 5) == pytest.approx(accounting.MIN_NOISE)  # δ > rate·steps
    with pytest.raises(PrivacyError, match=r"privacy\.epsilon"):
        calibrate(1e-9, 1e-9, 1.0, 20000)
    for target in (0.0, math.inf, math.nan):
        with pytest.raises(PrivacyError, match="target"):
            calibrate(target, 1e-5, 0.1, 1)


def test_numpy_numbers_are_fine() -> None:
    assert type(epsilon([Spend(np.float64(0.1), np.float64(1.0), 2)], 1e-5)) is float
