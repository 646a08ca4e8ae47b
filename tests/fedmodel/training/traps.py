"""Clipped sums for the traps."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmodel.gradients import clippers
from fedmodel.gradients.engines import make_engine
from fedmodel.training import dpsgd
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner

CPU = torch.device("cpu")
ENGINES = ["fast", "hooks", "ghost"]
NAMES = ("a", "b", "c")


def clipped(
    learner: Learner, examples: Examples, name: str, parts: list[list[int]], clip: float
) -> dict[str, Tensor]:
    """Return a step's clipped sum over some batches."""
    engine, clipper = make_engine(name, learner.trained), clippers.Flat(clip)
    with engine.attached():
        for part in parts:
            batch = SimpleNamespace(rows=np.array(part), unit=np.arange(len(part)), count=len(part))
            dpsgd._accumulate(learner, examples, batch, engine, clipper)  # type: ignore[arg-type]
    named: dict[str, Any] = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    sums = {n: p.summed_grad for n, p in named.items()}
    for p in named.values():
        p.summed_grad = p.grad = None
    return sums


def length(sums: dict[str, Tensor]) -> float:
    return float(torch.stack([s.double().square().sum() for s in sums.values()]).sum().sqrt())
