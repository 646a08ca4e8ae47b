"""Metrics of a model on a test set, and what a site may count on its own."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner

__all__ = ["count", "evaluate"]

_BATCH = 64


def evaluate(learner: Learner, examples: Examples) -> dict[str, float]:
    """Return the task's metrics and ``loss``, the mean over the examples."""
    logits, targets, losses = [], [], []
    with torch.inference_mode():
        for out, own in _answers(learner, examples, np.arange(len(examples))):
            losses.append(learner.task.losses(out, own).cpu())
            logits.append(out.cpu())
            targets.append(own.cpu())
    found = learner.task.metrics(torch.cat(logits), torch.cat(targets), learner.labels)
    return {**found, "loss": float(torch.cat(losses).double().mean())}


def count(learner: Learner, examples: Examples, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the task's counts of some rows (by number, there may be none), int64 ``[K]``."""
    total = np.zeros(len(learner.task.counted(learner.labels).names), dtype=np.int64)
    with torch.inference_mode():
        for out, own in _answers(learner, examples, rows):
            total += learner.task.count(out, own)
    return total


def _answers(
    learner: Learner, examples: Examples, rows: NDArray[np.int64]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and targets of batches of rows."""
    learner.module.eval()
    for part in examples.chunks(rows, _BATCH):
        yield learner.logits(examples.batch(part)), examples.labels(part)
