"""A bug that is planted, and what is to notice it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fedmodel.errors import BudgetError, PrivacyError
from tests.fedmodel.training.planted.world import World

Check = Callable[[World], None]
Plant = Callable[[pytest.MonkeyPatch, World], None]
Mark = Callable[[Plant], Plant]

NOISE = "another noise"
SUM = "another clipped sum"
SAME = "the same noise"


@dataclass(frozen=True)
class Bug:
    """What is planted, what notices it, and what it says then."""

    plant: Plant
    check: Check
    says: str
    guard: bool
    slow: bool = False


class Bugs:
    """The bugs of one file, in the order in which they are marked."""

    def __init__(self) -> None:
        self.all: list[Bug] = []

    def guarded(self, says: str, check: Check) -> Mark:
        """Mark a bug that a guard refuses during ``check``."""
        return self._mark(says, check, guard=True)

    def checked(self, says: str, check: Check, *, slow: bool = False) -> Mark:
        """Mark a bug that ``check`` doesn't pass on; slow, where it notices another one sooner."""
        return self._mark(says, check, guard=False, slow=slow)

    def _mark(self, says: str, check: Check, guard: bool, slow: bool = False) -> Mark:
        def mark(plant: Plant) -> Plant:
            self.all.append(Bug(plant, check, says, guard, slow))
            return plant

        return mark

    def each(self) -> pytest.MarkDecorator:
        """Return what runs a test with each bug."""
        return pytest.mark.parametrize(
            "bug",
            [
                pytest.param(
                    bug,
                    id=f"{bug.plant.__name__}-{'guard' if bug.guard else 'check'}",
                    marks=[pytest.mark.slow] if bug.slow else [],
                )
                for bug in self.all
            ],
        )


def notice(bug: Bug, world: World, patch: pytest.MonkeyPatch) -> None:
    """Plant a bug, and fail unless it is noticed in the way it says."""
    bug.plant(patch, world)
    kinds: Any = (
        (PrivacyError, BudgetError) if bug.guard else (AssertionError, pytest.fail.Exception)
    )
    with pytest.raises(kinds, match=bug.says):
        bug.check(world)
