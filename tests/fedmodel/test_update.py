import numpy as np
import pytest

from fedmodel.errors import ProtocolError
from fedmodel.update import Update


def test_the_mean_is_weighted_and_doesnt_depend_on_order() -> None:
    a = Update.of(np.array([1, 2], np.float32), 1.0, {"loss": 4.0})
    b = Update.of(np.array([4, 8], np.float32), 3.0, {"loss": 8.0})
    for total in (a + b, b + a):
        mean = total.mean()
        np.testing.assert_allclose(mean.vector, [(1 + 3 * 4) / 4, (2 + 3 * 8) / 4])
        assert mean.metrics == {"loss": (4 + 3 * 8) / 4}


def test_only_metrics_that_all_sent_are_averaged() -> None:
    a = Update.of(np.zeros(1, np.float32), 1.0, {"loss": 1.0, "extra": 2.0})
    assert (a + Update.of(np.zeros(1, np.float32), 1.0, {"loss": 3.0})).mean().metrics == {
        "loss": 2
    }


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_must_be_positive_and_finite(weight: float) -> None:
    with pytest.raises(ProtocolError, match="weight"):
        Update(vector=np.zeros(1, np.float32), weight=weight)


def test_shapes_must_agree() -> None:
    one = Update.of(np.zeros(1, np.float32))
    with pytest.raises(ProtocolError, match="different sizes"):
        one + Update.of(np.zeros(2, np.float32))
    with pytest.raises(ProtocolError, match="flat float32"):
        Update(vector=np.zeros((1, 1), np.float32), weight=1.0)


def test_a_total_keeps_and_changes_none_of_what_is_added() -> None:
    vectors = [np.full(3, n, np.float32) for n in (1, 2, 4)]
    for vector in vectors:
        vector.flags.writeable = False
    each = (Update.of(vector, 1.0, {"loss": 1.0}) for vector in vectors)
    total = Update.total(each)
    assert (total.vector.tolist(), total.weight) == ([7, 7, 7], 3.0)
    assert total.metrics == {"loss": 3.0}
    assert not any(np.shares_memory(total.vector, vector) for vector in vectors)
    alone = Update.total([Update.of(vectors[0])])
    assert not np.shares_memory(alone.vector, vectors[0])


def test_nothing_has_no_total() -> None:
    with pytest.raises(ProtocolError, match="one or more updates to sum, got none"):
        Update.total(())
