"""Units that aren't whole: planted, and noticed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedmodel.gradients.units import Batch, Units
from fedmodel.training import dpsgd
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from tests.fedmodel.training.planted.bug import SUM, Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_steps import (
    a_step_over_patients_is_let_pass,
    the_clipped_sum_is_the_oracles,
)
from tests.fedmodel.training.planted.world import (
    World,
)

BUGS = Bugs()


COUNT = "another number of units than were sampled"


def _batches(patch: pytest.MonkeyPatch, change: Callable[[list[Batch]], list[Batch]]) -> None:
    real = Units.batches
    patch.setattr(Units, "batches", lambda *a: iter(change(list(real(*a)))))


@BUGS.guarded(COUNT, a_step_over_patients_is_let_pass)
def the_last_batch_is_dropped(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: found[:-1])


@BUGS.guarded(COUNT, a_step_over_patients_is_let_pass)
def a_batch_is_repeated(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: [*found, found[0]])


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def a_unit_stands_in_for_another(patch: pytest.MonkeyPatch, world: World) -> None:
    def change(found: list[Batch]) -> list[Batch]:
        return [*found[:-1], dataclasses.replace(found[-1], rows=found[-1].rows[::-1] * 0)]

    _batches(patch, change)


def _halves(batch: Batch) -> list[Batch]:
    middle = len(batch.rows) // 2
    parts = [(batch.rows[s], batch.unit[s]) for s in (slice(middle), slice(middle, None))]
    return [
        Batch(rows, unit - unit[0], len(set(unit.tolist())), batch.width, len(rows))
        for rows, unit in parts
        if len(rows)
    ]


@BUGS.guarded(COUNT, a_step_over_patients_is_let_pass)
def a_patient_is_split_over_two_batches(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: [part for batch in found for part in _halves(batch)])


@BUGS.guarded("numbered from 0", a_step_over_patients_is_let_pass)
def a_split_patients_second_half_isnt_counted(patch: pytest.MonkeyPatch, world: World) -> None:
    def change(found: list[Batch]) -> list[Batch]:
        first, second = _halves(found[-1])
        return [*found[:-1], first, dataclasses.replace(second, count=second.count - 1)]

    _batches(patch, change)


@BUGS.guarded(COUNT, a_step_over_patients_is_let_pass)
def every_row_of_a_patient_is_a_unit(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(
        patch,
        lambda found: [
            dataclasses.replace(b, unit=np.arange(len(b.rows)), count=len(b.rows)) for b in found
        ],
    )


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def a_batch_is_counted_but_not_added(patch: pytest.MonkeyPatch, world: World) -> None:
    real, begun = dpsgd.accumulate, []

    def accumulate(learner: Learner, examples: Examples, batch: Batch, *rest: Any) -> None:
        begun.append(batch)
        if len(begun) > 1:
            real(learner, examples, batch, *rest)

    patch.setattr(dpsgd, "accumulate", accumulate)


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
