"""Multi-label classification: any number of labels for each text, perhaps none.

Each label is a question of its own, answered yes where the sigmoid of its logit is above 0.5, that
is where the logit is above 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fedmodel.tasks.task import Card, Counted, Estimate, Head, Label, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["MULTI_LABEL_CLASSIFICATION"]

_KINDS = 3  # counts of a label: true positives, false positives, false negatives
# Of a denominator over the standard deviation of its noise. Below, a quotient says more about the
# noise.
_CLEAR = 3.0


def _encode(rows: Sequence[Label], labels: Sequence[str]) -> "Tensor":
    """Return 1 for a label that a row has and 0 for the others, float32 ``[rows, L]``."""
    import torch

    places = {name: i for i, name in enumerate(labels)}
    targets = torch.zeros(len(rows), len(labels))
    for row, names in enumerate(rows):
        targets[row, [places[name] for name in names]] = 1.0
    return targets


def _losses(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Return the binary cross-entropy of each row, summed over its labels, in nats.

    The sum, not the mean: it is the negative log-likelihood of the row's whole set of labels, as
    cross-entropy is of its one label. So a row's gradient is of about the same length as there, and
    clip norms and learning rates mean the same; with the mean it would shrink as labels are added,
    and the noise wouldn't.
    """
    import torch

    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    return entropy(logits, targets, reduction="none").sum(dim=1)


def _tally(logits: "Tensor", targets: "Tensor") -> "NDArray[np.int64]":
    """Return true positives, false positives and false negatives of each label, ``[L, 3]``."""
    import numpy as np
    import torch

    true, said = targets > 0.5, logits > 0
    kinds = torch.stack([said & true, said & ~true, ~said & true], dim=-1)
    return kinds.sum(dim=0).cpu().numpy().astype(np.int64)


def _right(logits: "Tensor", targets: "Tensor") -> int:
    """Return how many rows have exactly their labels."""
    return int(((logits > 0) == (targets > 0.5)).all(dim=1).sum())


def _f1(tally: "NDArray[np.int64]") -> float:
    """Return 2tp / (2tp + fp + fn); 0 for a label that no row has and no answer gives."""
    tp, fp, fn = (int(count) for count in tally)
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0


def _metrics(logits: "Tensor", targets: "Tensor", labels: Sequence[str]) -> dict[str, float]:
    """Return ``accuracy``, ``micro_f1``, ``macro_f1``, ``majority`` and each label's F1.

    ``accuracy`` is the share of rows that get exactly their labels (subset accuracy), and
    ``majority`` that of always answering the most frequent set of labels of this test set.
    """
    import numpy as np

    tally, rows = _tally(logits, targets), len(targets)
    each = {f"f1.{name}": _f1(own) for name, own in zip(labels, tally, strict=True)}
    _, counts = np.unique(targets.numpy(), axis=0, return_counts=True)
    return {
        "accuracy": _right(logits, targets) / rows,
        "micro_f1": _f1(tally.sum(axis=0)),
        "macro_f1": sum(each.values()) / len(each),
        "majority": float(counts.max() / rows),
        **each,
    }


def _counted(labels: Sequence[str]) -> Counted:
    """Say what a row adds: 1 to right or wrong, and for each label 1 to tp, fp, fn or to nothing.

    With L labels that is a vector of zeros and at most 1 + L ones, so its L2 norm is at most
    √(1 + L). A row reaches it that has every label and is given every label, or has every label and
    is given none, or the other way round; so no smaller number is right. True negatives aren't
    counted: they are what is left of the rows.
    """
    kinds = ("tp", "fp", "fn")
    each = (f"{kind}.{name}" for name in labels for kind in kinds)
    return Counted(names=("right", "wrong", *each), row_norm=math.sqrt(1 + len(labels)))


def _count(logits: "Tensor", targets: "Tensor") -> "NDArray[np.int64]":
    import numpy as np

    right = _right(logits, targets)
    rows = np.array([right, len(targets) - right], dtype=np.int64)
    return np.concatenate([rows, _tally(logits, targets).reshape(-1)])


def _scores(total: Sequence[int], std: float, labels: Sequence[str]) -> Mapping[str, Estimate]:
    """Return micro and macro F1, and each label's F1 and accuracy, with their standard errors.

    Macro F1 is ``None`` where one label's is: a mean of the others would be another figure.
    """
    rows = total[0] + total[1]
    tallies = [total[i : i + _KINDS] for i in range(2, len(total), _KINDS)]
    summed = [sum(counts) for counts in zip(*tallies, strict=True)]
    each = [_noisy_f1(own, std) for own in tallies]
    found = {
        "micro_f1": _noisy_f1(summed, std * math.sqrt(len(labels))),
        "macro_f1": _mean(each),
    }
    for name, own, f1 in zip(labels, tallies, each, strict=True):
        found[f"f1.{name}"] = f1
        found[f"accuracy.{name}"] = _noisy_accuracy(rows, own[1] + own[2], std)
    return found


def _noisy_f1(tally: Sequence[int], std: float) -> Estimate:
    """Return F1 = 2tp / d, d = 2tp + fp + fn, and its error to first order.

    dF1 is 2(1 - F1)/d by tp, and -F1/d by fp and by fn; the three have independent noise. That of d
    is √(4 + 1 + 1) times the noise of each.
    """
    tp, fp, fn = tally
    whole = 2 * tp + fp + fn
    if whole <= 0 or whole < _CLEAR * math.sqrt(6) * std:
        return Estimate(value=None, standard_error=None)
    f1 = min(1.0, max(0.0, 2 * tp / whole))
    error = std * math.sqrt(4 * (1 - f1) ** 2 + 2 * f1**2) / whole
    return Estimate(value=f1, standard_error=error)


def _noisy_accuracy(rows: int, missed: int, std: float) -> Estimate:
    """Return a = 1 - (fp + fn)/n, n = right + wrong, and its error to first order.

    da is -1/n by fp and by fn, and (1 - a)/n by right and by wrong; their noise is independent.
    """
    if rows <= 0 or rows < _CLEAR * math.sqrt(2) * std:
        return Estimate(value=None, standard_error=None)
    accuracy = min(1.0, max(0.0, 1 - missed / rows))
    error = std * math.sqrt(2 + 2 * (1 - accuracy) ** 2) / rows
    return Estimate(value=accuracy, standard_error=error)


def _mean(each: Sequence[Estimate]) -> Estimate:
    """Return the mean of figures with independent noise; ``None`` where one of them is."""
    values = [e.value for e in each if e.value is not None]
    errors = [e.standard_error for e in each if e.standard_error is not None]
    if len(values) < len(each):
        return Estimate(value=None, standard_error=None)
    count = len(each)
    return Estimate(value=sum(values) / count, standard_error=math.hypot(*errors) / count)


MULTI_LABEL_CLASSIFICATION = Task(
    name="multi-label-classification",
    label_sets=True,
    fewest_labels=1,
    head=Head(
        problem_type="multi_label_classification",
        peft_type="SEQ_CLS",
        auto_class="AutoModelForSequenceClassification",
    ),
    card=Card(
        title="Multi-label text classifier",
        pipeline_tag="text-classification",
        tags=("multi-label-classification",),
        outputs="Labels, in the order of the logits",
        reading=(
            "A text may have several of them, or none. Each logit is about one label by itself: "
            "its sigmoid is the label's probability, and the label is given where that is above "
            '0.5 (`torch.sigmoid(logits) > 0.5`). `pipeline("text-classification", top_k=None)` '
            "gives the probability of every label."
        ),
        majority="always giving the commonest set of labels",
    ),
    encode=_encode,
    losses=_losses,
    metrics=_metrics,
    counted=_counted,
    count=_count,
    scores=_scores,
)
