"""The plan: public, complete, and worth the ε it says."""

import dataclasses
import math
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting import pld

from fedmodel.accounting import renyi
from fedmodel.accounting.claims import epsilon, spends_of
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import DeltaError, check_delta, make_plan
from fedmodel.accounting.spends import Spend, merge
from fedmodel.errors import ConfigError, FedmodelError, PrivacyError
from fedmodel.job import Privacy

PRIVACY = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-4, clip=0.5, rate=0.032)


def made(evaluate: bool = False, rounds: int = 30, **change: Any) -> Plan:
    wanted = dataclasses.replace(PRIVACY, **change)
    return make_plan(wanted, batch_size=64, rounds=rounds, steps=300 // rounds, evaluate=evaluate)


def test_plan_yields_its_own_event(plan: Plan) -> None:
    assert plan.total_steps == 40
    assert plan.spend(3) == Spend(0.1, 1.25, 5)
    assert plan.spend(8, 2) == Spend(0.1, 1.25, 2)
    assert spends_of(plan.event()) == (Spend(0.1, 1.25, 40),)
    inner = dp.PoissonSampledDpEvent(0.1, dp.GaussianDpEvent(1.25))
    assert plan.event() == dp.ComposedDpEvent([dp.SelfComposedDpEvent(inner, 5)] * 8)


def test_a_schedule_of_noise_is_geometric(plan: Plan) -> None:
    falling = dataclasses.replace(plan, decay=0.25, evaluation_noise=7.0)
    noises = [falling.noise_at(round_) for round_ in range(1, 9)]
    assert (noises[0], noises[-1]) == pytest.approx((1.25, 1.25 / 4))
    np.testing.assert_allclose(np.diff(np.log(noises)), math.log(0.25) / 7)
    assert falling.spends() == (*(Spend(0.1, z, 5) for z in noises), Spend(1.0, 7.0, 1, "evaluate"))
    assert set(spends_of(falling.event())) == set(merge(falling.spends()))
    assert [falling.noise_std(r) for r in range(1, 9)] == [z * 0.5 for z in noises]
    once = dataclasses.replace(falling, rounds=1)
    assert once.noise_at(1) == 1.25


def test_rounds_are_those_of_the_plan(plan: Plan) -> None:
    for round_ in (0, 9, -1):
        with pytest.raises(PrivacyError, match="rounds 1 to 8"):
            plan.noise_at(round_)


def test_noise_is_on_the_sum_and_relative_to_c(plan: Plan) -> None:
    assert plan.noise_std(1) == 1.25 * 0.5
    assert plan.noise_std(1, clip=2.0) == 1.25 * 2.0
    assert dataclasses.replace(plan, expected_batch=800).noise_std(1) == plan.noise_std(1)
    exchanged = dataclasses.replace(plan, adjacency="replace")
    assert (plan.sensitivity, exchanged.sensitivity) == (0.5, 1.0)
    assert exchanged.noise_std(1) == plan.noise_std(1)


def test_no_field_follows_from_rows() -> None:
    """All sites have one plan; a site's size meets it only in the check of δ."""
    assert "rows" not in make_plan.__annotations__
    assert {f.name for f in dataclasses.fields(Plan)} <= {
        *(f.name for f in dataclasses.fields(Privacy)),
        *("rounds", "steps", "noise_multiplier", "expected_batch", "honest", "survivors"),
        "start",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.0},
        {"rate": 1.5},
        {"clip": 0.0},
        {"clip": math.inf},
        {"noise_multiplier": 0.0},
        {"decay": 0.0},
        {"decay": 1e-3},  # the last round's noise is too little to account
        {"rounds": 0},
        {"steps": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"expected_batch": 0},
        {"rows_per_patient": 0},
        {"clip_noise": 0.0},
        {"evaluation_noise": 0.0},
        {"unit": "site"},
        {"adjacency": "replace-one"},
        {"mechanism": "none"},
        {"clipping": "ghost"},
    ],
)
def test_plan_is_checked(plan: Plan, change: dict[str, Any]) -> None:
    with pytest.raises(FedmodelError, match="got"):
        dataclasses.replace(plan, **change)


@pytest.mark.long
def test_made_plan_keeps_the_promise() -> None:
    plan = made()
    assert (plan.rate, plan.expected_batch, plan.clip) == (0.032, 64, 0.5)
    independent = pld.PLDAccountant(value_discretization_interval=5e-4)
    for spend in spends_of(plan.event()):
        independent.compose(spend.event())
    assert 2.98 < independent.get_epsilon(1e-4) <= 3.0 + 1e-3
    assert plan.noise_multiplier == pytest.approx(1.0, abs=0.01)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
@pytest.mark.parametrize("decay", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("evaluate", [True, False])
def test_schedule_and_evaluation_share_one_epsilon(
    adjacency: Any, decay: float, evaluate: bool
) -> None:
    plan = made(adjacency=adjacency, decay=decay, evaluate=evaluate, rounds=4)
    assert plan.evaluation() == (Spend(1.0, 10.0, 1, "evaluate") if evaluate else None)
    assert plan.noise_at(4) == pytest.approx(plan.noise_at(1) * decay)
    assert 2.985 < epsilon(plan.spends(), 1e-4, "pld", adjacency) <= 3.0


def test_exchanging_takes_more_noise_and_an_evaluation_too() -> None:
    plain = made().noise_multiplier
    assert made(adjacency="replace").noise_multiplier > 1.2 * plain
    assert made(evaluate=True).noise_multiplier > plain
    suppressed = made(evaluate=True, evaluation="suppressed")
    assert (suppressed.noise_multiplier, suppressed.evaluation()) == (plain, None)


def test_make_plan_is_checked() -> None:
    def make(privacy: Privacy, **change: Any) -> Plan:
        counts = {"batch_size": 4, "rounds": 2, "steps": 3, **change}
        return make_plan(privacy, evaluate=False, **counts)

    with pytest.raises(ConfigError, match="no plan"):
        make(Privacy())
    for name in ("batch_size", "rounds", "steps"):
        with pytest.raises(ConfigError, match=rf"train\.{name} must be at least 1"):
            make(PRIVACY, **{name: 0})


def test_a_plan_that_cannot_be_claimed_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renyi, "epsilon", lambda *_: 0.1)
    with pytest.raises(PrivacyError, match="can't be right"):
        made()


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_delta_must_be_below_one_over_units(unit: Any) -> None:
    privacy = dataclasses.replace(PRIVACY, unit=unit)
    check_delta(privacy, 9999)
    for units in (10000, 12345):
        with pytest.raises(DeltaError, match=f"1/{unit}s") as caught:
            check_delta(privacy, units)
        assert caught.value.units == units
        assert str(units) not in str(caught.value)
    with pytest.raises(ConfigError, match=f"at least 1 {unit}"):
        check_delta(privacy, 0)
    assert issubclass(DeltaError, PrivacyError)


# -- adaptive clipping ---------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_adaptive_clipping_pays_for_its_count(adjacency: Any) -> None:
    plan = made(adjacency=adjacency, clipping="adaptive", clip_noise=3.0, decay=0.5, rounds=4)
    flat = made(adjacency=adjacency, decay=0.5, rounds=4)
    assert plan.spends() == flat.spends()  # the event is the same
    for round_ in range(1, 5):
        z = plan.noise_at(round_)
        on_sum = plan.gradient_noise_multiplier(round_)
        assert on_sum > z == flat.gradient_noise_multiplier(round_)
        assert on_sum**-2 + (2 * 3.0) ** -2 == pytest.approx(z**-2)  # arXiv 1905.03871, Thm 1
        assert plan.noise_std(round_, clip=0.1) == on_sum * 0.1


def test_adaptive_clipping_is_one_gaussian_by_its_own_account() -> None:
    """Sum and count as two mechanisms on the same units cost what the one event costs."""
    plan = made(clipping="adaptive", clip_noise=30.0, rate=1.0)
    on_sum = plan.gradient_noise_multiplier(1)
    steps = plan.total_steps
    for adjacency in ("add-remove", "replace"):
        whole = epsilon(plan.spends(), 1e-4, "rdp", adjacency)
        # Without sampling a joint release is the composition: the count's unit is 1/2.
        apart = [Spend(1.0, on_sum, steps), Spend(1.0, 2 * 30.0, steps)]
        assert epsilon(apart, 1e-4, "rdp", adjacency) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("clip_noise", [0.4, 0.625])
def test_the_count_must_leave_something(plan: Plan, clip_noise: float) -> None:
    change: dict[str, Any] = {"clipping": "adaptive", "clip_noise": clip_noise}
    with pytest.raises(ConfigError, match=r"raise privacy\.clip_noise"):
        dataclasses.replace(plan, **change)
    assert dataclasses.replace(plan, **{**change, "clip_noise": 0.63}).noise_std(1) > 0
    # The noise may also grow into it.
    with pytest.raises(ConfigError, match=r"raise privacy\.clip_noise"):
        dataclasses.replace(plan, **{**change, "clip_noise": 2.0, "decay": 4.0})
