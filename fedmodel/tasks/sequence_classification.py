"""Sequence classification: one label for each text."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedmodel.tasks.task import Card, Counted, Estimate, Head, Label, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["SEQUENCE_CLASSIFICATION"]


def _encode(rows: Sequence[Label], labels: Sequence[str]) -> "Tensor":
    """Return class numbers, int64 ``[rows]``."""
    import torch

    numbers: dict[Label, int] = {name: i for i, name in enumerate(labels)}
    return torch.tensor([numbers[label] for label in rows], dtype=torch.int64)


def _losses(logits: "Tensor", classes: "Tensor") -> "Tensor":
    """Return the cross-entropy of each row, in nats."""
    import torch

    return torch.nn.functional.cross_entropy(logits, classes, reduction="none")


def _metrics(logits: "Tensor", classes: "Tensor", labels: Sequence[str]) -> dict[str, float]:
    """Return ``accuracy``, ``macro_f1`` and ``majority``.

    ``majority`` is the accuracy of always answering the most frequent class of this test set.
    """
    import numpy as np
    from sklearn.metrics import f1_score

    y, z = classes.numpy(), logits.argmax(dim=1).numpy()
    with warnings.catch_warnings():
        # A class that is never predicted counts as F1 = 0; that is what we mean.
        warnings.simplefilter("ignore")
        macro = float(f1_score(y, z, average="macro", zero_division=0.0))
    return {
        "accuracy": float((y == z).mean()),
        "macro_f1": macro,
        "majority": float(np.bincount(y).max() / len(y)),
    }


def _counted(labels: Sequence[str]) -> Counted:
    """Say that a row adds 1 to one of two counts: its norm is 1."""
    return Counted(names=("right", "wrong"), row_norm=1.0)


def _count(logits: "Tensor", classes: "Tensor") -> "NDArray[np.int64]":
    import numpy as np

    right = int((logits.argmax(dim=1) == classes).sum())
    return np.array([right, len(classes) - right], dtype=np.int64)


def _scores(total: Sequence[int], std: float, labels: Sequence[str]) -> Mapping[str, Estimate]:
    return {}


SEQUENCE_CLASSIFICATION = Task(
    name="sequence-classification",
    label_sets=False,
    fewest_labels=2,
    head=Head(
        problem_type="single_label_classification",
        peft_type="SEQ_CLS",
        auto_class="AutoModelForSequenceClassification",
    ),
    card=Card(
        title="Text classifier",
        pipeline_tag="text-classification",
        tags=(),
        outputs="Classes, in the order of the logits",
        reading="",
        majority="always saying the commonest class",
    ),
    encode=_encode,
    losses=_losses,
    metrics=_metrics,
    counted=_counted,
    count=_count,
    scores=_scores,
)
