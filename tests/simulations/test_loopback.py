"""The grid in one process: nobody can write into another's message, nothing big is copied."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.supercore.object_ref import load_app, validate
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmodel.wire.grids import SERVER
from simulations.loopback import LoopbackGrid, isolated

ROOT = Path(__file__).parents[2]
Handler = Callable[[Message, Context], Message]
VALUES = np.arange(6, dtype=np.float32)


def grid_of(handler: Handler, nodes: tuple[int, ...] = (2, 3)) -> LoopbackGrid:
    app = ClientApp()
    app.train()(handler)
    contexts = {n: Context(9, n, {}, RecordDict(), {}) for n in nodes}
    return LoopbackGrid(app, contexts, Run.create_empty(9))


def content() -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({"vector": Array(VALUES)}),
            "config": ConfigRecord({"round": 1, "list": [1, 2]}),
            "metrics": MetricRecord({"loss": 1.0, "each": [1.0, 2.0]}),
        }
    )


def look(found: RecordDict) -> Any:
    arrays = {k: a.numpy().tolist() for k, a in found.array_records["arrays"].items()}
    rest = dict(found.config_records["config"]), dict(found.metric_records["metrics"])
    return arrays, copy.deepcopy(rest)


def _config(message: Message) -> None:
    message.content.config_records["config"]["round"] = 99


def _list_in_config(message: Message) -> None:
    values: Any = message.content.config_records["config"]["list"]
    values.append(3)


def _list_in_metrics(message: Message) -> None:
    values: Any = message.content.metric_records["metrics"]["each"]
    values.clear()


def _bytes(message: Message) -> None:
    array = message.content.array_records["arrays"]["vector"]
    array.data = Array(VALUES * 0).data
    array.shape = (1,)


def _other_array(message: Message) -> None:
    message.content.array_records["arrays"]["vector"] = Array(VALUES * 0)


def _records(message: Message) -> None:
    message.content.clear()


def _content(message: Message) -> None:
    message.content = RecordDict()


def _metadata(message: Message) -> None:
    message.metadata.dst_node_id = 3
    message.metadata.group_id = "mine"


VANDALS = [
    _config,
    _list_in_config,
    _list_in_metrics,
    _bytes,
    _other_array,
    _records,
    _content,
    _metadata,
]


@pytest.mark.parametrize("vandal", VANDALS)
def test_what_a_client_does_to_its_message_is_seen_by_nobody(
    vandal: Callable[[Message], None],
) -> None:
    seen = []

    def handler(message: Message, context: Context) -> Message:
        seen.append((look(message.content), message.metadata.group_id))
        reply = Message(RecordDict(), reply_to=message)
        vandal(message)
        return reply

    grid, whole = grid_of(handler), content()
    messages = [Message(whole, n, "train", group_id="1") for n in (2, 3)]
    expected = look(content())
    replies = list(grid.send_and_receive(messages))
    assert seen == [(expected, "1"), (expected, "1")]
    assert look(whole) == expected
    assert [m.metadata.dst_node_id for m in messages] == [2, 3]
    assert [r.metadata.src_node_id for r in replies] == [2, 3]


def test_a_client_cannot_change_its_reply_after_it_was_sent() -> None:
    kept: list[RecordDict] = []

    def handler(message: Message, context: Context) -> Message:
        kept.append(content())
        return Message(kept[-1], reply_to=message)

    replies = list(grid_of(handler).send_and_receive([Message(content(), 2, "train")]))
    kept[0].config_records["config"]["round"] = 99
    kept[0].array_records["arrays"]["vector"].data = b""
    assert look(replies[0].content) == look(content())


def test_a_crash_after_meddling_is_still_put_down_to_its_node() -> None:
    def handler(message: Message, context: Context) -> Message:
        message.metadata.dst_node_id = 3
        raise ValueError("boom")

    (reply,) = grid_of(handler).send_and_receive([Message(content(), 2, "train")])
    assert reply.metadata.src_node_id == 2


def test_the_bytes_of_arrays_are_shared_both_ways() -> None:
    whole, inside, sent = content(), [], []

    def handler(message: Message, context: Context) -> Message:
        inside.append(message.content.array_records["arrays"]["vector"].data)
        reply = content()
        sent.append(reply.array_records["arrays"]["vector"].data)
        return Message(reply, reply_to=message)

    replies = list(grid_of(handler).send_and_receive([Message(whole, n, "train") for n in (2, 3)]))
    data = whole.array_records["arrays"]["vector"].data
    assert inside[0] is inside[1] is data
    for reply, mine in zip(replies, sent, strict=True):
        assert reply.content.array_records["arrays"]["vector"].data is mine


def test_traffic_counts_both_ways() -> None:
    grid = grid_of(lambda m, _: Message(content(), reply_to=m))
    list(grid.send_and_receive([Message(content(), n, "train") for n in (2, 3)]))
    one = grid.traffic.up // 2
    assert grid.traffic.down == grid.traffic.up == 2 * one
    assert one >= len(content().array_records["arrays"]["vector"].data)


def test_an_exception_becomes_an_error_reply_without_its_words() -> None:
    def handler(message: Message, context: Context) -> Message:
        if context.node_id == 2:
            raise ValueError("row 7 says SECRET")
        return Message(content(), reply_to=message)

    bad, good = grid_of(handler).send_and_receive([Message(content(), n, "train") for n in (2, 3)])
    assert bad.has_error()
    assert "SECRET" not in str(bad.error)
    assert not good.has_error()
    assert (bad.metadata.src_node_id, good.metadata.src_node_id) == (2, 3)
    assert TaskIdentity.node_id == SERVER


def test_an_unknown_node_or_message_type_is_an_error_reply() -> None:
    grid = grid_of(lambda m, _: Message(content(), reply_to=m))
    for message in (Message(content(), 99, "train"), Message(content(), 2, "evaluate")):
        (reply,) = grid.send_and_receive([message])
        assert reply.has_error()
        assert reply.metadata.src_node_id == message.metadata.dst_node_id


def test_pushed_messages_are_answered_once() -> None:
    grid = grid_of(lambda m, _: Message(content(), reply_to=m))
    ids = list(grid.push_messages([Message(content(), n, "train") for n in (2, 3)]))
    assert len(set(ids)) == 2
    (second,) = grid.pull_messages([ids[1]])
    assert second.metadata.src_node_id == 3
    assert second.metadata.reply_to_message_id == ids[1]
    (first,) = grid.pull_messages([*ids, "unknown"])
    assert first.metadata.src_node_id == 2
    assert list(grid.pull_messages(ids)) == []


def test_nodes_run_and_identity_are_the_grids() -> None:
    seen = []

    def handler(message: Message, context: Context) -> Message:
        seen.append(TaskIdentity.node_id)
        return Message(content(), reply_to=message)

    grid = grid_of(handler)
    assert list(grid.get_node_ids()) == [2, 3]
    assert grid.run.run_id == TaskIdentity.run_id == 9
    made = grid.create_message(content(), "train", 3, "1")
    (reply,) = grid.send_and_receive([made])
    assert (seen, TaskIdentity.node_id) == ([3], SERVER)
    assert reply.metadata.dst_node_id == SERVER


@pytest.mark.parametrize(
    ("reference", "kind"), [("server.app:app", ServerApp), ("clients.app:app", ClientApp)]
)
def test_flowers_own_loader_finds_the_apps(
    reference: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert validate(reference, project_dir=ROOT) == (True, None)
    assert isinstance(load_app(reference, ImportError, project_dir=ROOT), kind)


def test_traffic_counts_every_number_of_a_list() -> None:
    content = RecordDict({"metrics": MetricRecord({"counts": [1] * 32, "one": 2})})
    assert isolated(content)[1] == 8 * 33
