"""Weights that move, or don't: planted, and noticed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedmodel.gradients.fastclip import FastClip
from fedmodel.models import adapters
from fedmodel.training import dpsgd
from tests.fedmodel.training.planted.bug import Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_steps import a_round_is_let_pass
from tests.fedmodel.training.planted.world import World

BUGS = Bugs()


HOLDS = "expected the optimiser to hold each of"


@BUGS.guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_is_made_before_the_adapters(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups
    patch.setattr(adapters, "parameter_groups", lambda module: (real(module)[0], []))


@BUGS.guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_holds_what_was_replaced(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups

    def groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        head, rest = real(module)
        return head, [nn.Parameter(p.detach().clone()) for p in rest]

    patch.setattr(adapters, "parameter_groups", groups)


@BUGS.guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_holds_a_frozen_weight(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups

    def groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        head, rest = real(module)
        return head, [*rest, next(p for p in module.parameters() if not p.requires_grad)]

    patch.setattr(adapters, "parameter_groups", groups)


def _after_a_batch(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    real = FastClip.add

    def add(self: FastClip, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        with torch.no_grad():
            change()

    patch.setattr(FastClip, "add", add)


@BUGS.guarded("isn't trained, but changed", a_round_is_let_pass)
def a_frozen_weight_is_written(patch: pytest.MonkeyPatch, world: World) -> None:
    frozen = next(p for p in world.learner.module.parameters() if not p.requires_grad)
    _after_a_batch(patch, lambda: frozen.mul_(1.0))  # or else the next test would see it


@BUGS.guarded("isn't trained, but changed", a_round_is_let_pass)
def a_buffer_is_written(patch: pytest.MonkeyPatch, world: World) -> None:
    buffer = next(world.learner.module.buffers())
    _after_a_batch(patch, lambda: buffer.add_(0))


@BUGS.guarded("isn't trained, but changed", a_round_is_let_pass)
def a_buffer_is_exchanged(patch: pytest.MonkeyPatch, world: World) -> None:
    name, buffer = next(world.learner.module.named_buffers())
    path, _, last = name.rpartition(".")
    held: dict[str, Any] = world.learner.module.get_submodule(path)._buffers
    patch.setitem(held, last, buffer)  # puts it back in the end
    _after_a_batch(patch, lambda: held.update({last: buffer.flip(1)}))


@BUGS.guarded("no step changed it", a_round_is_let_pass)
def a_trained_weight_is_exchanged(patch: pytest.MonkeyPatch, world: World) -> None:
    name = next(n for n, _ in world.learner.module.named_parameters() if "lora_A" in n)
    path, _, last = name.rpartition(".")
    held: dict[str, Any] = world.learner.module.get_submodule(path)._parameters
    patch.setitem(held, last, weight := held[last])
    _after_a_batch(patch, lambda: held.update({last: nn.Parameter(weight.clone())}))


@BUGS.guarded("was to be trained, but didn't change", a_round_is_let_pass)
def a_trained_weight_is_written_as_it_was(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.scale_grad

    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        real(self)
        self.params[-1].grad.zero_()

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
