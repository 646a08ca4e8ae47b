"""The plan, and the budget that guards it."""

import dataclasses
import math
from typing import Any

import dp_accounting as dp
import pytest
from dp_accounting import pld

from fedmodel.errors import BudgetError, ConfigError, FedmodelError, PrivacyError
from fedmodel.job import Privacy
from fedmodel.privacy import Budget, Plan, Spend, budget, epsilon, make_plan
from fedmodel.privacy.plan import DeltaError

PRIVACY = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-4, clip=0.5)


def test_plan_yields_its_own_event(plan: Plan) -> None:
    event = plan.event(7)
    inner = dp.PoissonSampledDpEvent(plan.rate, dp.GaussianDpEvent(plan.noise_multiplier))
    assert event == dp.SelfComposedDpEvent(inner, 7)
    assert plan.event() == dp.SelfComposedDpEvent(inner, plan.steps)


def test_noise_is_on_the_sum(plan: Plan) -> None:
    assert plan.sensitivity == plan.clip
    assert plan.noise_std == plan.noise_multiplier * plan.clip
    bigger = dataclasses.replace(plan, expected_batch=800)
    assert bigger.noise_std == plan.noise_std


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.0},
        {"rate": 1.5},
        {"clip": 0.0},
        {"clip": math.inf},
        {"noise_multiplier": 0.0},
        {"steps": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon": 0.0},
        {"epsilon": math.nan},
        {"expected_batch": 0},
        {"unit": "patient"},
        {"adjacency": "replace-one"},
        {"mechanism": "none"},
    ],
)
def test_plan_is_checked(plan: Plan, change: dict[str, Any]) -> None:
    with pytest.raises(FedmodelError, match="got"):
        dataclasses.replace(plan, **change)


def test_made_plan_keeps_the_promise() -> None:
    plan = make_plan(PRIVACY, rows=2000, batch_size=64, steps=300)
    assert (plan.rate, plan.expected_batch, plan.clip) == (0.032, 64, 0.5)
    independent = pld.PLDAccountant(value_discretization_interval=5e-4).compose(plan.event())
    assert 2.98 < independent.get_epsilon(1e-4) <= 3.0 + 1e-3
    assert plan.noise_multiplier == pytest.approx(1.0, abs=0.01)


def test_divisor_tells_nothing_about_the_rows() -> None:
    small = make_plan(PRIVACY, rows=20, batch_size=64, steps=3)
    smaller = make_plan(PRIVACY, rows=10, batch_size=64, steps=3)
    assert (small.rate, small.expected_batch) == (1.0, 64)
    assert small == smaller


def test_delta_must_be_below_one_over_rows() -> None:
    with pytest.raises(DeltaError, match="1/rows") as caught:
        make_plan(PRIVACY, rows=12345, batch_size=64, steps=3)
    assert caught.value.rows == 12345
    assert "12345" not in str(caught.value)


def test_make_plan_is_checked() -> None:
    with pytest.raises(ConfigError, match="no plan"):
        make_plan(Privacy(), rows=100, batch_size=4, steps=3)
    for rows, batch_size, steps in ((0, 4, 3), (100, 0, 3), (100, 4, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            make_plan(PRIVACY, rows=rows, batch_size=batch_size, steps=steps)


def test_budget_as_planned_runs_no_accountant(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(PRIVACY, rows=500, batch_size=50, steps=40)
    calls: list[int] = []

    def count(spends: list[Spend], delta: float) -> float:
        calls.append(sum(s.steps for s in spends))
        return epsilon(spends, delta)

    monkeypatch.setattr(budget, "epsilon", count)
    guard = Budget(plan)
    for _ in range(8):
        guard.take(5)
    assert set(calls) == {40}  # the calibration's own value, which is remembered
    assert guard.affordable(5) == 0
    with pytest.raises(BudgetError, match="it covers 0"):
        guard.take(1)
    assert sum(s.steps for s in guard.spent) == 40
    assert guard.claim().epsilon <= 3.0


@pytest.mark.parametrize("spent", [Spend(0.2, 1.0, 3), Spend(1.0, 30.0, 2), Spend(0.1, 1.25, 39)])
def test_budget_never_lets_the_total_exceed(plan: Plan, spent: Spend) -> None:
    guard = Budget(plan, [spent])
    possible = guard.affordable(200)
    assert 0 < possible < 200
    guard.take(possible)
    assert epsilon(guard.spent, plan.delta) <= plan.epsilon
    over = [*guard.spent, plan.spend(1)]
    assert epsilon(over, plan.delta) > plan.epsilon
    assert guard.affordable(1) == 0
    assert guard.affordable(0) == 0


def test_budget_already_exceeded(plan: Plan) -> None:
    assert Budget(plan, [Spend(1.0, 0.5, 10)]).affordable(5) == 0


def test_a_plan_that_promises_too_much_is_not_believed(plan: Plan) -> None:
    lying = dataclasses.replace(plan, epsilon=3.0)
    guard = Budget(lying)
    guard.take(guard.affordable(plan.steps))
    assert 0 < sum(s.steps for s in guard.spent) < plan.steps
    assert epsilon(guard.spent, plan.delta) <= 3.0


def test_guard_errors_are_privacy_errors() -> None:
    assert issubclass(DeltaError, PrivacyError)
