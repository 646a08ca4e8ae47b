"""Noise of another size: planted, and noticed."""

from typing import Any

import pytest

from fedmodel.accounting.plan import Plan
from fedmodel.mechanisms import noise
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd
from tests.fedmodel.training.planted.bug import NOISE, Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_noise import (
    every_step_takes_noise,
    the_noise_follows_an_adaptive_norm,
    the_noise_is_the_plans,
)
from tests.fedmodel.training.planted.checks_of_steps import (
    a_round_is_let_pass,
    an_empty_step_is_let_pass,
)
from tests.fedmodel.training.planted.world import World, realised

BUGS = Bugs()


@BUGS.checked(NOISE, the_noise_is_the_plans)
def noise_grows_with_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda *a: real(*a) * max(realised[0], 1) / 4)


@BUGS.checked(NOISE, the_noise_is_the_plans)
def noise_is_that_of_a_mean(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, *a: real(self, *a) / self.expected_batch)


@BUGS.checked(NOISE, the_noise_is_the_plans)
def noise_shrinks_with_the_dataset(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda *a: real(*a) * 4 / len(world.rows))


@BUGS.checked(NOISE, the_noise_is_the_plans)
def the_sum_is_divided_by_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        for p in self.params:
            p.grad /= max(realised[0], 1)

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


@BUGS.checked(NOISE, the_noise_is_the_plans)
def noise_isnt_over_the_clip_norm(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Plan, "noise_std", lambda self, *a: self.gradient_noise_multiplier(a[0]))


@BUGS.checked(NOISE, the_noise_is_the_plans)
def noise_of_the_first_round_for_ever(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, round_, clip: real(self, 1, clip))


@BUGS.checked(NOISE, the_noise_follows_an_adaptive_norm)
def noise_of_the_first_clip_norm(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, round_, clip: real(self, round_))


@BUGS.checked(NOISE, the_noise_is_the_plans)
def one_parameter_without_noise(patch: pytest.MonkeyPatch, world: World) -> None:
    real, last = noise.add_gaussian_, world.learner.layout.shapes[-1]

    def add(entropy: Entropy, total: Any, std: float) -> None:
        if tuple(total.shape) != tuple(last):
            real(entropy, total, std)

    patch.setattr(noise, "add_gaussian_", add)


@BUGS.guarded("no step changed it", a_round_is_let_pass)
def one_parameter_without_a_gradient(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.scale_grad

    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        real(self)
        self.params[-1].grad = None

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


@BUGS.guarded("no step changed it", an_empty_step_is_let_pass)
@BUGS.checked(NOISE, every_step_takes_noise)
def an_empty_batch_is_skipped(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.step

    def step(self: dpsgd.PrivateOptimizer) -> None:
        if any(p.summed_grad is not None for p in self.params):
            real(self)

    patch.setattr(dpsgd.PrivateOptimizer, "step", step)


@BUGS.checked(NOISE, every_step_takes_noise)
def an_empty_batch_takes_no_noise(patch: pytest.MonkeyPatch, world: World) -> None:
    real = noise.add_gaussian_

    def add(entropy: Entropy, total: Any, std: float) -> None:
        if bool(total.any()):
            real(entropy, total, std)

    patch.setattr(noise, "add_gaussian_", add)


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
