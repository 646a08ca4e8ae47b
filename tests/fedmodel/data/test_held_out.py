"""Rows held out at all sites: accepted whatever the seed, and no row moves another that needn't."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.data import Rows, hold_out, hold_out_everywhere
from fedmodel.errors import DataError
from fedmodel.seeds import Seed

# The patients of each site's rows.
FEW = st.dictionaries(
    st.sampled_from("ABC"), st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1
)


def table(patients: Mapping[str, list[int]], label: str = "x") -> dict[str, Rows]:
    return {
        name: Rows(
            [f"{name} {i}" for i in range(len(own))],
            [label] * len(own),
            None,
            [f"{name}{patient}" for patient in own],
        )
        for name, own in patients.items()
    }


@pytest.mark.long
@given(FEW, st.integers(0, 99), st.sampled_from([1e-9, 0.2, 0.9]), st.booleans())
def test_no_seed_decides_whether_rows_will_do(
    patients: dict[str, list[int]], seed: int, fraction: float, each_trains: bool
) -> None:
    sites = table(patients)
    several = any(len(set(own)) > 1 for own in patients.values())
    if not several and (each_trains or len(sites) == 1):
        if each_trains:
            with pytest.raises(DataError, match="no site can hold out a row"):
                hold_out_everywhere(sites, fraction, Seed(seed), each_trains=True)
        return
    drawn = hold_out_everywhere(sites, fraction, Seed(seed), each_trains=each_trains)
    assert any(map(len, drawn.test.values()))
    assert any(map(len, drawn.train.values()))
    if each_trains:
        assert all(map(len, drawn.train.values()))
    for name, rows in sites.items():
        train, test = drawn.train[name], drawn.test[name]
        assert sorted([*train.texts, *test.texts]) == sorted(rows.texts)
        assert not set(train.patients or ()) & set(test.patients or ())
        alone = hold_out(rows, fraction, Seed(seed).child("test", name))
        apart = set(train.patients or ()) ^ set(alone[0].patients or ())
        assert len(apart) == (name in drawn.moved)  # one patient, and only where it is said


@pytest.mark.long
@given(FEW, st.integers(0, 99), st.sampled_from([0.3, 0.7]), st.booleans(), st.integers(0, 20))
def test_one_row_more_moves_no_other_but_where_it_is_said(
    patients: dict[str, list[int]], seed: int, fraction: float, each_trains: bool, which: int
) -> None:
    whole = table(patients)
    name = sorted(whole)[which % len(whole)]
    rows = whole[name]
    less = {**whole, name: rows.select(i for i in range(len(rows)) if i != which % len(rows))}
    try:
        one, other = (
            hold_out_everywhere(sites, fraction, Seed(seed), each_trains=each_trains)
            for sites in (whole, less)
        )
    except DataError:
        return
    moved = {*one.moved, *other.moved}
    if not each_trains and moved:  # all rows of all sites fell on one side
        return
    for site in whole:
        for side in ("train", "test"):
            gone = {*getattr(one, side)[site].texts} ^ {*getattr(other, side)[site].texts}
            assert site in moved or gone <= {rows.texts[which % len(rows)]}


def test_with_privacy_a_site_may_be_left_with_nothing_to_train_on() -> None:
    sites = table({"A": list(range(30)), "B": [1, 1, 1]})
    found = set()
    for seed in range(40):
        drawn = hold_out_everywhere(sites, 0.5, Seed(seed), each_trains=False)
        assert not drawn.moved
        found.add(len(drawn.train["B"]))
    assert found == {0, 3}


def test_classes_that_are_never_held_out_leave_something_to_train_on() -> None:
    sites = table({"A": [1, 2]}, "x") | table({"B": [1, 2]}, "y")
    for seed in range(20):
        drawn = hold_out_everywhere(sites, 0.9, Seed(seed), ("x",), each_trains=True)
        assert len(drawn.test["A"]) == 0
        # Nobody else has a test row, and one is left to train on.
        assert (len(drawn.train["B"]), len(drawn.test["B"])) == (1, 1)
    with pytest.raises(DataError, match=r"data\.train_only names all classes"):
        hold_out_everywhere(sites, 0.9, Seed(0), ("x", "y"), each_trains=True)


def test_each_patient_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, child = [], Seed.child

    def counted(seed: Seed, *path: str | int) -> Seed:
        drawn.append(path)
        return child(seed, *path)

    monkeypatch.setattr(Seed, "child", counted)
    sites = table({"A": list(range(500)), "B": list(range(300))})
    # Nothing falls among the test rows, and one is found without trying again.
    found = hold_out_everywhere(sites, 1e-12, Seed(1), each_trains=True)
    assert len(drawn) == 800 + 2
    assert sum(map(len, found.test.values())) == 1


@pytest.mark.sample(2)
@pytest.mark.parametrize("seed", range(5))
def test_the_one_that_is_moved_had_fallen_most_narrowly(seed: int) -> None:
    """With a share that is a little larger or smaller nothing had to be moved."""
    sites = table({"A": list(range(6)), "B": list(range(4))})

    def sides(share: float) -> list[tuple[Rows, Rows]]:
        own = {name: Seed(seed).child("test", name) for name in sites}
        return [hold_out(rows, share, own[name]) for name, rows in sites.items()]

    shares = [i / 2000 for i in range(1, 2000)]
    few = next(found for found in map(sides, shares) if any(len(test) for _, test in found))
    least = hold_out_everywhere(sites, 1e-12, Seed(seed), each_trains=True)
    assert [list(test.texts) for _, test in few] == [list(t.texts) for t in least.test.values()]
    most = hold_out_everywhere(sites, 1 - 1e-12, Seed(seed), each_trains=True)
    for place, name in enumerate(sites):
        some = (sides(share)[place][0] for share in reversed(shares))
        assert next(train.texts for train in some if len(train)) == most.train[name].texts


def test_a_row_goes_by_its_own_label_where_its_patient_is_held_out() -> None:
    rows = Rows(["one", "two", "three"], ["x", "y", "x"], None, ["P", "P", "Q"])
    for seed in range(20):
        train, test = hold_out(rows, 0.9, Seed(seed), ("x",))
        assert {"one", "three"} <= set(train.texts)
        assert set(test.texts) <= {"two"}
