"""Sets of rows for the accuracy benchmark, each split anew for every seed: as CSV files."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from fedmodel.data.synthetic import clinical_notes
from fedmodel.seeds import Seed

__all__ = ["SETS", "write_set"]

SETS = ("abstracts", "plain", "templated", "patients")
_SITES, _PER_PATIENT = 5, 8
_Row: TypeAlias = dict[str, str]


def write_set(
    name: str, seed: int, folder: Path, size: tuple[int, int], files: tuple[Path, Path] | None
) -> list[str]:
    """Write a set, and return the words of a command line that read it.

    Args:
        name: one of :data:`SETS`.
        seed: of the split; 0 leaves the abstracts' own.
        folder: where to.
        size: made-up rows to train and to test on.
        files: the abstracts' training and test rows, with the columns site, text and label.
    """
    if name == "abstracts":
        if files is None:
            raise ValueError("the abstracts need --train and --test")
        train, test = _resplit(_read(files[0]), _read(files[1]), seed)
    else:
        train, test = _made_up(name, seed, size)
    words = ["data=csv", "data.site=site"]
    for part, rows in (("train", train), ("test", test)):
        path = folder / f"{name}-{seed}-{part}.csv"
        _write(path, rows)
        words.append(f"data.{part}='{path}'")
    return [*words, "data.patient=patient"] if name == "patients" else words


def _made_up(name: str, seed: int, size: tuple[int, int]) -> tuple[list[_Row], list[_Row]]:
    parts: list[list[_Row]] = []
    cohorts: tuple[Literal["train", "test"], ...] = ("train", "test")
    style: Literal["free", "templated"] = "templated" if name == "templated" else "free"
    for count, cohort in zip(size, cohorts, strict=True):
        found = clinical_notes(count, _SITES, Seed(seed), cohort=cohort, style=style)
        rows = zip(found.sites or (), found.texts, found.labels, strict=True)
        parts.append([{"site": s, "text": t, "label": str(y)} for s, t, y in rows])
        if name == "patients":
            _share_patients(parts[-1], cohort)
    return parts[0], parts[1]


def _share_patients(rows: list[_Row], cohort: str) -> None:
    """Make several rows of a site and a class one patient's, who comes with the same complaint."""
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        key = (row["site"], row["label"])
        number = seen[key] // _PER_PATIENT
        row["patient"] = f"{cohort}-{row['site']}-{row['label']}-{number}"
        seen[key] += 1


def _resplit(train: list[_Row], test: list[_Row], seed: int) -> tuple[list[_Row], list[_Row]]:
    """Return a random split of all rows: as many in each part, and at each site."""
    if not seed:
        return train, test
    rows = [*train, *test]
    order = Seed(seed).child("resplit").numpy().permutation(len(rows))
    taken = [{key: rows[i][key] for key in ("text", "label")} for i in order]
    first = [{"site": own["site"], **row} for own, row in zip(train, taken, strict=False)]
    return first, taken[len(train) :]


def _read(path: Path) -> list[_Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def _write(path: Path, rows: Sequence[_Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
