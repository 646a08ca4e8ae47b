"""Answers to a question: each node's own, and a reason where there is none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from fedmodel import wire
from fedmodel.errors import BudgetError, ProtocolError
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from fedmodel.wire import Content
from server.answers import Answer, nothing
from server.collect import collect_counts, read_all
from tests.server.exchange.replies import channel_of, refusal, reply

KIND = "evaluate"


def told(node: int, content: RecordDict) -> Message:
    return reply(node, content, KIND, KIND)


def counts(node: int) -> Message:
    return told(node, wire.encode_counts(Counts(values=(10 * node, -node))))


def update(node: int) -> RecordDict:
    return wire.encode_update(Update.of(np.ones(3, np.float32)))


def _told(values: dict[str, Any], version: str = wire.VERSION) -> RecordDict:
    config = ConfigRecord({"version": version})
    return RecordDict({"metrics": MetricRecord(values), "config": config})


BAD_COUNTS: dict[str, Callable[[int], list[Message]]] = {
    "missing": lambda n: [],
    "twice": lambda n: [counts(n), counts(n)],
    "an error": lambda n: [refusal(n, BudgetError("spent"), KIND, KIND)],
    "an update": lambda n: [told(n, update(n))],
    "nothing": lambda n: [told(n, RecordDict())],
    "another version": lambda n: [told(n, _told({"counts": [1, 1]}, "x"))],
    "NaN": lambda n: [told(n, _told({"counts": [float("nan"), 1.0]}))],
    "infinite": lambda n: [told(n, _told({"counts": [float("inf"), 1.0]}))],
    "not whole": lambda n: [told(n, _told({"counts": [1.5, 1.0]}))],
    "huge": lambda n: [told(n, _told({"counts": [1, 2**62]}))],
    "one of two": lambda n: [told(n, _told({"counts": [1]}))],
    "three": lambda n: [told(n, _told({"counts": [1, 1, 1]}))],
    "more": lambda n: [told(n, _told({"counts": [1, 1], "rows": 2}))],
}


@pytest.mark.parametrize("what", BAD_COUNTS)
@pytest.mark.parametrize("node", [2, 3, 4])
def test_bad_counts_are_a_failure_of_their_sender_only(what: str, node: int) -> None:
    good = [n for n in (2, 3, 4) if n != node]
    replies = [*BAD_COUNTS[what](node), *map(counts, good), counts(9)]
    for order in (replies, replies[::-1]):
        found, failures = collect_counts(channel_of(order).ask(KIND, {}, KIND), [2, 3, 4], 2)
        assert found == {n: Counts(values=(10 * n, -n)) for n in good}
        assert list(failures) == [node]


# -- any answers ---------------------------------------------------------------------------------


def answer(node: int) -> Answer:
    return Answer(node=node, content=RecordDict())


def test_answers_are_read_in_the_order_of_nodes_and_only_of_those_asked() -> None:
    read: list[int] = []

    def reading(node: int, content: Content) -> int:
        read.append(node)
        return 10 * node

    arrived = [answer(n) for n in (4, 9, 2, 3)]
    found, failures = read_all(arrived, (n for n in (3, 2, 4)), reading, nothing, "answer")
    assert (read, list(found.items()), failures) == ([2, 3, 4], [(2, 20), (3, 30), (4, 40)], {})


@pytest.mark.parametrize("good", [True, False])
def test_of_two_answers_neither_is_read_or_checked(good: bool) -> None:
    other = answer(2) if good else Answer(node=2, failure=wire.Failure(reason="no", budget=True))

    def never(node: int, content: Content) -> None:
        raise AssertionError

    for arrived in ([answer(2), other], [other, answer(2)]):
        found, failures = read_all(arrived, [2], never, never, "answer")
        assert (found, failures) == ({}, {2: wire.Failure(reason="answered more than once")})


def test_a_check_comes_before_reading_and_names_what_it_was() -> None:
    def check(node: int, content: Content) -> None:
        raise ProtocolError("no head")

    def never(node: int, content: Content) -> None:
        raise AssertionError

    _, failures = read_all([answer(2)], [2], never, check, "manifest")
    assert failures == {2: wire.Failure(reason="malformed manifest: no head")}


def test_a_reason_is_passed_on_as_it_came() -> None:
    spent = wire.Failure(reason="spent", budget=True)
    _, failures = read_all(
        [Answer(node=2, failure=spent)], [2, 3], lambda n, c: None, nothing, "update"
    )
    assert failures == {2: spent, 3: wire.Failure(reason="no answer in time")}
