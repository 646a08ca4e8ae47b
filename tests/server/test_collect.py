"""Replies to a mean: whoever misbehaves harms only their own contribution."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedmodel import wire
from fedmodel.errors import BudgetError, RefusedError
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from server.collect import collect, collect_counts

SIZE = 301


def change(node: int) -> Any:
    return np.random.default_rng(node).standard_normal(SIZE).astype(np.float32)


def ask(node: int) -> Message:
    message = Message(RecordDict(), node, "train")
    message.metadata.__dict__["_message_id"] = f"m{node}"
    return message


def reply(node: int, content: RecordDict) -> Message:
    return Message(content, reply_to=ask(node))


def update(node: int, weight: float = 1.0, **metrics: float) -> Message:
    return reply(node, wire.encode_update(Update.of(change(node), weight, metrics)))


def test_the_mean_is_weighted() -> None:
    weights = {2: 3.0, 3: 1.0, 4: 6.0}
    got = collect([update(n, w, train_loss=float(n)) for n, w in weights.items()], weights, SIZE)
    expected = sum(w * change(n).astype(np.float64) for n, w in weights.items()) / 10
    assert got.mean is not None
    np.testing.assert_allclose(got.mean.vector, expected, atol=1e-6)
    assert got.mean.metrics["train_loss"] == pytest.approx((3 * 2 + 1 * 3 + 6 * 4) / 10)
    assert (got.updates, got.failures) == (3, {})


def test_the_order_of_arrival_has_no_effect_on_a_single_bit() -> None:
    nodes = [2, 3, 4, 5]
    found = [
        collect([update(n, 1.7 * n) for n in order], nodes, SIZE).mean
        for order in itertools.permutations(nodes)
    ]
    assert len({m.vector.tobytes() for m in found if m is not None}) == 1


def test_a_metric_that_some_do_not_give_is_not_averaged() -> None:
    got = collect([update(2, train_loss=1.0), update(3)], [2, 3], SIZE)
    assert got.mean is not None
    assert got.mean.metrics == {}


def _broken(node: int, **parts: Any) -> Message:
    whole: dict[str, Any] = dict(wire.encode_update(Update.of(change(node))).items()) | parts
    return reply(node, RecordDict({k: v for k, v in whole.items() if v is not None}))


def _vector(values: Any) -> ArrayRecord:
    return ArrayRecord({"vector": Array(values)})


BAD: dict[str, Callable[[int], list[Message]]] = {
    "missing": lambda n: [],
    "twice the same": lambda n: [update(n), update(n)],
    "twice, but different": lambda n: [update(n), update(n, 5.0)],
    "first good, then an error": lambda n: [update(n), wire.encode_error(ValueError(), ask(n))],
    "no array": lambda n: [_broken(n, arrays=None)],
    "no metrics": lambda n: [_broken(n, metrics=None)],
    "another version": lambda n: [_broken(n, config=ConfigRecord({"version": "x"}))],
    "too short": lambda n: [_broken(n, arrays=_vector(np.ones(SIZE - 1, np.float32)))],
    "float64": lambda n: [_broken(n, arrays=_vector(np.ones(SIZE)))],
    "NaN": lambda n: [_broken(n, arrays=_vector(np.full(SIZE, np.nan, np.float32)))],
    "weight zero": lambda n: [_broken(n, metrics=MetricRecord({"weight": 0.0}))],
    "weight below zero": lambda n: [_broken(n, metrics=MetricRecord({"weight": -1.0}))],
    "infinite weight": lambda n: [_broken(n, metrics=MetricRecord({"weight": float("inf")}))],
    "an error": lambda n: [wire.encode_error(RefusedError("my rules say no"), ask(n))],
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("node", [2, 3, 4])
def test_a_bad_reply_is_a_failure_of_its_sender_only(what: str, node: int) -> None:
    good = [n for n in (2, 3, 4) if n != node]
    replies = [*BAD[what](node), *(update(n) for n in good)]
    alone = collect([update(n) for n in good], good, SIZE)
    for order in (replies, replies[::-1]):
        got = collect(order, [2, 3, 4], SIZE)
        assert list(got.failures) == [node]
        assert got.updates == 2
        assert not got.budgets_spent
        assert got.mean is not None
        assert alone.mean is not None
        np.testing.assert_array_equal(got.mean.vector, alone.mean.vector)


def test_who_was_not_asked_is_not_heard() -> None:
    got = collect([update(2), update(9, 1000.0)], [2], SIZE)
    assert got.mean is not None
    np.testing.assert_array_equal(got.mean.vector, change(2))
    assert (got.updates, got.failures) == (1, {})


def test_nothing_at_all_has_no_mean() -> None:
    got = collect([], [2, 3], SIZE)
    assert got.mean is None
    assert {f.reason for f in got.failures.values()} == {"no answer in time"}


def test_spent_budgets_are_told_from_other_failures() -> None:
    spent = [wire.encode_error(BudgetError("spent"), ask(n)) for n in (2, 3)]
    assert collect(spent, [2, 3], SIZE).budgets_spent
    assert not collect(spent, [2, 3, 4], SIZE).budgets_spent
    assert not collect([update(2)], [2], SIZE).budgets_spent


def test_under_uniform_weights_no_site_can_count_for_more() -> None:
    replies = [update(2), update(3, 1e6)]
    got = collect(replies, [2, 3], SIZE, uniform=True)
    assert got.mean is not None
    np.testing.assert_array_equal(got.mean.vector, change(2))
    assert "expected weight 1" in got.failures[3].reason


def test_updates_so_large_that_their_sum_overflows_are_their_senders_failures() -> None:
    huge = Update(vector=np.full(SIZE, 3e38, np.float32), weight=1.0)
    heavy = Update(vector=change(3), weight=1e300)
    replies = [reply(n, wire.encode_update(u)) for n, u in ((2, huge), (3, heavy), (4, huge))]
    got = collect([*replies, update(5)], [2, 3, 4, 5], SIZE)
    assert sorted(got.failures) == [2, 3, 4]
    assert got.mean is not None
    assert np.isfinite(got.mean.vector).all()


# -- noised counts -----------------------------------------------------------------------------


def counts(node: int) -> Message:
    return reply(node, wire.encode_counts(Counts(values=(10 * node, -node))))


def _told(values: dict[str, Any], version: str = wire.VERSION) -> RecordDict:
    config = ConfigRecord({"version": version})
    return RecordDict({"metrics": MetricRecord(values), "config": config})


BAD_COUNTS: dict[str, Callable[[int], list[Message]]] = {
    "missing": lambda n: [],
    "twice": lambda n: [counts(n), counts(n)],
    "an error": lambda n: [wire.encode_error(BudgetError("spent"), ask(n))],
    "an update": lambda n: [update(n)],
    "nothing": lambda n: [reply(n, RecordDict())],
    "another version": lambda n: [reply(n, _told({"counts": [1, 1]}, "x"))],
    "NaN": lambda n: [reply(n, _told({"counts": [float("nan"), 1.0]}))],
    "infinite": lambda n: [reply(n, _told({"counts": [float("inf"), 1.0]}))],
    "not whole": lambda n: [reply(n, _told({"counts": [1.5, 1.0]}))],
    "huge": lambda n: [reply(n, _told({"counts": [1, 2**62]}))],
    "one of two": lambda n: [reply(n, _told({"counts": [1]}))],
    "three": lambda n: [reply(n, _told({"counts": [1, 1, 1]}))],
    "more": lambda n: [reply(n, _told({"counts": [1, 1], "rows": 2}))],
}


@pytest.mark.parametrize("what", BAD_COUNTS)
@pytest.mark.parametrize("node", [2, 3, 4])
def test_bad_counts_are_a_failure_of_their_sender_only(what: str, node: int) -> None:
    good = [n for n in (2, 3, 4) if n != node]
    replies = [*BAD_COUNTS[what](node), *map(counts, good), counts(9)]
    for order in (replies, replies[::-1]):
        found, failures = collect_counts(order, [2, 3, 4], 2)
        assert found == [Counts(values=(10 * n, -n)) for n in good]
        assert list(failures) == [node]
