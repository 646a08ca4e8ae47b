"""Private steps, and noise that stands aside or is watched."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fedmodel.accounting.plan import Plan
from fedmodel.job import Job, Performance
from fedmodel.mechanisms import noise
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round

F = NDArray[np.float64]
METHODS = ["head", "lora", "full"]
ENGINES = ["fast", "hooks"]


class Noise:
    """Stands for the noise: keeps each step's clipped sum and adds noise, or nothing."""

    def __init__(self, adds: bool) -> None:
        self.adds, self.real = adds, noise.add_gaussian_
        self.totals: list[list[torch.Tensor]] = []
        self.stds: list[float] = []

    def __call__(self, entropy: Entropy, total: Any, std: float) -> None:
        if isinstance(total, torch.Tensor):  # else it is adaptive clipping's count
            self.totals[-1].append(total.clone())
            self.stds.append(std)
        if self.adds:
            self.real(entropy, total, std)

    def sums(self) -> list[F]:
        """Return each step's clipped sum, in the optimiser's order."""
        return [
            torch.cat([t.flatten() for t in step]).double().numpy() for step in self.totals if step
        ]


def watch(monkeypatch: pytest.MonkeyPatch, adds: bool) -> Noise:
    made, step = Noise(adds), dpsgd.PrivateOptimizer.add_noise

    def add_noise(self: dpsgd.PrivateOptimizer) -> None:
        made.totals.append([])
        step(self)

    monkeypatch.setattr(noise, "add_gaussian_", made)
    monkeypatch.setattr(dpsgd.PrivateOptimizer, "add_noise", add_noise)
    return made


def steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    vector: Any,
    job: Job,
    count: int = 1,
    physical: int = 64,
    engine: Any = "fast",
    **more: Any,
) -> tuple[Any, dpsgd.Private]:
    learner.load_vector(vector)
    private = dpsgd.private_steps(
        learner,
        examples,
        plan,
        job.privacy,
        optim.make(learner.module, job.train),
        Round(performance=Performance(engine=engine, physical_batch=physical), **more),
        steps=count,
    )
    return learner.flatten() - vector, private


def lone_gradients(learner: Learner, examples: Examples, vector: Any, job: Job) -> F:
    """Return each example's gradient by plain autograd, in the optimiser's order."""
    learner.load_vector(vector)
    optimizer = optim.make(learner.module.train(), job.train)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    out = []
    for i in range(len(examples)):
        row = np.array([i])
        loss = cross_entropy(learner.logits(examples.batch(row)), examples.labels(row))
        grads = torch.autograd.grad(loss, params)
        out.append(torch.cat([g.flatten() for g in grads]).double().numpy())
    return np.stack(out)


def lengths_of(gradients: F) -> F:
    return np.asarray(np.sqrt((gradients**2).sum(axis=1)))
