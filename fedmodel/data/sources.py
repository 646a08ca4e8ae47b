"""Sources of rows: files, folders, the hub, or made up.

Every fault in a file is one ``DataError`` that names the file, the row (counted from 1, without the
header) and what to do, and never shows the text of a row.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmodel.data.columns import Columns, problem, shown
from fedmodel.data.label_sets import LabelSets
from fedmodel.data.opened import Form
from fedmodel.data.read_csv import read_csv
from fedmodel.data.read_datasets import Found, find_folder, find_hub
from fedmodel.data.read_excel import read_excel
from fedmodel.data.read_jsonl import read_jsonl
from fedmodel.data.read_parquet import read_parquet
from fedmodel.data.rows import Rows
from fedmodel.data.synthetic import clinical_notes
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed
from fedmodel.tasks import Task, in_order

logger = logging.getLogger(__name__)

__all__ = ["Source", "Tables", "check_site", "check_test", "labels_of", "load"]


_KINDS = {
    "separator": ("csv", "folder", "hub"),
    "encoding": ("csv", "jsonl", "folder", "hub"),
    "sheet": ("excel",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the rows are.

    Args:
        kind: ``csv``, ``jsonl``, ``parquet``, ``excel``, ``folder`` (of ``save_to_disk``, or of
            files that ``load_dataset`` understands), ``hub``, or ``synthetic`` (made-up notes).
        train: path of the file or folder, or the hub id.
        test: path of the test file or folder. Without one, each site holds out rows of its own.
        name: configuration of a hub dataset that has several.
        revision: commit, tag or branch of a hub dataset.
        train_split: split to train on, of a folder or hub dataset.
        test_split: split to test on, of a folder or hub dataset.
        text: column of the text.
        label: column of the label.
        label_separator: what stands between several labels in one cell of that column, for tasks
            with sets of labels; a column of lists needs none.
        labels: columns of 0 and 1, one for each label, instead of ``label``.
        site: column of the site.
        patient: column of the patient.
        separator: between the values of a CSV file, see :class:`~fedmodel.data.opened.Form`.
        encoding: of a file of text; ``None``: UTF-8.
        sheet: of a workbook; ``None``: the first one that has a value.
        missing: whether a row without a text, label, site or patient is refused, with the whole
            file, or left out.
        test_fraction: share of its rows that a site holds out when there is no test file.
        train_only: classes of which a site holds nothing out.
        rows: how many synthetic rows.
        test_rows: how many synthetic test rows, of other patients; 0: hold out instead.
    """

    kind: Literal["csv", "jsonl", "parquet", "excel", "folder", "hub", "synthetic"] = "synthetic"
    train: str | None = None
    test: str | None = None
    name: str | None = None
    revision: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    text: str = "text"
    label: str = "label"
    label_separator: str | None = None
    labels: tuple[str, ...] = ()
    site: str | None = None
    patient: str | None = None
    separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    missing: Literal["refuse", "drop"] = "refuse"
    test_fraction: float = 0.2
    train_only: tuple[str, ...] = ()
    rows: int = 6000
    test_rows: int = 1500

    def __post_init__(self) -> None:
        if self.kind != "synthetic" and not self.train:
            what = "hub id" if self.kind == "hub" else "path"
            raise ConfigError(f"data={self.kind} needs data.train=<{what}>")
        if self.kind == "hub" and self.test:
            raise ConfigError("data=hub takes its test rows from data.test_split, not data.test")
        self._check_labels()
        self._check_form()
        if not 0 < self.test_fraction < 1:
            raise ConfigError(f"data.test_fraction must be in (0, 1), got {self.test_fraction}")
        if self.rows < 1:
            raise ConfigError(f"data.rows must be at least 1, got {self.rows}")
        if self.test_rows < 0:
            raise ConfigError(f"data.test_rows must not be negative, got {self.test_rows}")

    @property
    def form(self) -> Form:
        """How files of text are written."""
        return Form(separator=self.separator, encoding=self.encoding)

    @property
    def holds_out(self) -> bool:
        """Whether each site holds out rows of its own."""
        if self.kind == "synthetic":
            return not self.test_rows
        return self.test is None and (self.kind not in ("folder", "hub") or not self.test_split)

    def _check_form(self) -> None:
        self.form  # noqa: B018 (it checks itself)
        for key, kinds in _KINDS.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ConfigError(
                    f"data.{key} is for data={'|'.join(kinds)} and has no effect with "
                    f"data={self.kind}; leave it out"
                )
        if self.train_only and not self.holds_out:
            raise ConfigError(
                "data.train_only says what a site doesn't hold out, but the test rows come from "
                "elsewhere; leave it out, or leave the test rows out"
            )

    def _check_labels(self) -> None:
        if self.text in (self.labels or (self.label,)):
            name = "data.labels" if self.labels else "data.label"
            raise ConfigError(
                f"data.text and {name} must be different columns, got '{self.text}' for both"
            )
        if len(set(self.labels)) < len(self.labels):
            raise ConfigError(f"data.labels must differ from one another, got {list(self.labels)}")
        if self.kind == "synthetic" and (self.labels or self.label_separator is not None):
            raise ConfigError(
                "data.labels and data.label_separator say where a file has its labels; made-up "
                "notes (data=synthetic) bring their own: leave them out"
            )
        if self.label_separator == "":
            raise ConfigError("data.label_separator must be null or text, got an empty one")
        if self.labels and self.label_separator is not None:
            raise ConfigError(
                "labels stand in one column with data.label_separator, or in columns of their own "
                "with data.labels; leave one of the two out"
            )


@dataclass(frozen=True, slots=True)
class Tables:
    """What was loaded; ``test`` is None where every site holds out rows of its own."""

    train: Rows
    test: Rows | None


def load(source: Source, seed: Seed, sites: int, task: Task) -> Tables:
    """Load the training rows and, where there are any, the test rows.

    Args:
        source: where they are.
        seed: of synthetic rows.
        sites: how many sites synthetic rows come from.
        task: says what a row's label is.

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
    train = _train(source, seed, sites, task)
    labels = labels_of(train, task, name=_called(source, test=False))
    _check_all_used(source, labels)
    if source.label_separator is not None and all(len(label) < 2 for label in train.labels):
        logger.warning(
            "data.label_separator=%r stands in no cell of column '%s': every row has at most one "
            "label. If there are several, give what stands between them",
            source.label_separator,
            source.label,
        )
    test = _test(source, seed, sites, task)
    if test is not None:
        check_test(test, labels, task, name=_called(source, test=True))
    return Tables(train, test)


def labels_of(train: Rows, task: Task, *, name: str = "the training rows") -> tuple[str, ...]:
    """Return the names that rows are labelled with, in order: a job's labels.

    Args:
        train: the training rows.
        task: says what a row's label is.
        name: what the message calls them.

    Raises:
        DataError: if there are fewer than the task needs, or a label is of another kind.
    """
    labels = in_order(task.vocabulary(train.labels))
    if len(labels) < task.fewest_labels:
        got = f"one class in all {len(train)} rows: {shown(labels[0])}" if labels else "no label"
        raise problem(
            name,
            "",
            expected=f"at least {task.fewest_labels} class{'es' * (task.fewest_labels > 1)}",
            got=got if len(train) else "no rows",
            fix="set data.label to the column of the label, or give rows of other classes",
        )
    return labels


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
                got=f"{shown(label)} ({rows} test rows have it)",
                fix="correct the label, remove these rows or train on such rows too",
            )


def _check_all_used(source: Source, labels: Sequence[str]) -> None:
    """Check that each of ``data.labels`` is some training row's."""
    for name in source.labels:
        if name not in labels:
            raise problem(
                _called(source, test=False),
                f"column '{name}'",
                expected="1 in some row, for the model can't learn a label that no row has",
                got="0 in every row",
                fix="leave it out of data.labels, or give rows that have it",
            )


def check_site(name: str, rows: Rows, batch_size: int) -> None:
    """Check that a site has the rows for one batch.

    Args:
        name: the site.
        rows: its training rows.
        batch_size: rows in a step.

    Raises:
        DataError: if it has fewer.
    """
    if len(rows) < batch_size:
        raise DataError(
            f"site '{name}': expected at least {batch_size} training rows for one batch, got "
            f"{len(rows)}; set train.batch_size={max(1, len(rows))} or lower, give the site more "
            "rows, or take fewer sites"
        )


def _train(source: Source, seed: Seed, sites: int, task: Task) -> Rows:
    if source.kind == "synthetic":
        return clinical_notes(source.rows, sites, seed, label_sets=task.label_sets)
    columns, where = _columns(source, task, test=False), source.train or ""
    if source.kind not in ("hub", "folder"):
        return _file(source, where, columns)
    found = _find(source, where)
    if source.holds_out and (others := found.others(source.train_split)):
        logger.warning(
            "%s: of its splits only '%s' is used, of which every site holds out some rows; "
            "data.test_split=%s takes another for the test, as public rows",
            where, source.train_split, others[0] if "test" not in others else "test",
        )  # fmt: skip
    return found.read(source.train_split, columns)


def _test(source: Source, seed: Seed, sites: int, task: Task) -> Rows | None:
    if source.holds_out:
        return None
    if source.kind == "synthetic":
        return clinical_notes(
            source.test_rows, sites, seed, cohort="test", label_sets=task.label_sets
        )
    columns, where = _columns(source, task, test=True), source.test or source.train or ""
    if source.kind in ("hub", "folder"):
        return _find(source, where).read(source.test_split, columns)
    return _file(source, where, columns)


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


def _find(source: Source, where: str) -> Found:
    if source.kind == "hub":
        return find_hub(where, source.name, source.revision, source.form)
    with _place(source, where) as path:
        return find_folder(path, where, source.form)


def _file(source: Source, where: str, columns: Columns) -> Rows:
    with _place(source, where) as path:
        if source.kind == "csv":
            return read_csv(path, where, columns, source.form)
        if source.kind == "jsonl":
            return read_jsonl(path, where, columns, source.form)
        if source.kind == "excel":
            return read_excel(path, where, columns, source.sheet)
        return read_parquet(path, where, columns)


@contextmanager
def _place(source: Source, where: str) -> Iterator[Path]:
    """Give the path, which is of the right kind; errors of the system become one message."""
    path, folder = Path(where).expanduser(), source.kind == "folder"
    try:
        if not path.exists():
            raise problem(
                where,
                "",
                expected=f"a {'folder' if folder else 'file'}",
                got="nothing at that path",
                fix="correct data.train or data.test (a relative path starts at the working "
                f"folder, {Path.cwd()})",
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
