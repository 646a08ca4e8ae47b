"""The source of rows: what somebody says of where they are, checked as it is made."""

from dataclasses import dataclass
from typing import Literal

from fedmodel.data.opened import Form, mark
from fedmodel.errors import ConfigError

__all__ = ["Source"]

# Where a key has an effect.
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
        label_separator: what stands between several labels in one cell of that column, or a word
            for it, for tasks with sets of labels; a column of lists needs none.
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
        style: of synthetic rows: ``free``, each site in words of its own, or ``templated``, the
            fields of one form as sentences.
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
    style: Literal["free", "templated"] = "free"

    def __post_init__(self) -> None:
        self._check_marks()
        if self.kind != "synthetic" and not self.train:
            what = "hub id" if self.kind == "hub" else "path"
            raise ConfigError(f"data={self.kind} needs data.train=<{what}>")
        if self.kind == "hub" and self.test:
            raise ConfigError("data=hub takes its test rows from data.test_split, not data.test")
        self._check_labels()
        self._check_kinds()
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

    def _check_marks(self) -> None:
        # Before all else: where a shell has ended the command at a mark, what follows is lacking.
        self.form  # noqa: B018 (it checks itself)
        if self.label_separator is not None:
            if not self.label_separator:
                raise ConfigError(
                    "data.label_separator must be null or text, got an empty one. A shell ends a "
                    "command at ; or |, unless they are in quotes: write "
                    "data.label_separator=semicolon, bar, comma or tab"
                )
            object.__setattr__(self, "label_separator", mark(self.label_separator))

    def _check_kinds(self) -> None:
        for key, kinds in _KINDS.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                forgot = self.kind == "synthetic" and self.train is not None
                raise ConfigError(
                    f"data.{key} is for data={'|'.join(kinds)} and has no effect with "
                    f"data={self.kind}; {'choose one of them' if forgot else 'leave it out'}"
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
        if self.labels and self.label_separator is not None:
            raise ConfigError(
                "labels stand in one column with data.label_separator, or in columns of their own "
                "with data.labels; leave one of the two out"
            )
