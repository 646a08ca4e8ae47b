"""The budget before a round, and the guard before every step."""

import dataclasses
from typing import Any

import pytest

from fedmodel.accounting import remaining as budget
from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.remaining import Remaining, require_covered
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError
from fedmodel.job import Privacy

PRIVACY = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-4, clip=0.5, rate=0.1)


def made(evaluate: bool = False, **change: Any) -> Plan:
    wanted = dataclasses.replace(PRIVACY, **change)
    return make_plan(wanted, batch_size=50, rounds=8, steps=5, evaluate=evaluate)


def total(plan: Plan, spends: tuple[Spend, ...]) -> float:
    return epsilon(spends, plan.delta, "pld", plan.adjacency)


PLANS: list[dict[str, Any]] = [
    {},
    {"evaluate": True},
    {"decay": 0.5},
    {"decay": 0.5, "evaluate": True, "adjacency": "replace"},
    {"adjacency": "replace"},
]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("change", PLANS)
def test_as_planned_everything_is_affordable(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made(**change)
    calls: list[int] = []

    def count(spends: list[Spend], *rest: Any) -> float:
        calls.append(sum(s.steps for s in spends))
        return epsilon(spends, *rest)

    monkeypatch.setattr(budget, "epsilon", count)
    guard = Remaining(plan)
    for round_ in range(1, 9):
        assert guard.affordable(round_, 5) == 5
        guard.take_steps(round_, 5)
    whole = 40 + bool(plan.evaluation())
    assert set(calls) == {whole}  # the calibration's own value, which is remembered
    if plan.evaluation():
        guard.take_evaluation()
    assert sorted(map(str, guard.spent)) == sorted(map(str, plan.spends()))
    monkeypatch.undo()
    assert guard.claim().epsilon <= 3.0
    assert guard.affordable(8, 5) == 0
    with pytest.raises(BudgetError, match="it covers 0"):
        guard.take_steps(8, 1)
    with pytest.raises(BudgetError, match="no private evaluation left"):
        guard.take_evaluation()
    assert not guard.affords_evaluation()


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
@pytest.mark.parametrize("spent", [Spend(0.2, 2.0, 3), Spend(1.0, 40.0, 2), Spend(0.1, 1.25, 3)])
def test_budget_never_lets_the_total_exceed(adjacency: Any, spent: Spend) -> None:
    plan = made(adjacency=adjacency)
    guard = Remaining(plan, [spent])
    possible = guard.affordable(1, 200)
    assert 0 < possible < 200
    guard.take_steps(1, possible)
    assert total(plan, guard.spent) <= plan.epsilon
    assert total(plan, (*guard.spent, plan.spend(1, 1))) > plan.epsilon
    assert guard.affordable(1, 1) == 0
    assert guard.affordable(1, 0) == 0


@pytest.mark.slow
@pytest.mark.long
def test_a_crashed_round_shortens_the_last_and_spares_the_evaluation() -> None:
    plan = made(evaluate=True, decay=0.7, evaluation_noise=3.0)
    guard = Remaining(plan, [plan.spend(1), plan.spend(2)])  # two rounds that never came back
    taken = []
    for round_ in range(1, 9):
        taken.append(guard.affordable(round_, 5))
        guard.take_steps(round_, taken[-1])
    assert taken[:6] == [5] * 6
    assert sum(taken) < 40
    assert guard.affords_evaluation()
    guard.take_evaluation()
    assert 0.98 * plan.epsilon < total(plan, guard.spent) <= plan.epsilon


def test_budget_already_exceeded(plan: Plan) -> None:
    guard = Remaining(plan, [Spend(1.0, 0.5, 10)])
    assert guard.affordable(1, 5) == 0
    assert not guard.affords_evaluation()


def test_a_plan_that_promises_too_much_is_not_believed(plan: Plan) -> None:
    lying = dataclasses.replace(plan, epsilon=3.0)
    guard = Remaining(lying)
    guard.take_steps(1, guard.affordable(1, 40))
    assert 0 < sum(s.steps for s in guard.spent) < 40
    assert total(plan, guard.spent) <= 3.0


@pytest.mark.long
def test_require_is_for_whoever_counts_elsewhere() -> None:
    plan = made(evaluate=True)
    *rounds, evaluation = plan.spends()
    require_covered(plan, rounds, [evaluation])
    with pytest.raises(BudgetError, match="exceed this site's budget"):
        require_covered(plan, [*rounds, plan.spend(1, 1)], [evaluation])


# -- the guard in the loop -----------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize("change", PLANS)
def test_guard_lets_the_plan_pass_and_nothing_more(change: dict[str, Any]) -> None:
    plan = made(**change)
    guard = StepGuard(plan)
    for round_ in range(1, 9):
        for _ in range(5):
            guard.before_step(plan.spend(round_, 1))
    for round_ in (1, 8, 8):
        with pytest.raises(BudgetError, match="isn't covered by the plan"):
            guard.before_step(plan.spend(round_, 1))
    if (evaluation := plan.evaluation()) is not None:
        guard.before_step(evaluation)
        with pytest.raises(BudgetError):
            guard.before_step(evaluation)


@pytest.mark.slow
@pytest.mark.long
def test_guard_goes_on_from_what_was_spent() -> None:
    plan = made(decay=0.5, evaluate=True)
    guard = StepGuard(plan, [*plan.spends()[:7], Spend(plan.rate, plan.noise_at(8), 3)])
    guard.before_step(plan.spend(8, 2))
    with pytest.raises(BudgetError):
        guard.before_step(plan.spend(8, 1))
    done = StepGuard(plan, plan.spends())
    with pytest.raises(BudgetError):
        done.before_step(plan.spend(1, 1))


def test_guard_notices_too_little_noise() -> None:
    plan = made()
    guard = StepGuard(plan)
    wrong = Spend(plan.rate, plan.noise_at(1) * 0.8, 1)
    for _ in range(10):
        guard.before_step(wrong)
    with pytest.raises(BudgetError, match="isn't covered"):
        guard.before_step(dataclasses.replace(wrong, steps=20))
    for _ in range(3):  # what was refused wasn't counted
        guard.before_step(wrong)


@pytest.mark.sample(1)
@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_guard_runs_no_accountant_as_long_as_all_is_planned(
    decay: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = made(decay=decay)
    monkeypatch.setattr("fedmodel.accounting.guard.covers", lambda *_: pytest.fail("asked PLD"))
    guard = StepGuard(plan)
    for round_ in range(1, 9):
        for _ in range(5):
            guard.before_step(plan.spend(round_, 1))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("adjacency", ["add-remove", "replace"])
def test_guard_lets_pass_what_the_budget_covers(adjacency: Any) -> None:
    """After a crash, too: PLD and RDP don't weigh a mixture alike."""
    plan = made(decay=0.4, adjacency=adjacency)
    spent = [plan.spend(1), plan.spend(2), plan.spend(2)]
    whole = Remaining(plan, spent)
    guard = StepGuard(plan, spent)
    for round_ in range(3, 9):
        possible = whole.affordable(round_, 5)
        whole.take_steps(round_, possible)
        for _ in range(possible):
            guard.before_step(plan.spend(round_, 1))
    with pytest.raises(BudgetError):
        guard.before_step(plan.spend(8, 1))


def test_guard_without_a_bound_in_rdp_still_guards() -> None:
    """So tiny a rate is beyond RDP's rounding errors; then PLD decides."""
    tiny = Plan(
        unit="record",
        adjacency="add-remove",
        mechanism="dpsgd",
        clip=1.0,
        noise_multiplier=1e6,
        rate=1e-6,
        rounds=1,
        steps=20,
        delta=1e-5,
        epsilon=1e-3,
        expected_batch=1,
    )
    guard = StepGuard(tiny)
    for _ in range(20):
        guard.before_step(tiny.spend(1, 1))
    with pytest.raises(BudgetError):
        guard.before_step(Spend(1.0, 1.0, 1))
