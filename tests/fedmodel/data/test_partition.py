from collections import Counter
from typing import Any

import pytest

from fedmodel.data import Partition, Rows, clinical_notes, hold_out, site_names, split
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed


def rows(count: int = 120, *, patients: bool = False, sites: int = 3) -> Rows:
    return Rows(
        [f"text {i}" for i in range(count)],
        [f"class {i * i % 5}" for i in range(count)],
        [f"place {i % sites}" for i in range(count)],
        [f"patient {i // 3}" for i in range(count)] if patients else None,
    )


@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("kind", ["natural", "iid", "dirichlet"])
def test_each_row_is_at_one_site(kind: Any, patients: bool) -> None:
    table = rows(patients=patients)
    partition = Partition(kind=kind, sites=3)
    parts = split(table, partition, Seed(1))
    assert Counter(t for part in parts.values() for t in part.texts) == Counter(table.texts)
    assert list(parts) == sorted(parts)
    assert all(len(part) for part in parts.values())
    assert parts == split(table, partition, Seed(1))
    assert (parts == split(table, partition, Seed(2))) == (kind == "natural")


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_patients_stay_together(kind: Any) -> None:
    parts = split(rows(patients=True), Partition(kind=kind, sites=4), Seed(3))
    seen = [set(part.patients or ()) for part in parts.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 40


def test_iid_is_even_and_dirichlet_is_skewed() -> None:
    table = rows(1000)

    def spread(partition: Partition) -> float:
        parts = split(table, partition, Seed(0))
        return max(max(Counter(p.labels).values()) / len(p) for p in parts.values())

    whole = max(Counter(table.labels).values()) / len(table)
    assert spread(Partition(kind="iid", sites=5)) < whole + 0.1
    assert spread(Partition(kind="dirichlet", sites=5, alpha=0.1)) > whole + 0.2
    sizes = {len(p) for p in split(table, Partition(kind="iid", sites=5), Seed(0)).values()}
    assert sizes == {200}


def test_names_sort_by_number() -> None:
    names = site_names(12)
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("site-01", "site-12")
    assert list(split(rows(), Partition(kind="iid", sites=2), Seed(0))) == ["site-1", "site-2"]


def test_natural_needs_the_site_column_and_the_right_number() -> None:
    with pytest.raises(DataError, match=r"data.site=COLUMN, or federation.partition=iid"):
        split(Rows(["a"], ["x"]), Partition(kind="natural", sites=1), Seed(0))
    with pytest.raises(DataError, match=r"federation.sites=5, .* names 3 sites; set .*sites=3"):
        split(rows(), Partition(kind="natural", sites=5), Seed(0))


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_too_little_to_share(kind: Any) -> None:
    with pytest.raises(DataError, match=r"5 sites need at least as many rows, got 4"):
        split(rows(4), Partition(kind=kind, sites=5), Seed(0))
    with pytest.raises(DataError, match=r"5 sites need at least as many patients, got 4"):
        split(rows(12, patients=True), Partition(kind=kind, sites=5), Seed(0))


def test_dirichlet_that_is_too_skewed() -> None:
    with pytest.raises(DataError, match=r"alpha=0.001; raise federation.alpha"):
        split(rows(300), Partition(kind="dirichlet", sites=30, alpha=0.001), Seed(0))


@pytest.mark.parametrize("values", [{"sites": 0}, {"alpha": 0.0}, {"alpha": -1.0}])
def test_partitions_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"federation.{next(iter(values))} must be"):
        Partition(**values)


@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_hold_out(fraction: float, patients: bool) -> None:
    table = rows(patients=patients)
    train, test = hold_out(table, fraction, Seed(5))
    assert Counter((*train.texts, *test.texts)) == Counter(table.texts)
    assert len(train)
    assert abs(len(test) - fraction * len(table)) <= 3
    assert (train, test) == hold_out(table, fraction, Seed(5))
    assert (train, test) != hold_out(table, fraction, Seed(6))
    if patients:
        assert not set(train.patients or ()) & set(test.patients or ())


def test_hold_out_of_notes_divides_no_patient() -> None:
    notes = clinical_notes(300, 2, Seed(0))
    train, test = hold_out(notes, 0.2, Seed(1))
    assert not set(train.patients or ()) & set(test.patients or ())
    assert 0.17 < len(test) / len(notes) < 0.23


def test_hold_out_needs_two() -> None:
    with pytest.raises(DataError, match=r"at least 2 rows at the site, got 1; .*data.test"):
        hold_out(rows(1), 0.2, Seed(0))
    with pytest.raises(DataError, match="at least 2 patients at the site, got 1"):
        hold_out(rows(3, patients=True), 0.2, Seed(0))
    train, test = hold_out(rows(2), 0.9, Seed(0))
    assert (len(train), len(test)) == (1, 1)
    with pytest.raises(ConfigError, match=r"in \(0, 1\), got 1"):
        hold_out(rows(), 1, Seed(0))
