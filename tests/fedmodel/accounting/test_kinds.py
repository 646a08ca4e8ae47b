"""What a spend is for stands in a field: equal numbers tell nothing, and cost the same."""

import dataclasses

import pytest

from fedmodel.accounting import pld
from fedmodel.accounting.claims import claim, epsilon
from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.remaining import Remaining, give_up
from fedmodel.accounting.spends import Spend, merge
from fedmodel.errors import BudgetError
from fedmodel.job import Privacy


@pytest.fixture
def alike() -> Plan:
    """A plan whose steps have the very numbers of its evaluation: no sampling, equal noise."""
    plan = Plan(
        unit="record",
        adjacency="add-remove",
        mechanism="dpsgd",
        clip=1.0,
        noise_multiplier=20.0,
        rate=1.0,
        rounds=4,
        steps=1,
        delta=1e-5,
        epsilon=1.0,
        expected_batch=8,
        evaluation_noise=20.0,
    )
    evaluation = plan.evaluation()
    assert evaluation is not None
    step = plan.spend(1)
    assert (step.rate, step.noise_multiplier, step.steps) == (1.0, 20.0, 1)
    assert dataclasses.replace(step, kind="evaluate") == evaluation != step
    return plan


def exact(plan: Plan) -> Plan:
    """Return the plan with the ε that all of it costs."""
    return dataclasses.replace(plan, epsilon=epsilon(plan.spends(), plan.delta))


def test_kinds_make_no_difference_to_epsilon(alike: Plan) -> None:
    mixed = [alike.spend(1, 3), Spend(1.0, 20.0, 2, "evaluate"), Spend(0.1, 1.0, 4, "evaluate")]
    plain = [Spend(1.0, 20.0, 5), Spend(0.1, 1.0, 4)]
    assert merge(mixed) == merge(plain)
    assert claim(mixed, 1e-5) == claim(plain, 1e-5)
    before = pld.epsilon.cache_info().misses
    assert epsilon(mixed, 1e-5) == epsilon(plain, 1e-5)
    assert pld.epsilon.cache_info().misses == before  # remembered, whatever they were for


def test_steps_that_look_like_the_evaluation_do_not_take_its_reserve(alike: Plan) -> None:
    plan = exact(alike)
    left = Remaining(plan, [plan.spend(1)])
    assert left.affords_evaluation()
    assert left.affordable(2, 4) == 3
    left.take_steps(2, 3)
    assert left.affordable(4, 1) == 0
    left.take_evaluation()
    assert left.spent[-1].kind == "evaluate"
    guard = StepGuard(plan, [plan.spend(1)])
    for round_ in (2, 3, 4):
        guard.before_step(plan.spend(round_))
    with pytest.raises(BudgetError):  # the evaluation's share isn't theirs
        guard.before_step(plan.spend(4))
    evaluation = plan.evaluation()
    assert evaluation is not None
    guard.before_step(evaluation)


def test_steps_that_look_like_the_evaluation_are_given_up(alike: Plan) -> None:
    plan = exact(alike)
    evaluation = plan.evaluation()
    assert evaluation is not None
    held = [dataclasses.replace(plan.spend(1), steps=3), evaluation]
    assert give_up(plan, [plan.spend(1)], held) == ()
    # A round taken again: one step of the three goes, and not the evaluation.
    assert give_up(plan, [plan.spend(1), plan.spend(1)], held) == (plan.spend(4),)


def test_only_training_is_noised_in_shares(alike: Plan) -> None:
    plan = dataclasses.replace(alike, mechanism="distributed", honest=3, survivors=9)
    evaluation = plan.evaluation()
    assert evaluation is not None
    step, kept = plan.seen_without([plan.spend(1), evaluation], 0)
    assert kept == evaluation
    assert step.noise_multiplier == pytest.approx(20 * 3**0.5)


@pytest.mark.long
def test_the_reserve_of_a_planned_job_is_its_own() -> None:
    privacy = Privacy(mechanism="dpsgd", epsilon=2.0, delta=1e-5, rate=0.1)
    plan = make_plan(privacy, batch_size=8, rounds=3, steps=2, evaluate=True)
    other = Spend(1.0, 11.0, 1, "evaluate")  # an evaluation, though with another noise
    assert Remaining(plan, [other]).reserve == ()
