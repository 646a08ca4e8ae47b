"""A task: the one object that everything asks that depends on what a network is trained for."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fedmodel.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Card", "Counted", "Estimate", "Head", "Label", "Task", "in_order", "written"]

Label: TypeAlias = str | tuple[str, ...]
"""What a row is labelled with: one name, or a set of names (sorted, perhaps empty)."""


def written(label: Label) -> str:
    """Return a label as one text; labels of one kind that differ give texts that differ.

    >>> written("cardiac"), written(("a", "b"))
    ('cardiac', '["a", "b"]')
    """
    return label if isinstance(label, str) else json.dumps(label)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return label names in the order of a job's logits, unless ``model.labels`` gives another.

    Integers stand by their value, so that the class with the highest logit is the user's own
    code; other names by their text.

    >>> in_order({"10", "2", "1"}), in_order({"b", "a", "10", "2"})
    (('1', '2', '10'), ('10', '2', 'a', 'b'))
    """
    found = set(names)
    if all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in found):
        return tuple(sorted(found, key=lambda name: (int(name), name)))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands on top of the body, in the words of the libraries that build and load it.

    Args:
        problem_type: of the exported configuration; it says how plain transformers read logits.
        peft_type: peft's ``task_type`` of an adapter.
        auto_class: transformers' class that loads the model.
    """

    problem_type: str
    peft_type: str
    auto_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model card says because of the task.

    Args:
        title: what the model is.
        pipeline_tag: the hub's name for what it does.
        tags: more of the hub's tags.
        outputs: a sentence that begins the list of labels.
        reading: how to read the logits; may be empty where nothing needs to be said.
        majority: what ``majority`` among the metrics is the accuracy of.
    """

    title: str
    pipeline_tag: str
    tags: tuple[str, ...]
    outputs: str
    reading: str
    majority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What a site may count on its test rows. The first two counts are rows right and wrong.

    Args:
        names: of the counts, in order.
        row_norm: largest L2 norm of what one row adds to them; the noise goes by it.
    """

    names: tuple[str, ...]
    row_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure made of noised counts; both are ``None`` where the noise swamps it.

    Args:
        value: the figure.
        standard_error: from the noise alone, to first order; that of the sample is not in it.
    """

    value: float | None
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. ``labels`` are always the job's, in the order of the logits: L of them.

    Args:
        name: as ``model.task`` has it.
        label_sets: whether a row has a set of labels, and not just one.
        fewest_labels: how many there must be.
        head: what is trained on top.
        card: what the model card says.
        encode: (rows' labels, ``labels``) → what the loss reads, a tensor ``[rows, …]``; the labels
            are known to be among ``labels``.
        losses: (logits ``[B, L]``, encoded ``[B, …]``) → the loss of every example, float32
            ``[B]``. No row may enter another's: the clipping of units rests on it.
        metrics: (logits ``[N, L]``, encoded ``[N, …]``, ``labels``) → metrics of a test set, all
            but the loss. ``accuracy``, ``macro_f1`` and ``majority`` are among them.
        counted: ``labels`` → what is counted of a test row, and how far one row can move it.
        count: (logits ``[B, L]``, encoded ``[B, …]``) → the counts of some rows, int64.
        scores: (noised counts summed over sites, standard deviation of the noise on each of them,
            ``labels``) → what they say beyond the share of right rows, by name.
    """

    name: str
    label_sets: bool
    fewest_labels: int
    head: Head
    card: Card
    encode: "Callable[[Sequence[Label], Sequence[str]], Tensor]"
    losses: "Callable[[Tensor, Tensor], Tensor]"
    metrics: "Callable[[Tensor, Tensor, Sequence[str]], dict[str, float]]"
    counted: Callable[[Sequence[str]], Counted]
    count: "Callable[[Tensor, Tensor], NDArray[np.int64]]"
    scores: Callable[[Sequence[int], float, Sequence[str]], Mapping[str, Estimate]]

    def names(self, label: Label) -> tuple[str, ...]:
        """Return the names in one row's label.

        Raises:
            DataError: if it isn't of this task's kind.
        """
        if isinstance(label, str) == self.label_sets:
            found, meant = ("one label", "a set of labels")[:: 1 if self.label_sets else -1]
            raise DataError(
                f"model.task={self.name} expects {meant} for each row, got {found}; load the rows "
                "with the same task"
            )
        return (label,) if isinstance(label, str) else label

    def vocabulary(self, rows: Iterable[Label]) -> set[str]:
        """Return all names in some rows' labels.

        Raises:
            DataError: if a label isn't of this task's kind.
        """
        return {name for label in set(rows) for name in self.names(label)}

    def targets(self, rows: Sequence[Label], labels: Sequence[str]) -> "Tensor":
        """Return what the loss reads of rows' labels, ``[rows, …]``.

        Raises:
            DataError: for a name that isn't among ``labels``, or a label of another kind.
        """
        unknown = sorted(self.vocabulary(rows) - set(labels))
        if unknown:
            raise DataError(
                f"labels the job doesn't know: {unknown[:5]}; it knows {list(labels)}. Set "
                "model.labels to all classes, or leave these rows out"
            )
        return self.encode(rows, labels)
