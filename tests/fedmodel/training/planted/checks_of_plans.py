"""Checks of what is counted: a site that plays on until something stops it."""

import pytest

from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.remaining import Remaining
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError
from fedmodel.job import Privacy
from tests.fedmodel.training.planted.world import World

_PLANNED: list[Plan] = []


def planned() -> Plan:
    """Return a plan whose ε is just what its steps need."""
    if not _PLANNED:
        privacy = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-4, clip=0.5, rate=0.3)
        _PLANNED.append(make_plan(privacy, batch_size=4, rounds=3, steps=2, evaluate=False))
    return _PLANNED[0]


def _play(world: World, guarded: bool, budgeted: bool) -> int:
    """Play one round after the other, and the last one for ever; return the steps taken."""
    plan, spent, taken = planned(), list[Spend](), 0
    for round_ in (1, 2, 3, 3, 3):
        steps = Remaining(plan, spent).affordable(round_, plan.steps) if budgeted else plan.steps
        if steps == 0:
            break
        guard = StepGuard(plan, spent)
        told = guard.before_step if guarded else lambda spend: None
        world.step(*[(0,)] * steps, plan=plan, number=round_, before_step=told)
        spent.append(plan.spend(round_, steps))
        taken += steps
    return taken


def the_budget_ends(world: World) -> None:
    assert _play(world, guarded=False, budgeted=True) == 6, "more steps than planned"


def the_guard_ends_it(world: World) -> None:
    with pytest.raises(BudgetError, match="isn't covered by the plan"):
        _play(world, guarded=True, budgeted=False)


def a_site_plays_no_more_than_planned(world: World) -> None:
    assert _play(world, guarded=True, budgeted=True) == 6, "more steps than planned"
