"""Replies to a mean: whoever misbehaves harms only their own contribution."""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedmodel import wire
from fedmodel.errors import BudgetError, ProtocolError, RefusedError
from fedmodel.job import Aggregation
from fedmodel.update import Update
from fedmodel.wire import Content
from server.answers import Check, nothing
from server.collect import Collected
from server.exchange.plain import Plain
from server.exchange.protocol import Invitation, require_weight
from tests.jobs import make_job
from tests.server.exchange.replies import channel_of, refusal, reply

SIZE = 301


def change(node: int) -> Any:
    return np.random.default_rng(node).standard_normal(SIZE).astype(np.float32)


def update(node: int, weight: float = 1.0, group: str = "1", **metrics: float) -> Message:
    content = wire.encode_update(Update.of(change(node), weight, metrics))
    return reply(node, content, group=group)


def collect(
    replies: Iterable[Message],
    nodes: Iterable[int],
    *,
    weights: Literal["uniform", "examples"] = "examples",
    optimizer: Literal["fedavg", "fedmedian"] = "fedavg",
    check: Check = nothing,
) -> Collected:
    """Play the first round with sites that reply so."""
    vector = np.zeros(SIZE, np.float32)
    job = make_job(aggregation=Aggregation(weights=weights, optimizer=optimizer))
    packed = wire.pack(vector)
    invitation = Invitation(
        round=1,
        nodes=list(nodes),
        vector=vector,
        order=lambda node: wire.encode_order("test", 1, job.sha256, packed),
        check=check,
    )
    return Plain(job, SIZE).collect(channel_of(replies), invitation)


def test_the_mean_is_weighted() -> None:
    weights = {2: 3.0, 3: 1.0, 4: 6.0}
    got = collect([update(n, w, train_loss=float(n)) for n, w in weights.items()], weights)
    expected = sum(w * change(n).astype(np.float64) for n, w in weights.items()) / 10
    assert got.mean is not None
    np.testing.assert_allclose(got.mean.vector, expected, atol=1e-6)
    assert got.mean.metrics["train_loss"] == pytest.approx((3 * 2 + 1 * 3 + 6 * 4) / 10)
    assert (got.updates, got.failures) == (3, {})


def test_the_order_of_arrival_has_no_effect_on_a_single_bit() -> None:
    nodes = [2, 3, 4, 5]
    found = [
        collect([update(n, 1.7 * n) for n in order], nodes).mean
        for order in itertools.permutations(nodes)
    ]
    assert len({m.vector.tobytes() for m in found if m is not None}) == 1


def test_a_metric_that_some_do_not_give_is_not_averaged() -> None:
    got = collect([update(2, train_loss=1.0), update(3)], [2, 3])
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
    "first good, then an error": lambda n: [update(n), refusal(n, ValueError())],
    "no array": lambda n: [_broken(n, arrays=None)],
    "no metrics": lambda n: [_broken(n, metrics=None)],
    "another version": lambda n: [_broken(n, config=ConfigRecord({"version": "x"}))],
    "too short": lambda n: [_broken(n, arrays=_vector(np.ones(SIZE - 1, np.float32)))],
    "float64": lambda n: [_broken(n, arrays=_vector(np.ones(SIZE)))],
    "NaN": lambda n: [_broken(n, arrays=_vector(np.full(SIZE, np.nan, np.float32)))],
    "weight zero": lambda n: [_broken(n, metrics=MetricRecord({"weight": 0.0}))],
    "weight below zero": lambda n: [_broken(n, metrics=MetricRecord({"weight": -1.0}))],
    "infinite weight": lambda n: [_broken(n, metrics=MetricRecord({"weight": float("inf")}))],
    "an error": lambda n: [refusal(n, RefusedError("my rules say no"))],
    "of the round before": lambda n: [update(n, group="0")],
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("node", [2, 3, 4])
def test_a_bad_reply_is_a_failure_of_its_sender_only(what: str, node: int) -> None:
    good = [n for n in (2, 3, 4) if n != node]
    replies = [*BAD[what](node), *(update(n) for n in good)]
    alone = collect([update(n) for n in good], good)
    for order in (replies, replies[::-1]):
        got = collect(order, [2, 3, 4])
        assert list(got.failures) == [node]
        assert got.updates == 2
        assert not got.budgets_spent
        assert got.mean is not None
        assert alone.mean is not None
        np.testing.assert_array_equal(got.mean.vector, alone.mean.vector)


def test_a_late_reply_to_the_round_before_is_not_taken_for_a_second_one() -> None:
    got = collect([update(2, 9.0, group="0"), update(2), update(3)], [2, 3])
    alone = collect([update(2), update(3)], [2, 3])
    assert got.mean is not None
    assert alone.mean is not None
    np.testing.assert_array_equal(got.mean.vector, alone.mean.vector)
    assert got.failures == {}


def test_who_was_not_asked_is_not_heard() -> None:
    got = collect([update(2), update(9, 1000.0)], [2])
    assert got.mean is not None
    np.testing.assert_array_equal(got.mean.vector, change(2))
    assert (got.updates, got.failures) == (1, {})


def test_nothing_at_all_has_no_mean() -> None:
    got = collect([], [2, 3])
    assert got.mean is None
    assert {f.reason for f in got.failures.values()} == {"no answer in time"}


def test_spent_budgets_are_told_from_other_failures() -> None:
    spent = [refusal(n, BudgetError("spent")) for n in (2, 3)]
    assert collect(spent, [2, 3]).budgets_spent
    assert not collect(spent, [2, 3, 4]).budgets_spent
    assert not collect([update(2)], [2]).budgets_spent


def test_under_uniform_weights_no_site_can_count_for_more() -> None:
    replies = [update(2), update(3, 1e6)]
    got = collect(replies, [2, 3], weights="uniform")
    assert got.mean is not None
    np.testing.assert_array_equal(got.mean.vector, change(2))
    assert "expected weight 1" in got.failures[3].reason
    require_weight(Update.of(change(2), 1.0))
    with pytest.raises(ProtocolError, match="expected weight 1, got 2"):
        require_weight(Update.of(change(2), 2.0))


def test_updates_so_large_that_their_sum_overflows_are_their_senders_failures() -> None:
    huge = Update(vector=np.full(SIZE, 3e38, np.float32), weight=1.0)
    heavy = Update(vector=change(3), weight=1e300)
    replies = [reply(n, wire.encode_update(u)) for n, u in ((2, huge), (3, heavy), (4, huge))]
    got = collect([*replies, update(5)], [2, 3, 4, 5])
    assert sorted(got.failures) == [2, 3, 4]
    assert got.mean is not None
    assert np.isfinite(got.mean.vector).all()


def test_what_else_the_answers_must_pass_is_checked_of_each() -> None:
    seen: list[int] = []

    def check(node: int, content: Content) -> None:
        seen.append(node)
        if node == 3:
            raise ProtocolError("no head")

    got = collect([update(n) for n in (4, 3, 2)], [2, 3, 4], check=check)
    assert seen == [2, 3, 4]
    assert got.givers == (2, 4)
    assert got.failures == {3: wire.Failure(reason="malformed update: no head")}


def test_the_updates_are_combined_as_the_job_says() -> None:
    nodes = [2, 3, 4]
    got = collect([update(n) for n in nodes], nodes, weights="uniform", optimizer="fedmedian")
    assert got.mean is not None
    np.testing.assert_allclose(got.mean.vector, np.median([change(n) for n in nodes], axis=0))


def test_every_node_may_join_and_no_joining_has_a_name() -> None:
    plain = Plain(make_job(), SIZE)
    plain.admit(7, RecordDict())
    assert (plain.joining, plain.lost(1)) == ("", False)
