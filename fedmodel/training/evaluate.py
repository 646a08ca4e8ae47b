"""Metrics of a model on a test set."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.tasks import TASK_LOSSES

__all__ = ["count_correct", "evaluate"]

_BATCH = 64


def evaluate(learner: Learner, examples: Examples) -> dict[str, float]:
    """Return ``accuracy``, ``macro_f1``, ``loss`` (mean cross-entropy, nats) and ``majority``.

    ``majority`` is the accuracy of always answering the most frequent class of this test set.
    """
    from sklearn.metrics import f1_score

    learner.module.eval()
    truth, guess, losses = [], [], []
    with torch.inference_mode():
        for part in examples.chunks(np.arange(len(examples)), _BATCH):
            logits = learner.logits(examples.batch(part))
            labels = examples.labels(part)
            losses.append(TASK_LOSSES[learner.task](logits, labels).cpu())
            truth.append(labels.cpu())
            guess.append(logits.argmax(dim=1).cpu())
    y, z = torch.cat(truth).numpy(), torch.cat(guess).numpy()
    with warnings.catch_warnings():
        # A class that is never predicted counts as F1 = 0; that is what we mean.
        warnings.simplefilter("ignore")
        macro = float(f1_score(y, z, average="macro", zero_division=0.0))
    return {
        "accuracy": float((y == z).mean()),
        "macro_f1": macro,
        "loss": float(torch.cat(losses).double().mean()),
        "majority": float(np.bincount(y).max() / len(y)),
    }


def count_correct(learner: Learner, examples: Examples, rows: NDArray[np.int64]) -> int:
    """Return how many of the rows (by number, there may be none) the model gets right."""
    learner.module.eval()
    correct = 0
    with torch.inference_mode():
        for part in examples.chunks(rows, _BATCH):
            guess = learner.logits(examples.batch(part)).argmax(dim=1)
            correct += int((guess == examples.labels(part)).sum())
    return correct
