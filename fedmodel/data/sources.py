"""Sources of rows: files, folders, the hub, or made up.

Every fault in a file is one ``DataError`` that names the file, the row (counted from 1, without the
header) and what to do, and never shows the text of a row.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedmodel.config import suggest
from fedmodel.data.checks import check_test, labels_of
from fedmodel.data.columns import Columns, problem
from fedmodel.data.label_sets import LabelSets
from fedmodel.data.looks import check_looks, say_looks
from fedmodel.data.read_csv import read_csv
from fedmodel.data.read_datasets import Found, find_folder, find_hub
from fedmodel.data.read_excel import read_excel
from fedmodel.data.read_jsonl import read_jsonl
from fedmodel.data.read_parquet import read_parquet
from fedmodel.data.rows import Rows
from fedmodel.data.source import Source
from fedmodel.data.synthetic import clinical_notes
from fedmodel.errors import ConfigError
from fedmodel.seeds import Seed
from fedmodel.tasks import Task
from fedmodel.watch import UNWATCHED, Watch

logger = logging.getLogger(__name__)

__all__ = ["Tables", "load", "load_test"]


@dataclass(frozen=True, slots=True)
class Tables:
    """What was loaded; ``test`` is None where every site holds out rows of its own."""

    train: Rows
    test: Rows | None


def load(
    source: Source,
    seed: Seed,
    sites: int,
    task: Task,
    watch: Watch = UNWATCHED,
    *,
    partial: bool = False,
) -> Tables:
    """Load the training rows and, where there are any, the test rows.

    Args:
        source: where they are.
        seed: of synthetic rows.
        sites: how many sites synthetic rows come from.
        task: says what a row's label is.
        watch: who is told how far the reading is.
        partial: whether they are one site's, which needn't have all classes.

    Returns:
        The rows, checked.

    Raises:
        DataError: for the first thing that isn't usable.
    """
    if not task.label_sets and (source.labels or source.label_separator is not None):
        raise ConfigError(
            "data.label_separator and data.labels are for rows with several labels, and "
            f"model.task={task.name} gives each row one; use "
            "model.task=multi-label-classification, or leave them out"
        )
    train = _train(source, seed, sites, task, watch)
    fewest = 1 if partial else task.fewest_labels
    labels = labels_of(train, task, name=_called(source, test=False), fewest=fewest)
    if not partial:
        _check_named(source, labels)
    if source.kind != "synthetic":
        named = _called(source, test=False)
        check_looks(train, task, name=named, text=source.text, label=source.label)
    if source.label_separator is not None and all(len(label) < 2 for label in train.labels):
        logger.warning(
            "data.label_separator=%r stands in no cell of column '%s': every row has at most one "
            "label. If there are several, give what stands between them",
            source.label_separator,
            source.label,
        )
    test = _test(source, seed, sites, task, watch)
    if test is not None and not partial:
        check_test(test, labels, task, name=_called(source, test=True))
    if source.kind != "synthetic":
        say_looks(train, test, task, name=_called(source, test=False))
    return Tables(train, test)


def load_test(source: Source, task: Task, labels: Sequence[str], watch: Watch = UNWATCHED) -> Rows:
    """Load public test rows alone, for who has no rows to train on.

    Args:
        source: where they are: ``test`` or ``test_split`` of it.
        task: says what a row's label is.
        labels: classes that they may have.
        watch: who is told how far the reading is.

    Raises:
        DataError: for the first thing that isn't usable.
    """
    test = _test(source, Seed(0), 1, task, watch)
    if test is None:
        raise ConfigError("data.test is null: there are no test rows to read; say where they are")
    named = _called(source, test=True)
    check_test(test, labels, task, name=named)
    check_looks(test, task, name=named, text=source.text, label=source.label)
    return test


def _check_named(source: Source, labels: Sequence[str]) -> None:
    """Check that each of ``data.labels`` and ``data.train_only`` is some training row's."""
    for name in source.labels:
        if name not in labels:
            raise problem(
                _called(source, test=False),
                f"column '{name}'",
                expected="1 in some row, for the model can't learn a label that no row has",
                got="0 in every row",
                fix="leave it out of data.labels, or give rows that have it",
            )
    if unknown := [name for name in source.train_only if name not in labels]:
        raise ConfigError(
            f"data.train_only names {unknown[0]!r}, which is no class of the rows"
            f"{suggest(unknown[0], labels)}"
        )


def _train(source: Source, seed: Seed, sites: int, task: Task, watch: Watch) -> Rows:
    if source.kind == "synthetic":
        return clinical_notes(
            source.rows, sites, seed, label_sets=task.label_sets, style=source.style
        )
    columns, where = _columns(source, task, test=False), source.train or ""
    if source.kind not in ("hub", "folder"):
        return _file(source, where, columns, watch)
    found = _find(source, where, watch)
    if source.holds_out and (others := found.others(source.train_split)):
        logger.warning(
            "%s: of its splits only '%s' is used, of which every site holds out some rows; "
            "data.test_split=%s takes another for the test, as public rows",
            where, source.train_split, others[0] if "test" not in others else "test",
        )  # fmt: skip
    return found.read(source.train_split, columns)


def _test(source: Source, seed: Seed, sites: int, task: Task, watch: Watch) -> Rows | None:
    if source.holds_out:
        return None
    if source.kind == "synthetic":
        return clinical_notes(
            source.test_rows,
            sites,
            seed,
            cohort="test",
            label_sets=task.label_sets,
            style=source.style,
        )
    columns, where = _columns(source, task, test=True), source.test or source.train or ""
    if source.kind in ("hub", "folder"):
        return _find(source, where, watch).read(source.test_split, columns)
    return _file(source, where, columns, watch)


def _columns(source: Source, task: Task, *, test: bool) -> Columns:
    return Columns(
        text=source.text,
        labels=source.labels or (source.label,),
        sets=_sets(source) if task.label_sets else None,
        site=source.site,
        patient=source.patient,
        optional=test,
        missing=source.missing,
    )


def _sets(source: Source) -> LabelSets:
    return LabelSets(flags=source.labels, separator=source.label_separator)


def _called(source: Source, *, test: bool) -> str:
    where = source.test if test and source.test else source.train
    return where or ("the synthetic test rows" if test else "the synthetic rows")


def _find(source: Source, where: str, watch: Watch) -> Found:
    if source.kind == "hub":
        return find_hub(where, source.name, source.revision, source.form, watch)
    with _place(source, where) as path:
        return find_folder(path, where, source.form, watch)


def _file(source: Source, where: str, columns: Columns, watch: Watch) -> Rows:
    with _place(source, where) as path:
        if source.kind == "csv":
            return read_csv(path, where, columns, source.form, watch)
        if source.kind == "jsonl":
            return read_jsonl(path, where, columns, source.form, watch)
        if source.kind == "excel":
            return read_excel(path, where, columns, source.sheet, watch)
        return read_parquet(path, where, columns, watch)


@contextmanager
def _place(source: Source, where: str) -> Iterator[Path]:
    """Give the path, which is of the right kind; errors of the system become one message."""
    path, folder = Path(where).expanduser(), source.kind == "folder"
    here = f" (a relative path starts at the working folder, {Path.cwd()})"
    from_here = "" if path.is_absolute() else here
    try:
        if not path.exists():
            raise problem(
                where,
                "",
                expected=f"a {'folder' if folder else 'file'}",
                got="nothing at that path",
                fix=f"correct data.train or data.test{from_here}",
            )
        if folder != path.is_dir():
            raise problem(
                where,
                "",
                expected=f"a {'folder' if folder else 'file'} for data={source.kind}",
                got="a file" if folder else "a folder",
                fix="set data to the kind it is" if folder else "name the file, or set data=folder",
            )
        yield path
    except OSError as error:
        raise problem(
            where,
            "",
            expected="a file that can be read",
            got=f"an error of the system ({error.strerror or type(error).__name__})",
            fix="check the path and its permissions",
        ) from None
