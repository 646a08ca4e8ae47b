"""ε of schedules against published numbers, closed forms and dp_accounting itself."""

import logging
import math

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr  # type: ignore[import-untyped]

from fedmodel.accounting import claims as accounting
from fedmodel.accounting import pld as losses
from fedmodel.accounting import renyi
from fedmodel.accounting.claims import Adjacency, claim, epsilon
from fedmodel.accounting.spends import Spend
from fedmodel.errors import PrivacyError

Q = 256 / 60000
BOTH: tuple[Adjacency, ...] = ("add-remove", "replace")
RELATION = {
    "add-remove": dp.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace": dp.NeighboringRelation.REPLACE_ONE,
}


def gaussian_delta(noise: float, eps: float) -> float:
    """δ(ε) of one Gaussian (Balle & Wang 2018, arXiv 1805.06530, Theorem 8)."""
    return float(ndtr(0.5 / noise - eps * noise) - math.exp(eps) * ndtr(-0.5 / noise - eps * noise))


# dp.md, section 3.1
@pytest.mark.long
@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "by_pld", "by_rdp"),
    [
        (Q, 1.1, 14062, 1e-5, 2.382, 2.597),
        (Q, 0.7, 10546, 1e-5, 5.639, 6.320),
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


def classic_epsilon(schedule: list[Spend], delta: float) -> float:
    """The conversion that older publications use (arXiv 1702.07476, Proposition 3)."""
    orders = [1 + x / 10 for x in range(1, 100)] + list(range(11, 64)) + [128, 256, 512]
    accountant = rdp.RdpAccountant(orders)
    for spend in schedule:
        accountant.compose(spend.event())
    pairs = zip(orders, accountant.rdp, strict=True)
    return float(min(r - math.log(delta) / (order - 1) for order, r in pairs))


# dp.md, section 3.2. ``published``: as its source prints it; None where it isn't known for sure.
@pytest.mark.long
@pytest.mark.parametrize(
    ("rate", "noise", "epochs", "published", "classic", "improved", "by_pld"),
    [
        (Q, 1.1, 60, 3.01, 3.008, 2.60, 2.38),  # TF Privacy's tutorial
        (Q, 1.3, 15, 1.19, 1.192, 0.95, 0.86),
        (Q, 0.7, 45, 7.10, 7.100, 6.32, 5.64),
        (240 / 60000, 1.1, 60, 2.91, 2.905, None, None),  # Opacus's MNIST example
        (240 / 60000, 1.3, 15, 1.16, 1.160, None, None),
        (240 / 60000, 0.7, 45, 6.86, 6.859, None, None),
        (Q, 1.3, 20, 1.34, 1.350, None, None),  # arXiv 1911.11607
        (Q, 0.7, 70, 8.68, 8.676, None, None),
        (0.01, 4, 100, None, 1.259, 1.036, 0.947),  # arXiv 1607.00133
    ],
)
def test_published_values_by_both_conversions(
    rate: float,
    noise: float,
    epochs: int,
    published: float | None,
    classic: float,
    improved: float | None,
    by_pld: float | None,
) -> None:
    schedule = [Spend(rate, noise, int(epochs / rate))]
    old = classic_epsilon(schedule, 1e-5)
    assert old == pytest.approx(classic, rel=1e-3)
    assert published is None or old == pytest.approx(published, rel=1e-2)
    ours = epsilon(schedule, 1e-5, "rdp")
    assert ours < old
    assert improved is None or ours == pytest.approx(improved, abs=6e-3)
    assert by_pld is None or epsilon(schedule, 1e-5) == pytest.approx(by_pld, abs=6e-3)


# dp.md, section 3.4, and that of the second accountant
@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "by_pld", "by_rdp"),
    [
        (64 / 2000, 1, 300, 1e-4, 4.66, 8.31),
        (Q, 1.1, 14062, 1e-5, 4.22, 5.76),
        (0.1, 2, 500, 1e-3, 8.70, 11.06),
    ],
)
def test_pinned_values_for_replace(
    rate: float, noise: float, steps: int, delta: float, by_pld: float, by_rdp: float
) -> None:
    found = claim([Spend(rate, noise, steps)], delta, "replace")
    assert (found.pld, found.rdp) == pytest.approx((by_pld, by_rdp), rel=2e-3)
    assert found.epsilon == found.pld


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("adjacency", BOTH)
def test_equals_dp_accounting_directly(adjacency: Adjacency) -> None:
    event = dp.ComposedDpEvent(
        [
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.2, dp.GaussianDpEvent(1.5)), 20),
            dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(1.0)), 5),
            dp.GaussianDpEvent(9.0),
        ]
    )
    schedule = accounting.spends_of(event)
    assert schedule == (Spend(0.1, 1.0, 5), Spend(0.2, 1.5, 20), Spend(1.0, 9.0, 1))
    same_grid = pld.PLDAccountant(RELATION[adjacency], losses.grid(schedule, adjacency))
    expected = same_grid.compose(event).get_epsilon(1e-5)
    assert epsilon(schedule, 1e-5, "pld", adjacency) == pytest.approx(expected, rel=1e-6)
    fine = pld.PLDAccountant(RELATION[adjacency], 1e-4).compose(event).get_epsilon(1e-5)
    assert epsilon(schedule, 1e-5, "pld", adjacency) == pytest.approx(fine, rel=2e-3)


@pytest.mark.parametrize(("adjacency", "distance"), [("add-remove", 1), ("replace", 2)])
@pytest.mark.parametrize(
    ("noise", "steps"), [(0.1, 1), (1.0, 1), (30.0, 77), (500.0, 20000), (20.0, 20000)]
)
def test_full_batches_match_the_closed_form(
    adjacency: Adjacency, distance: int, noise: float, steps: int
) -> None:
    """Exchanging a unit is a Gaussian of sensitivity 2C, with the noise over C."""
    cost = epsilon([Spend(1.0, noise, steps)], 1e-5, "pld", adjacency)
    effective = noise / math.sqrt(steps) / distance
    assert gaussian_delta(effective, cost) <= 1e-5
    assert gaussian_delta(effective, cost * (1 - 2e-3)) > 1e-5
    least = accounting.least(Spend(1.0, noise, steps), 1e-5, adjacency)
    assert least == pytest.approx(cost, rel=2e-3)
    # The second accountant knows nothing of the first, and isn't below it.
    assert epsilon([Spend(1.0, noise, steps)], 1e-5, "rdp", adjacency) >= cost * (1 - 2e-3)


def test_tiny_steps_are_not_lost_in_the_grid() -> None:
    found = claim([Spend(0.001, 100.0, 20000)], 1e-5)
    assert 0.0028 < found.epsilon < 0.0036  # the usual grid of 1e-4 says 0.0097


@pytest.mark.parametrize("adjacency", BOTH)
def test_empty_costs_nothing(adjacency: Adjacency) -> None:
    assert epsilon([], 1e-5, "pld", adjacency) == 0.0
    assert claim([], 1e-5, adjacency) == accounting.Claim(0.0, 0.0, 0.0)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("adjacency", BOTH)
def test_jobs_and_restarts_compose(accountant: accounting.Accountant, adjacency: Adjacency) -> None:
    """What a site does in many pieces costs to the last bit what it costs in one."""
    job = [Spend(0.1, 1.5 * 0.9**round_, 5) for round_ in range(6)]
    other = [Spend(0.02, 0.8, 40), Spend(1.0, 10.0, 1)]
    pieces = [*other[1:], *job[3:], Spend(0.02, 0.8, 15)]
    pieces += [Spend(s.rate, s.noise_multiplier, part) for s in job[:3] for part in (2, 3)]
    pieces += [Spend(0.02, 0.8, 25)]
    whole = epsilon([*job, *other], 1e-5, accountant, adjacency)
    assert epsilon(pieces, 1e-5, accountant, adjacency) == whole
    assert epsilon([*pieces, Spend(0.1, 1.5, 5)], 1e-5, accountant, adjacency) > whole


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("adjacency", BOTH)
def test_composition_costs_at_least_each_part(
    accountant: accounting.Accountant, adjacency: Adjacency
) -> None:
    parts = [Spend(0.1, 1.0, 10), Spend(0.02, 0.7, 30), Spend(1.0, 20.0, 5)]
    whole = epsilon(parts, 1e-5, accountant, adjacency)
    assert all(whole >= epsilon([part], 1e-5, accountant, adjacency) for part in parts)
    assert whole >= epsilon(parts[:2], 1e-5, accountant, adjacency)


def test_claim_takes_the_smaller_bound() -> None:
    found = claim([Spend(0.1, 1.0, 10), Spend(0.02, 0.7, 30)], 1e-5)
    assert found.epsilon == min(found.pld, found.rdp) == found.pld


@pytest.mark.parametrize("adjacency", BOTH)
@pytest.mark.parametrize("broken", [losses, renyi])
def test_claim_refuses_a_bound_below_the_truth(
    broken: object, adjacency: Adjacency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broken, "epsilon", lambda *_: 0.9)
    with pytest.raises(PrivacyError, match="can't be right"):
        claim([Spend(0.01, 4.0, 10000)], 1e-5, adjacency)  # truth: between 0.930 and 0.947


@pytest.mark.slow
@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(
    rate=st.floats(1e-4, 1.0),
    noise=st.floats(0.7, 50.0),
    steps=st.integers(1, 500),
    delta=st.sampled_from([1e-8, 1e-5, 1e-3]),
)
def test_bounds_are_above_the_attack(rate: float, noise: float, steps: int, delta: float) -> None:
    spend = Spend(rate, noise, steps)
    removed, exchanged = (claim([spend], delta, adjacency) for adjacency in BOTH)
    assert removed.epsilon >= accounting.least(spend, delta) * (1 - 1e-6) - 1e-9
    least = accounting.least(spend, delta, "replace")
    assert exchanged.epsilon >= least * (1 - 1e-6) - 1e-9
    # A unit that contributes nothing is as good as none, so exchanging covers removing.
    assert exchanged.pld >= removed.pld * (1 - 2e-3) - 1e-9


def test_sampling_once_is_exact() -> None:
    """One step has one number: the best test finds what the accountant says."""
    for adjacency in BOTH:
        spend = Spend(0.3, 0.8, 1)
        cost = epsilon([spend], 1e-6, "pld", adjacency)
        assert accounting.least(spend, 1e-6, adjacency) == pytest.approx(cost, rel=2e-3)


@pytest.mark.parametrize(
    "event",
    [
        dp.LaplaceDpEvent(1.0),
        dp.NonPrivateDpEvent(),
        dp.PoissonSampledDpEvent(0.1, dp.LaplaceDpEvent(1.0)),
        dp.ComposedDpEvent([dp.GaussianDpEvent(1.0), dp.UnsupportedDpEvent()]),
        dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0)),
        dp.SampledWithReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0)),
        dp.SelfComposedDpEvent(
            dp.SampledWithoutReplacementDpEvent(100, 10, dp.GaussianDpEvent(1.0)), 3
        ),
    ],
)
def test_other_sampling_and_unknown_events_are_errors(event: object) -> None:
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
    with pytest.raises(PrivacyError, match="gdp"):  # it underestimates: dp.md, section 3.1
        epsilon([], 1e-5, "gdp")  # type: ignore[arg-type]
    with pytest.raises(PrivacyError, match="replace-one"):
        epsilon([], 1e-5, "pld", "replace-one")  # type: ignore[arg-type]


def test_left_out_orders_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        epsilon([Spend(0.05, 0.41, 2000)], 1e-5, "rdp")
    assert not caplog.records


@pytest.mark.parametrize("adjacency", BOTH)
def test_rounding_errors_prove_nothing(adjacency: Adjacency) -> None:
    assert epsilon([Spend(1e-6, 1e6, 20000)], 1e-5, "rdp", adjacency) == math.inf


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("adjacency", BOTH)
@pytest.mark.parametrize("rate", [1.0, 0.5, 1e-6])
def test_hopeless_schedules_still_get_a_bound(rate: float, adjacency: Adjacency) -> None:
    spend = Spend(rate, accounting.MIN_NOISE, 20000)
    assert 200 < epsilon([spend], 1e-5, "pld", adjacency) < 4e7
    assert claim([spend], 1e-5, adjacency).epsilon >= accounting.least(spend, 1e-5, adjacency)


def test_numpy_numbers_are_fine() -> None:
    assert type(epsilon([Spend(np.float64(0.1), np.float64(1.0), 2)], 1e-5)) is float
