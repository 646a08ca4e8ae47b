import numpy as np
import pytest

from fedmodel.data import Rows
from fedmodel.errors import DataError


def test_take_concat_and_length() -> None:
    rows = Rows(["a", "b", "c"], ["x", "y", "x"], ["s", "t", "s"], ["p", "q", "p"])
    assert len(rows) == 3
    assert rows.select(np.array([2, 0])) == Rows(["c", "a"], ["x", "x"], ["s", "s"], ["p", "p"])
    assert Rows.concat([rows.select([0]), rows.select([1, 2])]) == rows
    assert len(Rows.concat([])) == 0


def test_repr_is_silent() -> None:
    rows = Rows(["secret text"], ["x"], None, ["secret patient"])
    assert repr(rows) == str(rows) == "Rows(1 rows)"


@pytest.mark.parametrize("column", ["labels", "sites", "patients"])
def test_columns_of_unequal_length_are_refused(column: str) -> None:
    columns = {"labels": ["x", "y"], "sites": ["s", "s"], "patients": ["p", "p"]} | {column: ["x"]}
    with pytest.raises(DataError, match=f"expected 2 {column}.* got 1"):
        Rows(["a", "b"], columns["labels"], columns["sites"], columns["patients"])


def test_concat_wants_the_same_columns() -> None:
    with pytest.raises(DataError, match="expected sites in all 2 parts"):
        Rows.concat([Rows(["a"], ["x"]), Rows(["b"], ["x"], ["s"])])
