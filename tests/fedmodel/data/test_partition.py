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


@pytest.mark.sample(3)
@pytest.mark.long
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
    for others, says in (
        ((), r"got none; set data\.site=COLUMN, or federation\.partition=iid"),
        (("dx_code", "site"), r"got none; perhaps data\.site=site, or"),
        (("Klinik", "dose"), r"perhaps data\.site=Klinik, or"),
        (("stie", "age"), r"perhaps data\.site=stie, or"),
        (("age", "she came at night and was seen"), r"COLUMN \(there are also the columns: age\)"),
    ):
        with pytest.raises(DataError, match=says):
            split(Rows(["a"], ["x"], unread=others), Partition(kind="natural"), Seed(0))
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
    table = rows(1200, patients=patients)
    train, test = hold_out(table, fraction, Seed(5))
    assert Counter((*train.texts, *test.texts)) == Counter(table.texts)
    units = 400 if patients else 1200
    spread = 4 * (fraction * (1 - fraction) / units) ** 0.5
    assert abs(len(test) / len(table) - fraction) <= spread
    assert (train, test) == hold_out(table, fraction, Seed(5))
    assert (train, test) != hold_out(table, fraction, Seed(6))
    if patients:
        assert not set(train.patients or ()) & set(test.patients or ())


@pytest.mark.parametrize("patients", [False, True])
def test_one_row_more_moves_no_other(patients: bool) -> None:
    # Else hiding one row's presence on one side would say nothing about its effect on the other.
    table = rows(patients=patients)
    whole = [set(part.texts) for part in hold_out(table, 0.3, Seed(5))]
    for left_out in range(len(table)):
        less = hold_out(table.select(i for i in range(120) if i != left_out), 0.3, Seed(5))
        gone = [side - set(part.texts) for side, part in zip(whole, less, strict=True)]
        assert sorted(map(len, gone)) == [0, 1]
        assert not any(set(part.texts) - side for side, part in zip(whole, less, strict=True))


def test_a_patient_more_moves_no_other_and_all_of_theirs_go_one_way() -> None:
    table = rows(patients=True)
    more = Rows.concat(
        [table, Rows([f"new {i}" for i in range(9)], ["x"] * 9, ["place 0"] * 9, ["new"] * 9)]
    )
    one, other = hold_out(table, 0.3, Seed(5)), hold_out(more, 0.3, Seed(5))
    grown = sorted(len(b) - len(a) for a, b in zip(one, other, strict=True))
    assert grown == [0, 9]
    assert all(set(a.texts) <= set(b.texts) for a, b in zip(one, other, strict=True))


def test_the_same_text_twice_is_not_trained_and_tested_on() -> None:
    table = Rows([f"text {i % 40}" for i in range(120)], ["x"] * 120)
    train, test = hold_out(table, 0.5, Seed(5))
    assert len(train)
    assert len(test)
    assert not set(train.texts) & set(test.texts)


def test_hold_out_of_notes_divides_no_patient() -> None:
    notes = clinical_notes(900, 2, Seed(0))
    train, test = hold_out(notes, 0.2, Seed(1))
    assert not set(train.patients or ()) & set(test.patients or ())
    assert 0.15 < len(test) / len(notes) < 0.25


def test_a_side_can_be_empty() -> None:
    # Moving a row there would be the one case in which it depended on others.
    found = {tuple(map(len, hold_out(Rows([f"text {i}"], ["x"]), 0.5, Seed(0)))) for i in range(20)}
    assert found == {(0, 1), (1, 0)}
    with pytest.raises(ConfigError, match=r"in \(0, 1\), got 1"):
        hold_out(rows(), 1, Seed(0))


@pytest.mark.parametrize("patients", [False, True])
def test_classes_that_are_never_held_out(patients: bool) -> None:
    table = rows(900, patients=patients)
    train, test = hold_out(table, 0.5, Seed(5), ("class 0", "no such"))
    assert "class 0" not in test.labels
    assert sum(label == "class 0" for label in train.labels) == 180
    # The others lie where they would lie anyhow.
    plain = hold_out(table, 0.5, Seed(5))[1]
    assert test == plain.select(i for i, label in enumerate(plain.labels) if label != "class 0")


@pytest.mark.parametrize("patients", [False, True])
def test_one_row_more_moves_no_other_whatever_is_never_held_out(patients: bool) -> None:
    table = rows(patients=patients)
    # One of each text and label twice, and a text with two labels.
    table = Rows.concat([table, table.select([0, 1]), table.select([5])])
    for left_out in range(len(table)):
        less = table.select(i for i in range(len(table)) if i != left_out)
        whole, part = (hold_out(t, 0.3, Seed(5), ("class 1",)) for t in (table, less))
        for one, other in zip(whole, part, strict=True):
            gone = Counter(zip(one.texts, one.labels, strict=True))
            gone.subtract(Counter(zip(other.texts, other.labels, strict=True)))
            assert all(count >= 0 for count in gone.values())
        assert sum(map(len, whole)) == sum(map(len, part)) + 1


def test_sets_of_labels_with_one_that_is_never_held_out() -> None:
    table = Rows([f"text {i}" for i in range(90)], [("a", "b"), ("b",), ()] * 30)
    train, test = hold_out(table, 0.5, Seed(1), ("a",))
    assert set(test.labels) == {("b",), ()}
    assert train.labels.count(("a", "b")) == 30
