"""Metrics of a model on a test set, and what a site may count on its own."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["EVALUATION", "SIZE", "count", "evaluate"]

EVALUATION = "evaluation"  # a kind of pass, see :class:`fedmodel.training.steady.Steady`
SIZE = 64  # rows in one pass at most


def evaluate(learner: Learner, examples: Examples, watch: Watch = UNWATCHED) -> dict[str, float]:
    """Return the task's metrics and ``loss``, the mean over the examples.

    Args:
        learner: the network.
        examples: of the test set.
        watch: who is told how far it is.
    """
    logits, targets, losses = [], [], []
    with torch.inference_mode(), watch.stage("evaluating", len(examples)):
        learner.module.eval()
        for part in examples.chunks(np.arange(len(examples)), SIZE):
            out, own = learner.logits(examples.batch(part)), examples.labels(part)
            losses.append(learner.task.losses(out, own).cpu())
            logits.append(out.cpu())
            targets.append(own.cpu())
            watch.advance(len(part))
    found = learner.task.metrics(torch.cat(logits), torch.cat(targets), learner.labels)
    return {**found, "loss": float(torch.cat(losses).double().mean())}


def count(
    learner: Learner, examples: Examples, rows: NDArray[np.int64], watch: Watch = UNWATCHED
) -> NDArray[np.int64]:
    """Return the task's counts of some rows, int64 ``[K]``.

    Args:
        learner: the network.
        examples: of the test set.
        rows: which of them, by number; there may be none.
        watch: who is told how far it is.
    """
    total = np.zeros(len(learner.task.counted(learner.labels).names), dtype=np.int64)
    shapes = learner.steady.shapes(EVALUATION, SIZE)
    learner.module.eval()
    with torch.inference_mode():
        # Alike to the last bit, whoever else is counted: the bound on one row's share needs that.
        for part, width, size in examples.passes(rows, examples.widths, shapes):
            out = learner.logits(examples.batch(part, width, size))[: len(part)]
            total += learner.task.count(out, examples.labels(part))
            watch.advance(len(part))
    return total
