"""Contributions that aren't bounded, or bounded twice: planted, and noticed."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmodel.gradients.clippers import Flat
from fedmodel.gradients.fastclip import FastClip, Groups, engine, parts
from fedmodel.gradients.fastclip.notes import Notes
from fedmodel.gradients.units import Batch
from fedmodel.mechanisms import clipping
from fedmodel.training import dpsgd
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from tests.fedmodel.training.planted.bug import SUM, Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_norms import (
    a_tied_weight_counts_with_all_it_does,
    the_preflight_is_passed,
    the_preflight_of_a_layer_used_twice_is_passed,
)
from tests.fedmodel.training.planted.checks_of_steps import (
    a_broken_row_adds_nothing,
    a_step_over_patients_is_let_pass,
    the_clipped_sum_is_the_oracles,
)
from tests.fedmodel.training.planted.world import F, World

BUGS = Bugs()
NORM = "the norm of a row's gradient is wrong"


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def clipping_after_averaging(patch: pytest.MonkeyPatch, world: World) -> None:
    def accumulate(
        learner: Learner, examples: Examples, batch: Batch, clip: Any, clipper: Any
    ) -> None:
        one = Groups(torch.zeros(len(batch.rows), dtype=torch.int64))
        clip.begin(len(batch.rows))
        losses = example_losses(learner, examples.batch(batch.rows), examples.labels(batch.rows))
        clip.backward(losses / len(losses), one)
        clip.add(clipper.factors(clip.squares()) * batch.count)

    patch.setattr(dpsgd, "accumulate", accumulate)


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def one_factor_for_the_whole_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = Flat.factors
    patch.setattr(Flat, "factors", lambda *a: torch.full_like(f := real(*a), float(f.mean())))


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def no_clipping(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = Flat.factors
    patch.setattr(Flat, "factors", lambda *a: torch.ones_like(real(*a)))


def _shorten(params: Iterable[Any], clip: float) -> None:
    sums = [p.summed_grad for p in params if p.summed_grad is not None]
    length = torch.stack([s.norm() for s in sums]).norm()
    for s in sums:
        s *= min(1.0, clip / float(length))


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def the_sum_is_clipped_after_every_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.accumulate

    def accumulate(learner: Learner, *rest: Any) -> None:
        real(learner, *rest)
        _shorten([p for p in learner.module.parameters() if p.requires_grad], rest[-1].clip)

    patch.setattr(dpsgd, "accumulate", accumulate)


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def the_clipped_sum_is_clipped_again(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.add_noise

    def add_noise(self: dpsgd.PrivateOptimizer) -> None:
        _shorten(self.params, self.max_grad_norm)
        real(self)

    patch.setattr(dpsgd.PrivateOptimizer, "add_noise", add_noise)


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def factors_are_applied_twice(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.add
    patch.setattr(FastClip, "add", lambda self, factors: real(self, factors.square()))


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def a_batch_replaces_the_one_before(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.begin

    def begin(self: FastClip, rows: int) -> None:
        real(self, rows)
        for p in self.parameters:
            p.summed_grad = None  # type: ignore[attr-defined]

    patch.setattr(FastClip, "begin", begin)


@BUGS.guarded(NORM, the_preflight_is_passed)
@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def a_norm_without_one_parameter(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.squares

    def squares(self: FastClip) -> dict[nn.Parameter, Tensor]:
        found = real(self)
        found.pop(next(p for p in found if p.shape == (3, 128)))
        return found

    patch.setattr(FastClip, "squares", squares)


@BUGS.guarded("is wrong for this model", the_preflight_of_a_layer_used_twice_is_passed)
@BUGS.checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weight_counts_once(patch: pytest.MonkeyPatch, world: World) -> None:
    def note(self: Notes, parameter: nn.Parameter, part: Any) -> None:
        self.parts.setdefault(parameter, [part])

    patch.setattr(Notes, "note", note)


@BUGS.guarded("is wrong for this model", the_preflight_of_a_layer_used_twice_is_passed)
@BUGS.checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weights_last_use_counts(patch: pytest.MonkeyPatch, world: World) -> None:
    def note(self: Notes, parameter: nn.Parameter, part: Any) -> None:
        self.parts[parameter] = [part]

    patch.setattr(Notes, "note", note)


@BUGS.guarded(
    "the norm of a row's gradient is wrong", the_preflight_of_a_layer_used_twice_is_passed
)
@BUGS.checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weights_uses_are_squared_alone(patch: pytest.MonkeyPatch, world: World) -> None:
    real = parts.squares

    def squares(parameter: nn.Parameter, noted: list[Any], grams: Any) -> Tensor:
        return torch.stack([real(parameter, [part], grams) for part in noted]).sum(0)

    patch.setattr(engine, "squares", squares)


@BUGS.guarded("aren't finite", a_broken_row_adds_nothing)
def a_broken_row_gets_a_factor(patch: pytest.MonkeyPatch, world: World) -> None:
    def factors(norms: F, clip: float) -> F:
        return np.asarray(np.minimum(1.0, clip / norms))

    patch.setattr(clipping, "factors", factors)


@BUGS.guarded("aren't finite", a_broken_row_adds_nothing)
def a_broken_row_is_multiplied_by_zero(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Groups.spread
    patch.setattr(
        Groups, "spread", lambda *a: v + 1e-45 if (v := real(*a)).is_floating_point() else v
    )


@BUGS.guarded("is wrong for this model", the_preflight_is_passed)
def losses_over_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none") / len(labels)

    patch.setattr(world.learner, "task", replace(world.learner.task, losses=loss))


@BUGS.guarded("a row's loss changes when another row", the_preflight_is_passed)
def the_batchs_mean_for_every_row(patch: pytest.MonkeyPatch, world: World) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels).expand(len(labels))

    patch.setattr(world.learner, "task", replace(world.learner.task, losses=loss))


@BUGS.checked(SUM, the_clipped_sum_is_the_oracles)
def steps_divide_losses_by_the_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = example_losses
    patch.setattr(dpsgd, "example_losses", lambda *a: (found := real(*a)) / len(found))


@BUGS.guarded("numbered from 0", a_step_over_patients_is_let_pass)
def the_loss_of_a_unit_is_a_row(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Groups.__init__
    patch.setattr(Groups, "__init__", lambda self, unit: real(self, torch.arange(len(unit))))


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
