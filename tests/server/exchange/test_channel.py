"""The channel to the sites: who is asked what, and which replies are answers to that."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from fedmodel import wire
from fedmodel.errors import BudgetError, RefusedError
from server.exchange.channel import Channel
from tests.server.exchange.replies import channel_of, refusal, reply


def content(text: str) -> RecordDict:
    return RecordDict({"config": ConfigRecord({"text": text})})


def test_every_node_gets_its_own_content_once_under_the_questions_name() -> None:
    sent: list[Message] = []
    waited: list[float | None] = []

    def send_and_receive(messages: Iterable[Message], *, timeout: float | None) -> list[Message]:
        sent.extend(messages)
        waited.append(timeout)
        return []

    grid: Any = SimpleNamespace(send_and_receive=send_and_receive)
    contents = {3: content("c"), 2: content("b")}
    assert Channel(grid, 7.5).ask("query.open", contents, "4.1") == []
    assert [(m.metadata.dst_node_id, m.content) for m in sent] == list(contents.items())
    named = {(m.metadata.message_type, m.metadata.group_id) for m in sent}
    assert (named, waited) == ({("query.open", "4.1")}, [7.5])


def test_nodes_are_in_rising_order() -> None:
    grid: Any = SimpleNamespace(get_node_ids=lambda: iter([9, 2, 5]))
    assert Channel(grid).nodes() == [2, 5, 9]


def test_answers_are_told_by_whom_and_come_as_they_came() -> None:
    replies = [
        reply(3, content("c")),
        refusal(4, BudgetError("spent")),
        refusal(5, RefusedError("our rules")),
        reply(2, content("b")),
        reply(2, content("again")),
    ]
    got = channel_of(replies).ask("train", {}, "1")
    assert [a.node for a in got] == [3, 4, 5, 2, 2]
    assert [a.content for a in got] == [content("c"), None, None, content("b"), content("again")]
    assert [a.failure for a in got] == [
        None,
        wire.Failure(reason="spent", budget=True),
        wire.Failure(reason="our rules"),
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("kind", "group"),
    [("train", "2"), ("train", ""), ("train", "1.1"), ("query.open", "1"), ("evaluate", "1")],
)
def test_an_answer_to_another_question_is_passed_over(kind: str, group: str) -> None:
    late = [reply(2, content("late"), kind, group), refusal(4, ValueError(), kind, group)]
    got = channel_of([*late, reply(3, content("c"))]).ask("train", {}, "1")
    assert [a.node for a in got] == [3]
    # To its own question it is one.
    assert [a.node for a in channel_of(late).ask(kind, {}, group)] == [2, 4]


def test_a_reason_holds_no_words_that_a_site_keeps_to_itself() -> None:
    (got,) = channel_of([refusal(2, ValueError("SECRET ROW"))]).ask("train", {}, "1")
    assert got.failure is not None
    assert "SECRET" not in got.failure.reason
