"""A site's optimiser: its state survives a file, and a file that isn't one is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fedmodel.errors import RunFolderError
from fedmodel.job import Train
from fedmodel.training import optim
from fedmodel.training.learner import Learner

STATEFUL = [
    Train(method="lora", optimizer="sgd", momentum=0.9, lr=0.1, head_lr=0.5),
    Train(method="lora", optimizer="adamw", lr=0.01, head_lr=0.1, weight_decay=0.1),
]
PLAIN = Train(method="lora", optimizer="sgd", momentum=0.0)


def go(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        if p.requires_grad:
            p.grad = torch.randn(p.shape, generator=made)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("train", [*STATEFUL, PLAIN])
def test_the_next_step_is_the_same_after_a_file(
    train: Train, learner_of: Callable[..., Learner], tmp_path: Path
) -> None:
    learner, path = learner_of("lora"), tmp_path / "state.safetensors"
    learner.load_vector(learner.initial)
    one = optim.make(learner.module, train)
    go(learner.module, one, 1)
    go(learner.module, one, 2)
    middle = learner.flatten()
    save_file(optim.state_tensors(one), path)
    go(learner.module, one, 3)
    expected = learner.flatten()

    learner.load_vector(middle)
    two = optim.make(learner.module, train)
    optim.load_state(two, path)
    go(learner.module, two, 3)
    assert (learner.flatten() == expected).all()

    learner.load_vector(middle)
    go(learner.module, optim.make(learner.module, train), 3)
    forgotten = bool((learner.flatten() != expected).any())
    assert forgotten == (train is not PLAIN)
    learner.load_vector(learner.initial)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _garbage(path: Path) -> None:
    path.write_bytes(b"not safetensors at all")


def _rename(path: Path) -> None:
    save_file({"momentum": torch.ones(2)}, path)


def _shape(path: Path) -> None:
    save_file({"0.momentum_buffer": torch.ones(2, 2, 2)}, path)


def _too_many(path: Path) -> None:
    save_file({"999.momentum_buffer": torch.ones(2)}, path)


@pytest.mark.parametrize("damage", [_cut, _garbage, _rename, _shape, _too_many, Path.unlink])
def test_a_damaged_file_is_refused(
    damage: Callable[[Path], None], learner_of: Callable[..., Learner], tmp_path: Path
) -> None:
    learner, path = learner_of("lora"), tmp_path / "state.safetensors"
    optimizer = optim.make(learner.module, STATEFUL[0])
    go(learner.module, optimizer, 1)
    save_file(optim.state_tensors(optimizer), path)
    damage(path)
    with pytest.raises(RunFolderError, match=r"state\.safetensors"):
        optim.load_state(optim.make(learner.module, STATEFUL[0]), path)
    learner.load_vector(learner.initial)


def test_the_head_has_a_rate_of_its_own(learner_of: Callable[..., Learner]) -> None:
    learner = learner_of("lora")
    optimizer: Any = optim.make(learner.module, STATEFUL[0])
    rates: dict[int, float] = {
        id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]
    }
    named: list[tuple[str, Tensor]] = list(learner.module.named_parameters())
    trainable = {n: rates.pop(id(p)) for n, p in named if p.requires_grad}
    assert not rates
    assert {lr for n, lr in trainable.items() if "classifier" in n} == {0.5}
    assert {lr for n, lr in trainable.items() if "lora_" in n} == {0.1}
