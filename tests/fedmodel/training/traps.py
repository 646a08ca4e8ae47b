"""Clipped sums for the traps."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmodel.gradients import clippers
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.units import Batch
from fedmodel.training import dpsgd
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner

CPU = torch.device("cpu")
ENGINES = ["fast", "hooks"]
NAMES = ("a", "b", "c")


def clipped(
    learner: Learner, examples: Examples, name: str, parts: list[list[int]], clip: float
) -> dict[str, Tensor]:
    """Return a step's clipped sum over some batches."""
    engine, clipper = make_engine(name, learner.trained), clippers.Flat(clip)
    with engine.attached():
        for part in parts:
            rows, count = np.array(part), len(part)
            batch = Batch(rows, np.arange(count), count, int(examples.widths[rows].max()), count)
            dpsgd.accumulate(learner, examples, batch, engine, clipper)
    named: dict[str, Any] = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    sums = {n: p.summed_grad for n, p in named.items()}
    for p in named.values():
        p.summed_grad = p.grad = None
    return sums


def length(sums: dict[str, Tensor]) -> float:
    return float(torch.stack([s.double().square().sum() for s in sums.values()]).sum().sqrt())
