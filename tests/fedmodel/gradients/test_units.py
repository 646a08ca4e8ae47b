"""Rows and patients as units: whole, each once, and no more rows than agreed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.gradients.units import Units
from fedmodel.seeds import Entropy
from tests.examples import examples
from tests.fedmodel.gradients.shapes import any_shape

KEEP = settings(max_examples=examples(80), deadline=None, derandomize=True)


@st.composite
def sites(draw: st.DrawFn) -> tuple[list[int], list[str], list[int]]:
    """Return lengths, patients and drawn patients."""
    patients = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=25))
    lengths = [draw(st.integers(1, 50)) for _ in patients]
    known = len(set(patients))
    drawn = draw(st.lists(st.integers(0, known - 1), unique=True, max_size=known))
    return lengths, patients, sorted(drawn)


@pytest.mark.long
@KEEP
@given(sites(), st.integers(1, 9), st.integers(1, 6))
def test_a_patient_is_in_one_batch_whole(
    site: tuple[list[int], list[str], list[int]], size: int, limit: int
) -> None:
    lengths, patients, drawn = site
    units = Units(np.array(lengths), patients)
    names = list(dict.fromkeys(patients))
    assert len(units) == len(names)
    batches = list(
        units.batches(np.array(drawn, dtype=np.int64), limit, Entropy(), any_shape(size))
    )
    seen: list[str] = []
    for batch in batches:
        assert batch.count == len(set(batch.unit)) == int(batch.unit.max()) + 1
        assert len(batch.rows) <= size or batch.count == 1
        assert len(set(batch.rows.tolist())) == len(batch.rows)
        for unit in range(batch.count):
            rows = batch.rows[batch.unit == unit]
            (name,) = {patients[i] for i in rows}
            seen.append(name)
            assert len(rows) == min(limit, patients.count(name))
    assert sorted(seen) == sorted(names[u] for u in drawn)


@pytest.mark.long
@KEEP
@given(st.lists(st.integers(1, 50), min_size=1, max_size=25), st.integers(1, 9), st.data())
def test_a_row_is_in_one_batch(lengths: list[int], size: int, data: Any) -> None:
    units = Units(np.array(lengths), None)
    rows = st.lists(st.integers(0, len(lengths) - 1), unique=True)
    drawn = np.array(sorted(data.draw(rows)), dtype=np.int64)
    batches = list(units.batches(drawn, 1, Entropy(), any_shape(size)))
    joined = [int(i) for batch in batches for i in batch.rows]
    assert sorted(joined) == drawn.tolist()
    assert [lengths[i] for i in joined] == sorted(lengths[i] for i in drawn)
    for batch in batches:
        assert batch.unit.tolist() == list(range(batch.count))
        assert 0 < batch.count == len(batch.rows) <= size
    assert len(units) == len(lengths)


def test_a_patients_rows_all_have_their_turn() -> None:
    units = Units(np.full(6, 3), ["a", "b", "a", "a", "a", "a"])
    seen = np.zeros(6)
    for _ in range(400):
        for batch in units.batches(np.array([0, 1]), 2, Entropy(), any_shape(8)):
            seen[batch.rows] += 1
    assert seen[1] == 400
    assert (np.abs(seen[[0, 2, 3, 4, 5]] - 160) < 50).all()  # 400 · 2/5; five standard errors


@pytest.mark.parametrize("patients", [None, ["a", "b"]])
def test_nobody_drawn_is_no_batch_and_nothing_shows_in_a_repr(patients: Any) -> None:
    units = Units(np.array([3, 4]), patients)
    assert list(units.batches(np.array([], dtype=np.int64), 2, Entropy(), any_shape(4))) == []
    assert repr(units) == "Units(…)"
