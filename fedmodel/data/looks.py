"""Looks of rows that were read: what is probably not meant, and is refused or said.

What is said is logged where the rows are, in a deployment at the site: it tells numbers of rows and
names of classes and sites. None of it may travel.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from fedmodel._text import without_blanks
from fedmodel.data.columns import problem, shown
from fedmodel.data.rows import Rows
from fedmodel.tasks import Task

__all__ = ["check_looks", "near_equal", "say_looks"]

logger = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_FRACTION = re.compile(r".*[.,]\d*[1-9].*")
_WHOLE = re.compile(r"([+-]?\d+)[.,]0+")
_LIST = re.compile(r"\[\s*(['\"\d].*|.*,.*)?\]", re.DOTALL)  # not a name in brackets
_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")
_NOTHING = {"nan", "null", "n/a", "na", "#n/a", "nil", "<na>", "nat"}
_MANY = 20  # classes beyond which numbers are rather measured than named
_FEWEST = 10  # rows below which nothing can be said
_WORDS = 3  # blanks in a label, beyond which it is a text
_MOST = 5  # names in a message


def check_looks(train: Rows, task: Task, *, name: str, text: str, label: str) -> None:
    """Refuse texts that are numbers, and labels that are no classes.

    These are numbers on a scale, or labels of which nearly every row has its own.

    Args:
        train: the training rows.
        task: says what a row's label is; sets of labels are names in any case.
        name: what messages call the rows.
        text: column of the text.
        label: column of the label.

    Raises:
        DataError: for such rows.
    """
    if len(train) < _FEWEST:
        return
    if all(map(_NUMBER.fullmatch, train.texts)):
        raise problem(
            name,
            f"column '{text}'",
            expected="texts",
            got=f"{len(train)} rows of which each is a number: these look like numbers",
            fix="set data.text to the column of the text",
        )
    if not task.label_sets:
        _check_lists(train, name, label)
        _check_classes(train, name, label)


def _check_lists(train: Rows, name: str, column: str) -> None:
    if all(_LIST.fullmatch(str(label).strip()) for label in train.labels):
        raise problem(
            name,
            f"column '{column}'",
            expected="a class for each row",
            got="lists that are written as text in every row",
            fix="for several labels of a row take model.task=multi-label-classification, with "
            "columns of 0 and 1 (data.labels) or a mark between them (data.label_separator)",
        )


def _check_classes(train: Rows, name: str, column: str) -> None:
    counts = Counter(str(label) for label in train.labels)
    numbers = all(map(_NUMBER.fullmatch, counts))
    fractions = numbers and any(map(_FRACTION.fullmatch, counts))
    singular = len(counts) >= 0.9 * len(train)
    if not singular and not (fractions and len(counts) > _MANY):
        _say_many(counts, len(train), numbers=numbers)
        return
    if fractions:
        got, fix = "these look like numbers", "put them into classes, such as 'low' and 'high'"
    else:
        long = sum(name.count(" ") for name in counts) >= _WORDS * len(counts)
        got = "these look like texts" if long else "these look like an id"
        fix = "set data.label to the column of the label"
    raise problem(
        name,
        f"column '{column}'",
        expected="a class for each row, with several rows of each",
        got=f"{len(counts)} different labels in {len(train)} rows: {got}",
        fix=fix,
    )


def say_looks(train: Rows, test: Rows | None, task: Task, *, name: str) -> None:
    """Log what is probably not meant in the rows of a run.

    Args:
        train: the training rows.
        test: the test rows, where they come from elsewhere.
        task: says what a row's label is.
        name: what messages call the rows.
    """
    classes = Counter(n for label in train.labels for n in task.names(label))
    _say_near("classes", classes, name)
    if train.sites is not None:
        sites = Counter(train.sites)
        _say_near("sites", sites, name)
        if len(train) >= _FEWEST and len(sites) > len(train) / 2:
            logger.warning(
                "%s: %d sites in %d rows: is data.site the column of the site?",
                name, len(sites), len(train),
            )  # fmt: skip
    if train.patients is not None and (groups := near_equal(set(train.patients))):
        logger.warning(
            "%s: %d patients go by names that others have too but for case, zeros or "
            "width; each counts as a patient of its own", name, sum(map(len, groups)),
        )  # fmt: skip
    for label, count in classes.items():
        if label.strip().lower() in _NOTHING:
            logger.warning(
                "%s: %s is a class, of %d rows. If it means that there is no label, empty these "
                "cells and set data.missing=drop", name, shown(label), count,
            )  # fmt: skip
    if test is not None:
        _say_both(train, test, name)


def near_equal(names: Iterable[str]) -> list[list[str]]:
    """Return groups of names that differ only by what a person hardly sees.

    That is case, blanks, zeros around a whole number, width, and Unicode form.

    >>> near_equal(["Nord", "NORD", " nord", "01", "1", "1.0", "10", "cafe"])
    [[' nord', 'NORD', 'Nord'], ['01', '1', '1.0']]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = _ZEROS.sub("", without_blanks(without_blanks(name).casefold()))
        whole = _WHOLE.fullmatch(key)
        key = whole[1] if whole else key
        groups.setdefault(key, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _say_many(counts: Mapping[str, int], rows: int, *, numbers: bool) -> None:
    if len(counts) > _MANY and len(counts) > rows / _MOST:
        logger.warning(
            "%d classes in %d rows, so fewer than %d rows of each on average%s",
            len(counts), rows, _MOST,
            ": are these numbers on a scale, or an id?" if numbers else "; is data.label right?",
        )  # fmt: skip


def _say_near(what: str, counts: Mapping[str, int], name: str) -> None:
    for group in near_equal(counts):
        listed = ", ".join(f"{_told(n, group)} ({counts[n]} rows)" for n in group[:_MOST])
        logger.warning(
            "%s: %s whose names differ by case, blanks, zeros or Unicode form only: %s%s. "
            "They stay apart; if they are one, correct the rows",
            name, what, listed, ", …" * (len(group) > _MOST),
        )  # fmt: skip


def _told(name: str, group: Iterable[str]) -> str:
    """Return a name so that one sees how it differs from others that look the same."""
    alike = sum(normalize("NFKC", other) == normalize("NFKC", name) for other in group)
    return ascii(name) if alike > 1 and shown(name) == repr(name) else shown(name)


def _say_both(train: Rows, test: Rows, name: str) -> None:
    known = set(map(without_blanks, train.texts))
    if both := sum(without_blanks(text) in known for text in test.texts):
        logger.warning(
            "%s: %d of %d test rows have a text that is a training row's too, so figures on them "
            "say little about new texts", name, both, len(test),
        )  # fmt: skip
    if train.patients is not None and test.patients is not None:
        shared = len(set(train.patients) & set(test.patients))
        if shared:
            logger.warning(
                "%s: %d of %d patients of the test rows have training rows too",
                name, shared, len(set(test.patients)),
            )  # fmt: skip
