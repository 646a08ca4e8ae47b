"""Shapes of passes: every unit in one of them, as wide as its own length says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.gradients.shapes import Shapes, ladder, widths
from tests.examples import examples

KEEP = settings(max_examples=examples(200), deadline=None, derandomize=True)


@pytest.mark.long
@KEEP
@given(st.lists(st.integers(1, 600), min_size=1, max_size=30), st.integers(2, 512))
def test_a_rows_width_hangs_on_its_own_length_alone(lengths: list[int], longest: int) -> None:
    kept = np.minimum(np.array(lengths), longest)
    found = widths(kept, longest)
    assert (found >= kept).all()
    assert (found <= longest).all()
    assert [int(widths(kept[i : i + 1], longest)[0]) for i in range(len(kept))] == found.tolist()
    # At most 15 tokens, or a quarter of the row, are padding.
    assert (found - kept <= np.maximum(15, kept // 4)).all()


@pytest.mark.long
@KEEP
@given(
    st.integers(1, 300),
    st.integers(0, 200),
    st.integers(1, 40),
    st.integers(1, 64),
    st.sampled_from([(1, 1), (1, 16), (2, 64), (4, 32), (64, 64)]),
    st.sampled_from([1 << 9, 1 << 14]),
)
def test_all_units_are_computed_in_proven_shapes(
    width: int, units: int, rows: int, size: int, proven: tuple[int, int], tokens: int
) -> None:
    found = Shapes({width: proven}, size, tokens).cut(width, units, rows)
    assert sum(count for count, _ in found) == units
    least, most = proven
    most = min(most, ladder(width, size, tokens)[-1])
    for count, filled in found:
        assert count >= 1
        assert filled >= max(least, count * rows)
        assert filled & (filled - 1) == 0
        assert filled <= most or count == 1  # what fits nowhere is alone


def test_nothing_is_shared_where_nothing_is_proven() -> None:
    assert Shapes({}, 64).cut(16, 3) == [(1, 1)] * 3
    assert Shapes({16: (2, 8)}, 64).cut(24, 2, 3) == [(1, 4)] * 2


def test_what_is_left_over_fills_up_to_the_least_shape() -> None:
    shapes = Shapes({16: (4, 16)}, 64)
    assert shapes.cut(16, 27) == [(16, 16), (8, 8), (3, 4)]
    assert shapes.cut(16, 30) == [(16, 16), (14, 16)]
    assert Shapes({1: (4, 64)}, 64).cut(1, 100) == [(64, 64), (36, 64)]
    assert shapes.cut(16, 3, 5) == [(3, 16)]
    assert Shapes({16: (64, 64)}, 64, 1 << 14).cut(16, 70) == [(64, 64), (6, 64)]
