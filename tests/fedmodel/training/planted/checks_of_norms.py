"""Checks of the norms: the preflight's, and those of a weight that is used twice."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmodel.gradients.fastclip import FastClip, Groups
from fedmodel.job import Performance
from fedmodel.training import preflight
from tests.fedmodel.training.planted.world import TWICE, World


def the_preflight_is_passed(world: World) -> None:
    for examples in (world.rows, world.patients):
        world.learner.preflights_passed.clear()
        preflight.preflight(world.learner, examples, Performance(engine="fast"))


def the_preflight_of_a_layer_used_twice_is_passed(world: World) -> None:
    layer: Any = dict(world.learner.module.named_modules())[TWICE]
    real, taken = world.learner.logits, list[Tensor]()

    def twice(batch: dict[str, Tensor]) -> Tensor:
        taken.clear()
        hook = layer.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
        logits = real(batch)
        hook.remove()
        more: Tensor = 0.01 * layer(taken[0])[:, 0, :3]  # the first token is never padding
        return logits + more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.learner, "logits", twice)
        the_preflight_is_passed(world)


class Tied(nn.Module):
    """Reads a table of words at the beginning, and compares with it in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 5), nn.Linear(5, 9, bias=False)
        self.inner = nn.Linear(5, 5)
        values = torch.linspace(-1, 1, 45).view(9, 5).sin()
        self.words.weight = self.out.weight = nn.Parameter(values)
        with torch.no_grad():
            self.inner.weight.copy_(torch.linspace(-1, 1, 25).view(5, 5).cos())

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.out(self.inner(self.words(ids)).tanh())
        return logits


def a_tied_weight_counts_with_all_it_does(world: World) -> None:
    net, ids = Tied(), torch.tensor([[1, 2, 1], [3, 4, 0], [5, 5, 5]])

    def losses(rows: Tensor) -> Tensor:
        logits = net(rows)[:, :-1].flatten(0, 1)
        each = cross_entropy(logits, rows[:, 1:].flatten(), reduction="none")
        return each.view(len(rows), -1).sum(1)

    params = list(net.parameters())
    alone = [torch.autograd.grad(losses(ids[i : i + 1]).sum(), params) for i in range(3)]
    clip, factors = FastClip(net), torch.tensor([0.5, 0.0, 1.0])
    with clip.attached():
        clip.begin(3)
        clip.backward(losses(ids), Groups.records(3, torch.device("cpu")))
        squares = clip.squares()
        clip.add(factors)
    for place, p in enumerate(params):
        norms = torch.stack([grads[place].double().norm() for grads in alone])
        assert torch.allclose(squares[p].sqrt(), norms, rtol=1e-3), "another norm"
        total = torch.stack([f * g[place] for f, g in zip(factors, alone, strict=True)]).sum(0)
        found: Any = p.summed_grad  # type: ignore[attr-defined]
        assert torch.allclose(found.float(), total, atol=1e-5), "another clipped sum"
