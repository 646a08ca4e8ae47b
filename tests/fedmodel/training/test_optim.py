"""A site's optimiser: its state survives a file, and a file that isn't one is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fedmodel.errors import RunFolderError
from fedmodel.gradients.clippers import Flat
from fedmodel.job import Train
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim
from fedmodel.training.learner import Learner

STATEFUL = [
    Train(method="lora", optimizer="sgd", momentum=0.9, lr=0.1, head_lr=0.5),
    Train(method="lora", optimizer="adamw", lr=0.01, head_lr=0.1, weight_decay=0.1),
    Train(method="lora", optimizer="adamw-bc", lr=0.01, head_lr=0.1, weight_decay=0.1),
]
PLAIN = Train(method="lora", optimizer="sgd", momentum=0.0)


def go(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    optimizer.noise_variance = 0.3 / seed  # type: ignore[attr-defined]  # only adamw-bc reads it
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


# -- adamw-bc ------------------------------------------------------------------------------------


def reference(
    gradients: Any, variances: list[float], lr: float, decay: float, beta1: float = 0.9
) -> Any:
    """DP-AdamBC (arXiv 2312.14334, Algorithm 1) with decoupled decay, in float64."""
    p = np.zeros(gradients.shape[1])
    m, v, known = np.zeros_like(p), np.zeros_like(p), 0.0
    for t, (g, variance) in enumerate(zip(gradients, variances, strict=True), 1):
        m = beta1 * m + (1 - beta1) * g
        v = 0.999 * v + 0.001 * g**2
        known = 0.999 * known + 0.001 * variance
        corrected = np.maximum((v - known) / (1 - 0.999**t), 1e-8)
        p = p * (1 - lr * decay) - lr * m / (1 - beta1**t) / np.sqrt(corrected)
    return p


def bc(gradients: Any, variances: list[float], **more: Any) -> tuple[Any, optim.AdamWBC]:
    p = nn.Parameter(torch.zeros(gradients.shape[1]))
    optimizer = optim.AdamWBC([p], **({"lr": 0.01} | more))
    for g, variance in zip(gradients, variances, strict=True):
        optimizer.noise_variance = variance
        p.grad = torch.from_numpy(g).float()
        optimizer.step()
    return p.detach().double().numpy(), optimizer


@pytest.mark.parametrize("variances", [[0.0] * 20, [0.2] * 20, [0.4 / (i + 1) for i in range(20)]])
def test_adamw_bc_is_the_papers(variances: list[float]) -> None:
    gradients = np.random.default_rng(1).standard_normal((20, 30))
    found, _ = bc(gradients, variances, lr=0.02, weight_decay=0.1)
    expected = reference(gradients, variances, 0.02, 0.1)
    # Where the correction leaves next to nothing, float32 and float64 differ in how much.
    close = np.abs(found - expected) <= 1e-4 * np.abs(expected).max()
    assert close.mean() > 0.9
    assert variances[0] or close.all()


def test_without_noise_it_is_adamw_but_for_the_floor() -> None:
    gradients = np.random.default_rng(1).standard_normal((20, 30)) + 0.01
    found, _ = bc(gradients, [0.0] * 20, lr=0.02, weight_decay=0.1)
    p = nn.Parameter(torch.zeros(30))
    adamw = torch.optim.AdamW([p], lr=0.02, weight_decay=0.1)
    for g in gradients:
        p.grad = torch.from_numpy(g).float()
        adamw.step()
    np.testing.assert_allclose(found, p.detach().numpy(), rtol=1e-4, atol=1e-6)
    # The floor of the second moment, 1e-8, stands where AdamW adds 1e-8 to its root.
    tiny, _ = bc(np.full((1, 1), 1e-6), [0.0])
    assert tiny[0] == pytest.approx(-0.01 * 1e-6 / 1e-4, rel=1e-4)


@pytest.mark.long
def test_the_known_variance_is_taken_off() -> None:
    # Signals of 0.1 and 1 under noise of ±3: AdamW's steps are nearly proportional to the signal
    # (the noise makes all second moments alike); corrected, both go about lr a step.
    noise = np.tile([[3.0], [-3.0]], (1000, 1))
    gradients = np.array([[0.1, 1.0]]) + noise
    found, _ = bc(gradients, [9.0] * 2000, lr=1e-3)
    plain, _ = bc(gradients, [0.0] * 2000, lr=1e-3)
    assert plain[1] / plain[0] == pytest.approx(10, rel=0.1)
    assert abs(found[1]) == pytest.approx(2000e-3, rel=0.2)
    assert abs(found[0]) > 20 * abs(plain[0])


def test_steps_stay_finite_when_the_noise_was_overestimated() -> None:
    found, _ = bc(np.full((5, 2), 0.1), [100.0] * 5, lr=0.01)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, -5 * 0.01 * 0.1 / 1e-4, rtol=1e-3)


def test_a_parameter_without_a_gradient_stays() -> None:
    p = nn.Parameter(torch.ones(2))
    optim.AdamWBC([p], lr=0.1, weight_decay=0.5).step()
    assert p.tolist() == [1, 1]


def test_the_variance_it_is_told_is_that_of_the_mean_gradient(plan_of: Any) -> None:
    p = nn.Parameter(torch.zeros(100_000))
    inner = optim.AdamWBC([p], lr=0.1)
    plan = plan_of(clip=0.5, noise_multiplier=2.0, expected_batch=8)
    private = dpsgd.PrivateOptimizer(inner, plan, 1, Flat(0.5), Entropy())
    private.step()
    assert inner.noise_variance == (2.0 * 0.5 / 8) ** 2
    assert p.grad is not None
    assert float(p.grad.var()) == pytest.approx(inner.noise_variance, rel=0.03)
