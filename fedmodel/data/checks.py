"""Checks of rows that were read: labels, and test rows."""

import logging
from collections.abc import Sequence

from fedmodel.config import suggest
from fedmodel.data.columns import problem, shown
from fedmodel.data.looks import near_equal
from fedmodel.data.rows import Rows
from fedmodel.tasks import Task, in_order

__all__ = ["check_test", "classes_of", "labels_of"]

logger = logging.getLogger(__name__)


def labels_of(
    train: Rows, task: Task, *, name: str = "the training rows", fewest: int | None = None
) -> tuple[str, ...]:
    """Return the names that rows are labelled with, in order: a job's labels.

    Args:
        train: the training rows.
        task: says what a row's label is.
        name: what the message calls them.
        fewest: how many there must be; ``None``: as many as the task needs.

    Raises:
        DataError: if there are fewer, or a label is of another kind.
    """
    labels = in_order(task.vocabulary(train.labels))
    fewest = task.fewest_labels if fewest is None else fewest
    if len(labels) < fewest:
        got = f"one class in all {len(train)} rows: {shown(labels[0])}" if labels else "no label"
        raise problem(
            name,
            "",
            expected=f"at least {fewest} class{'es' * (fewest > 1)}",
            got=got if len(train) else "no rows",
            fix="set data.label to the column of the label, or give rows of other classes",
        )
    return labels


def classes_of(train: Rows, task: Task) -> tuple[str, ...]:
    """Return a job's classes: those that the rows' source has numbered, or the rows' own.

    A number that stands for a class stays that of its logit. Classes of which there is no row are
    among them: their numbers would be others' otherwise, and who has which isn't told by the job.

    Args:
        train: the training rows.
        task: says what a row's label is.

    Raises:
        DataError: as :func:`labels_of`.
    """
    labels, numbered = labels_of(train, task), train.classes
    if numbered is None:
        return labels
    if more := [label for label in labels if label not in numbered]:
        logger.warning(
            "the source numbers %d classes (ClassLabel), and rows have %s besides; so the classes "
            "stand in order of their names, and their numbers are others than the source's",
            len(numbered), ", ".join(map(shown, more[:5])),
        )  # fmt: skip
        return labels
    return numbered


def check_test(
    test: Rows, labels: Sequence[str], task: Task, *, name: str = "the test rows"
) -> None:
    """Check that every label of the test rows is known from training.

    Args:
        test: the test rows.
        labels: names that the training rows are labelled with.
        task: says what a row's label is.
        name: what the message calls the test rows.

    Raises:
        DataError: for the first label that isn't, with its rows.
    """
    known = set(labels)
    named = [task.names(label) for label in test.labels]
    for row, names in enumerate(named, start=1):
        for label in (n for n in names if n not in known):
            rows = sum(label in others for others in named)
            vocabulary = ", ".join(shown(k) for k in list(labels)[:20])
            raise problem(
                name,
                f"row {row}",
                expected=f"a label of the training rows ({vocabulary})",
                got=f"{shown(label)} ({rows} test rows have it){_meant(label, labels)}",
                fix="correct the label, remove these rows or train on such rows too",
            )


def _meant(label: str, labels: Sequence[str]) -> str:
    near = [other for group in near_equal({label, *labels}) if label in group for other in group]
    found = next((other for other in near if other != label), None)
    return suggest(label, labels) if found is None else f" (did you mean {shown(found)}?)"
