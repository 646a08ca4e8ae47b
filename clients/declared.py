"""Declared numbers of a site: what it says of its rows, and all that its answers may follow from.

They are public, and the site's people write them down: a bracket of sizes, the classes. A row more
or less changes none of them, so nobody learns of one by asking; that the rows keep to them is
checked at the site, for its operator alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fedmodel.data import Rows
from fedmodel.data.headers import settings
from fedmodel.errors import ConfigError, DataError, RefusedError
from fedmodel.job import ProposedPrivacy
from fedmodel.tasks import Label

__all__ = ["Declared", "Mismatch", "bracket_fault", "count_units"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A declared number that the rows don't keep to. It is for the site's operator alone.

    Args:
        key: what is declared.
        declared: its value.
        found: what the rows have. Private.
        grave: whether a promise hangs on it, so that the site may take part in nothing.
    """

    key: str
    declared: str
    found: str
    grave: bool = False

    def __str__(self) -> str:
        return f"{self.key} says {self.declared}, and the rows have {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a site says of its rows. Public.

    Args:
        records: how many rows it has at least and at most, those that it has held out included.
        patients: of how many patients at least and at most they are; ``None`` where rows don't
            name their patient.
        labels: classes that its rows have; ``None``: it doesn't say.
        held_out: whether it has held rows out to test with.

    Raises:
        ConfigError: for a bracket that isn't one.
    """

    records: tuple[int, ...]
    patients: tuple[int, ...] | None = None
    labels: tuple[str, ...] | None = None
    held_out: bool = False

    def __post_init__(self) -> None:
        _check_bracket("declared.records", self.records)
        if self.patients is not None:
            _check_bracket("declared.patients", self.patients)
            if self.patients[0] > self.records[1]:
                raise ConfigError(
                    f"declared.patients={list(self.patients)} are more than the rows can be of "
                    f"(declared.records={list(self.records)})"
                )
        if self.labels is not None and not (self.labels and all(self.labels)):
            raise ConfigError(
                "declared.labels must name the classes that the rows have, or be null where you "
                "don't say"
            )

    @classmethod
    def of(cls, rows: Rows, test: Rows | None = None) -> "Declared":
        """Return exact numbers: for a simulation, which declares them in its sites' stead.

        Args:
            rows: to train on.
            test: held out from them; ``None``: none are.
        """
        parts = _parts(rows, test)
        count = sum(map(len, parts))
        patients = None
        if all(part.patients is not None for part in parts):
            whose = len(_patients(parts))
            patients = (whose, whose)
        labels = tuple(sorted(_labels(parts)))
        return cls(
            records=(count, count),
            patients=patients,
            labels=labels or None,
            held_out=test is not None,
        )

    def most_units(self, privacy: ProposedPrivacy) -> int:
        """Return how many units, by the job's notion, the site has at most.

        Raises:
            RefusedError: when patients are the unit and the site's rows don't name theirs.
        """
        if privacy.unit == "site":
            return 1
        if privacy.unit == "record":
            return self.records[1]
        if self.patients is None:
            raise RefusedError(
                "privacy.unit=patient hides a patient with all rows, so it needs the patient of "
                "each row, and this site's rows have none; set data.patient=COLUMN, or "
                "privacy=record"
            )
        return self.patients[1]

    def mismatches(self, rows: Rows, test: Rows | None = None) -> Iterator[Mismatch]:
        """Yield what the rows don't keep to.

        Args:
            rows: to train on.
            test: held out from them; ``None``: none are.
        """
        parts = _parts(rows, test)
        yield from _beyond("declared.records", self.records, sum(map(len, parts)))
        named = all(part.patients is not None for part in parts)
        if self.patients is not None and not named:
            yield Mismatch(
                key="declared.patients", declared=_range(self.patients), found="none", grave=True
            )
        elif self.patients is not None:
            yield from _beyond("declared.patients", self.patients, len(_patients(parts)))
        if self.held_out and test is None:
            yield Mismatch(key="declared.held_out", declared="true", found="none held out")
        if self.labels is not None:
            found, known = _labels(parts), set(self.labels)
            if more := found - known:
                yield Mismatch(
                    key="declared.labels", declared=f"{len(known)} classes", found=_more(more)
                )
            if missing := sorted(known - found):
                yield Mismatch(
                    key="declared.labels", declared=", ".join(missing[:5]), found="none of them"
                )


def _more(labels: set[str]) -> str:
    return f"{len(labels)} other class{'es' * (len(labels) > 1)}"  # a wrong column's would be texts


def _beyond(key: str, bracket: tuple[int, ...], found: int) -> Iterator[Mismatch]:
    if not bracket[0] <= found <= bracket[1]:
        # With more units than are declared, a δ might be above one in so many.
        grave = found > bracket[1]
        yield Mismatch(key=key, declared=_range(bracket), found=str(found), grave=grave)


def _range(bracket: tuple[int, ...]) -> str:
    return f"{bracket[0]} to {bracket[1]}"


def _check_bracket(key: str, bracket: tuple[int, ...]) -> None:
    if len(bracket) != 2 or not 0 <= bracket[0] <= bracket[1]:
        raise bracket_fault(key, list(bracket))


def bracket_fault(key: str, got: object) -> ConfigError:
    """Return what is wrong with a declared number that isn't a bracket."""
    return ConfigError(
        f"{key} must be two numbers, [at least, at most], such as [500, 2000]; got {got!r:.60}"
    )


def _parts(rows: Rows, test: Rows | None) -> list[Rows]:
    return [rows] if test is None else [rows, test]


def _patients(parts: list[Rows]) -> set[str]:
    return {patient for part in parts for patient in part.patients or ()}


def _labels(parts: list[Rows]) -> set[str]:
    return {name for part in parts for label in part.labels for name in _names(label)}


def _names(label: Label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else label


def count_units(privacy: ProposedPrivacy, *parts: Rows) -> int:
    """Return how many units, by the job's notion, some rows of a site are of. It is private.

    Raises:
        DataError: when patients are the unit and the rows don't name theirs.
    """
    if privacy.unit == "site":
        return 1
    if privacy.unit == "record":
        return sum(map(len, parts))
    unknown = [rows for rows in parts if rows.patients is None]
    if unknown:
        unread = next((rows.unread for rows in unknown if rows.unread), ())
        raise DataError(
            "privacy.unit=patient hides a patient with all rows, so it needs the patient of "
            f"each row, and these rows have none; {settings('patient', unread)}, or privacy=record"
        )
    return len(_patients(list(parts)))
