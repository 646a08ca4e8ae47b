"""An accountant that forgets: planted, and noticed."""

import pytest

from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.remaining import Remaining
from tests.fedmodel.training.planted.bug import Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_plans import (
    a_site_plays_no_more_than_planned,
    the_budget_ends,
    the_guard_ends_it,
)
from tests.fedmodel.training.planted.world import World

BUGS = Bugs()


@BUGS.guarded("isn't covered by the plan", a_site_plays_no_more_than_planned)
@BUGS.checked("more steps than planned", the_budget_ends)
def every_round_has_a_new_budget(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Remaining.__init__
    patch.setattr(Remaining, "__init__", lambda self, plan, spent: real(self, plan))


@BUGS.checked("DID NOT RAISE", the_guard_ends_it)
def every_round_has_a_new_guard(patch: pytest.MonkeyPatch, world: World) -> None:
    real = StepGuard.__init__
    patch.setattr(StepGuard, "__init__", lambda self, plan, spent: real(self, plan))


@BUGS.checked("DID NOT RAISE", the_guard_ends_it)
def the_guard_isnt_asked(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(StepGuard, "before_step", lambda self, spend: None)


@BUGS.guarded("isn't covered by the plan", a_site_plays_no_more_than_planned)
def the_budget_is_never_spent(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Remaining, "affordable", lambda self, round, steps: steps)


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
