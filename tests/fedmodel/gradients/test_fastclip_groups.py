"""Rows by unit, against the obvious loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.gradients.fastclip import Groups
from tests.examples import examples

KEEP = settings(max_examples=examples(80), deadline=None, derandomize=True)


@st.composite
def units(draw: st.DrawFn) -> list[int]:
    """Return any numbering without gaps: unsorted, of uneven sizes."""
    found = draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
    dense = {value: number for number, value in enumerate(sorted(set(found)))}
    return [dense[value] for value in found]


@pytest.mark.long
@KEEP
@given(units())
def test_sum_spread_and_join(unit: list[int]) -> None:
    groups, rows = Groups(torch.tensor(unit)), len(unit)
    values = torch.arange(rows * 6, dtype=torch.float32).view(rows, 3, 2) + 1
    own = [[i for i in range(rows) if unit[i] == u] for u in range(max(unit) + 1)]
    assert groups.count == len(own)
    assert groups.sizes.tolist() == [len(o) for o in own]
    assert groups.single == (unit == list(range(rows)))

    sums = torch.stack([values[o].sum(0) for o in own])
    assert torch.equal(groups.sum(values), sums)
    assert torch.equal(groups.spread(sums), sums[torch.tensor(unit)])

    joined, most = groups.join(values), max(map(len, own))
    assert joined.shape == (len(own), most * 3, 2)
    for u, o in enumerate(own):
        assert torch.equal(joined[u, : 3 * len(o)], values[o].flatten(0, 1))
        assert not joined[u, 3 * len(o) :].any()
    assert torch.equal(groups.join(values), joined)  # also from the table that is kept


def test_the_order_of_rows_alone_makes_no_records() -> None:
    # One row each, but not in order: row i isn't unit i.
    groups = Groups(torch.tensor([1, 0]))
    assert not groups.single
    assert groups.sum(torch.tensor([[1.0], [2.0]])).tolist() == [[2.0], [1.0]]
    assert groups.spread(torch.tensor([10, 20])).tolist() == [20, 10]


def test_no_rows_and_records() -> None:
    assert Groups.records(0, torch.device("cpu")).count == 0
    records = Groups.records(3, torch.device("cpu"))
    values = torch.rand(3, 2, 2)
    assert records.single
    assert records.join(values) is records.sum(values) is records.spread(values) is values
