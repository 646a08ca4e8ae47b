"""What is asked of ``serve``: where the coordinator is at home, and how it goes about a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fedmodel import config
from fedmodel.data import Source
from fedmodel.errors import ConfigError
from fedmodel.job.proposal import group
from fedmodel.logs import LogForm

__all__ = ["ANEW", "Ask", "Sizes", "TestRows"]

_FAST = ("rows", "test_rows")  # what debug=fast says of a simulation's rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the sites declare of their rows, as far as a job follows from it.

    Args:
        units: at most so many rows or patients, at each site of the roster in its order, or one
            number for all.
        rows: at most so many rows at any site; ``None``: as units.
    """

    units: tuple[int, ...] | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        for name, numbers in (("units", self.units or ()), ("rows", (self.rows,))):
            if any(each is not None and each < 1 for each in numbers):
                raise ConfigError(f"declared.{name} must be 1 or more, got {list(numbers)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRows:
    """Where public test rows are: see :class:`fedmodel.data.Source`, whose words these are.

    Args:
        test: file, folder or hub id; ``None``: there are none.
        kind: of file, or where.
        name: configuration of a hub dataset.
        revision: of a hub dataset.
        split: of a folder or hub dataset.
        text: column.
        label: column.
        label_separator: between several labels in a cell.
        labels: columns of 0 and 1, in place of ``label``.
        separator: of a CSV file.
        encoding: of a file of text.
        sheet: of a workbook.
        missing: what becomes of a row with an empty cell.
    """

    __test__ = False  # pytest takes it for tests otherwise

    test: str | None = None
    kind: Literal["csv", "jsonl", "parquet", "excel", "folder", "hub"] = "csv"
    name: str | None = None
    revision: str | None = None
    split: str = "test"
    text: str = "text"
    label: str = "label"
    label_separator: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    missing: Literal["refuse", "drop"] = "refuse"

    def source(self) -> Source | None:
        """Return the source that they make; ``None`` where there are none.

        Raises:
            ConfigError: for keys that don't go together.
        """
        if self.test is None:
            return None
        alike = ("kind", "name", "revision", "text", "label", "label_separator", "labels")
        same: dict[str, Any] = {
            key: getattr(self, key) for key in (*alike, "separator", "encoding", "sheet", "missing")
        }
        if self.kind in ("folder", "hub"):
            return Source(train=self.test, train_split=self.split, test_split=self.split, **same)
        return Source(train=self.test, test=self.test, **same)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        home: folder of the coordinator's keys.
        job: file of a whole job; one of keys has been read before.
        roster: file of a newer one.
        passphrase: where one is read; never one itself.
        listen: address and port.
        check: only show what would be asked of the sites.
        run: name or path of the run folder.
        resume: go on with a run where it was begun.
        purpose: of the run, for the sites' people.
        wait: seconds to wait for as many sites as the run needs; ``None``: for ever.
        grace: seconds that a site may be away.
        deadline: seconds for a site's answer.
        format: of the log.
        exclude: names of sites that are left out.
        declared: by the sites.
        data: public test rows.
    """

    home: str
    job: str | None = None
    roster: str | None = None
    passphrase: str | None = None
    listen: str = "0.0.0.0:8443"
    check: bool = False
    run: str | None = None
    resume: bool = False
    purpose: str = ""
    wait: float | None = None
    grace: float = 60.0
    deadline: float = 3600.0
    format: LogForm = "lines"
    exclude: tuple[str, ...] = ()
    declared: Sizes = field(default_factory=Sizes)
    data: TestRows = field(default_factory=TestRows)

    def __post_init__(self) -> None:
        host, _, port = self.listen.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ConfigError(
                f"listen must be an address and a port, such as 0.0.0.0:8443, got "
                f"{self.listen!r:.100}"
            )
        for name in ("wait", "grace", "deadline"):
            seconds = getattr(self, name)
            if seconds is not None and not (seconds > 0 or (name != "deadline" and seconds == 0)):
                raise ConfigError(f"{name} must be seconds, got {seconds}")
        if self.resume and self.run is None:
            raise ConfigError("resume=true needs run=<the run's name or folder>")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Ask":
        """Return what a composed configuration asks.

        Raises:
            ConfigError: for a missing or wrong value.
        """
        if mapping.get("home") is None:
            raise ConfigError(
                "serve needs home=<the coordinator's folder>; fedmodel provision role=coordinator "
                "makes one"
            )
        known = {each.name for each in fields(cls)}
        said = {key: value for key, value in mapping.items() if key in known}
        sizes = dict(group(mapping, "declared"))
        if isinstance(sizes.get("units"), int):
            sizes["units"] = [sizes["units"]]
        rows = {k: v for k, v in group(mapping, "data").items() if k not in _FAST}
        exclude = group(mapping, "federation").get("exclude", ())
        build = config.build
        return build(
            cls,
            {
                **said,
                "exclude": build(_Excluded, {"exclude": exclude}, "federation").exclude,
                "declared": build(Sizes, sizes, "declared"),
                "data": build(TestRows, rows, "data"),
            },
        )

    @property
    def folder(self) -> Path:
        """The coordinator's folder."""
        return Path(self.home).expanduser()

    @property
    def whole_job(self) -> Path | None:
        """File of a whole job; ``None`` where keys make it."""
        path = None if self.job is None else Path(self.job).expanduser()
        return path if path is not None and path.suffix == ".json" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Excluded:
    exclude: tuple[str, ...] = ()


# What a resume may set anew: where and how the run goes on, not what it is.
ANEW = frozenset(
    [
        *("home", "job", "roster", "passphrase", "listen", "check", "run", "resume", "purpose"),
        *("wait", "grace", "deadline", "format", "federation.exclude"),
        *("device", "train.physical_batch", "train.gradient_checkpointing", "privacy.engine"),
    ]
)
