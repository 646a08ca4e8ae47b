"""Rows of the units that were drawn: each unit once and whole, and of a patient any as likely."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.gradients.units import Units
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy
from tests.examples import examples
from tests.fedmodel.gradients.shapes import any_shape
from tests.fedmodel.training.test_neighbours import Own


@pytest.mark.long
@settings(max_examples=examples(60), deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(1, 16)), max_size=40),
    st.booleans(),
    st.integers(1, 9),
    st.integers(1, 8),
    st.data(),
)
def test_batches_cover_the_drawn_units_once_and_whole(
    rows: list[tuple[str, int]], by_patient: bool, size: int, limit: int, data: Any
) -> None:
    whose = [name if by_patient else str(i) for i, (name, _) in enumerate(rows)]
    lengths = np.array([length for _, length in rows], dtype=np.int64)
    units = Units(lengths, whose if by_patient else None)
    known = list(dict.fromkeys(whose))
    assert len(units) == len(known)
    kept = data.draw(st.lists(st.booleans(), min_size=len(known), max_size=len(known)))
    drawn = np.flatnonzero(np.array(kept, dtype=bool))
    batches = list(units.batches(drawn, limit, Own("rows"), any_shape(size)))
    seen: list[str] = []
    for batch in batches:
        assert set(batch.unit.tolist()) == set(range(batch.count))
        assert len(batch.rows) <= size or batch.count == 1
        for unit in range(batch.count):
            own = batch.rows[batch.unit == unit].tolist()
            (name,) = {whose[i] for i in own}
            assert len(own) == len(set(own)) == min(limit, whose.count(name))
            seen.append(name)
    assert Counter(seen) == Counter(known[unit] for unit in drawn)


def _chi_square(seen: Counter[Any], cells: int) -> float:
    assert len(seen) == cells
    expected = seen.total() / cells
    return sum((count - expected) ** 2 / expected for count in seen.values())


@pytest.mark.long
def test_every_choice_of_a_patients_rows_is_as_likely(fake: Entropy) -> None:
    rows = np.array([3, 5, 6, 8, 9, 11])
    for limit, cells, critical in ((1, 6, 20.5), (2, 15, 36.1), (3, 20, 43.8), (5, 6, 20.5)):
        seen = Counter(tuple(sampling.choose(fake, rows, limit)) for _ in range(1500))
        assert _chi_square(seen, cells) < critical  # which 1 in 1000 exceed
        assert all(list(found) == sorted(found) for found in seen)


@pytest.mark.long
def test_a_patients_rows_are_chosen_without_regard_to_anothers(fake: Entropy) -> None:
    units = Units(np.full(7, 3), list("ppqqpqs"))
    seen: Counter[Any] = Counter()
    for _ in range(1500):
        batches = units.batches(np.arange(3), 1, fake, any_shape(64))
        seen[tuple(sorted(int(row) for batch in batches for row in batch.rows))] += 1
    assert _chi_square(seen, 9) < 26.1  # which 1 in 1000 exceed
