"""Grid and host: Flower's messages over the network, and what an app may do wrong."""

import mmap
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedmodel import wire
from fedmodel.transport.call import Received
from fedmodel.transport.grid import HubGrid
from fedmodel.transport.host import Host
from fedmodel.transport.outbox import Failed
from fedmodel.update import Update
from fedmodel.wire.grids import node_of
from server.exchange.channel import Channel
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.world import Coordinator, Site, wait_until

pytestmark = pytest.mark.long


def app(seen: list[tuple[int, str, str]]) -> ClientApp:
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        seen.append((context.node_id, message.metadata.message_type, message.metadata.group_id))
        vector = vector_of(message)
        doubled = ArrayRecord({"vector": Array(2 * vector)})
        return Message(RecordDict({"arrays": doubled}), reply_to=message)

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        raise ValueError("a row's text")

    return made


def vector_of(message: Message) -> Any:
    array: Any = message.content["arrays"]["vector"]
    return array.numpy()


@contextmanager
def hosted(site: Site, client: ClientApp) -> Iterator[None]:
    """A site whose orders an app does."""
    site.link.run_beside()
    worker = threading.Thread(target=Host(client, site.link).run, daemon=True)
    worker.start()
    try:
        yield
    finally:
        site.link.close()
        worker.join(10)


def content(vector: NDArray[np.float32]) -> RecordDict:
    return RecordDict(
        {"arrays": ArrayRecord({"vector": Array(vector)}), "config": ConfigRecord({"round": 3})}
    )


def test_messages_reach_an_app_and_its_replies_come_back(tmp_path: Path) -> None:
    consortium, seen = Consortium(tmp_path), list[tuple[int, str, str]]()
    vector = np.arange(500_000, dtype=np.float32)
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid = HubGrid(coordinator.hub)
        assert sorted(grid.get_node_ids()) == [2, 3]
        with hosted(Site(consortium.sites["south"], coordinator.address), app(seen)):
            coordinator.wait_for(1)
            assert list(grid.incarnations()) == [3]
            messages = [
                Message(content(vector), node, "train", group_id="3.1")
                for node in grid.get_node_ids()
            ]
            absent, there = grid.send_and_receive(messages, timeout=60)
            (failed,) = grid.send_and_receive([Message(content(vector), 3, "evaluate")], timeout=60)
    assert absent.metadata.src_node_id == node_of(1)
    assert absent.error.reason == "isn't connected"
    assert there.metadata.src_node_id == node_of(2)
    assert there.metadata.message_type == "train"
    assert there.metadata.group_id == "3.1"
    np.testing.assert_array_equal(vector_of(there), 2 * vector)
    assert seen == [(3, "train", "3.1")]
    # The coordinator learns that it failed, and nothing of why.
    assert failed.error.reason == "ValueError"
    # Nothing went out to the one that wasn't there.
    assert 2 * vector.nbytes < grid.traffic.down < 2.1 * vector.nbytes
    assert vector.nbytes < grid.traffic.up < 1.1 * vector.nbytes


def test_each_order_names_the_one_before(tmp_path: Path) -> None:
    """So that two coordinators of one epoch can't agree again once they differed on one."""
    consortium, seen = Consortium(tmp_path), list[Received]()

    def keep(received: Received) -> list[bytes]:
        seen.append(received)
        return [b"x"]

    with (
        Coordinator(consortium, tmp_path / "run") as coordinator,
        Site(consortium.sites["north"], coordinator.address, keep),
    ):
        coordinator.wait_for(1)
        for payload in (b"one", b"two", b"three"):
            coordinator.ask(payload, [1])
    digests = [received.stamp.digest for received in seen]
    assert [received.order.before for received in seen] == ["", *digests[:-1]]
    assert len(set(digests)) == 3


def test_a_disk_that_is_full_is_told_and_the_order_can_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmodel import _files

    consortium, seen = Consortium(tmp_path), list[tuple[int, str, str]]()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def filled(file: _files.LockedFile, data: bytes, *, durable: bool = True) -> None:
        if seen:
            full()
        real(file, data, durable=durable)

    real = _files.LockedFile.append
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid = HubGrid(coordinator.hub)
        site = Site(consortium.sites["north"], coordinator.address)
        with hosted(site, app(seen)):
            coordinator.wait_for(1)
            wait_until(lambda: site.link.connected)

            def ask() -> Message:
                message = Message(content(np.ones(3, dtype=np.float32)), 2, "train")
                (reply,) = grid.send_and_receive([message], timeout=60)
                found: Message = reply
                return found

            with monkeypatch.context() as patched:
                patched.setattr(_files.LockedFile, "append", full)
                unnoted = ask()
                assert seen == []
            with monkeypatch.context() as patched:
                patched.setattr(_files.LockedFile, "append", filled)
                unkept = ask()
                assert len(seen) == 1
            assert not ask().has_error()
    assert unnoted.error.reason == "the site can't note the order; see its own log"
    assert unkept.error.reason == "the site can't keep its reply; see its own log"


def test_whatever_fails_at_an_order_the_next_one_is_done_and_no_row_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    consortium, seen = Consortium(tmp_path), list[tuple[int, str, str]]()
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid = HubGrid(coordinator.hub)
        site = Site(consortium.sites["north"], coordinator.address)
        with hosted(site, app(seen)):
            coordinator.wait_for(1)

            def ask(kind: str, seconds: float) -> Message:
                message = Message(content(np.ones(3, dtype=np.float32)), 2, kind)
                (reply,) = grid.send_and_receive([message], timeout=seconds)
                found: Message = reply
                return found

            assert ask("evaluate", 60).error.reason == "ValueError"
            with monkeypatch.context() as patched:

                def broken(stamp: object) -> None:
                    raise KeyError("a row's text")

                patched.setattr(site.inbox, "admit", broken)
                assert ask("train", 0.5).has_error()
                wait_until(lambda: "unexpected KeyError" in caplog.text)
            assert not ask("train", 60).has_error()
    assert len(seen) == 1
    assert "a row's text" not in caplog.text


def test_who_stops_asking_frees_the_site(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path)
    never = threading.Event()
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid = HubGrid(coordinator.hub)
        client = ClientApp()

        @client.train()
        def train(message: Message, context: Context) -> Message:
            never.wait(30)
            return Message(RecordDict(), reply_to=message)

        with hosted(Site(consortium.sites["north"], coordinator.address), client):
            coordinator.wait_for(1)
            message = Message(content(np.ones(3, dtype=np.float32)), 2, "train")
            (reply,) = grid.send_and_receive([message], timeout=0.3)
            never.set()
            wait_until(lambda: not coordinator.hub.open)
    assert reply.error.reason == "gave no reply in time"


def test_a_hub_that_nobody_asks_anything_rests_and_still_gives_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium, hold, never = Consortium(tmp_path), threading.Event(), threading.Event()
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        if hold.is_set():
            never.wait(30)
        return Message(RecordDict(), reply_to=message)

    looks: list[float] = []

    def rests() -> bool:
        before = len(looks)
        time.sleep(0.5)
        return len(looks) == before

    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid, due = HubGrid(coordinator.hub), coordinator.hub.outbox.due

        def look(now: float) -> list[Failed]:
            looks.append(now)
            return due(now)

        monkeypatch.setattr(coordinator.hub.outbox, "due", look)
        with hosted(Site(consortium.sites["north"], coordinator.address), client):
            coordinator.wait_for(1)
            wait_until(rests)
            messages = [Message(content(np.ones(3, dtype=np.float32)), 2, "train") for _ in "ab"]
            (reply,) = grid.send_and_receive([messages[0]], timeout=60)
            assert not reply.has_error()
            wait_until(rests)
            hold.set()
            (reply,) = grid.send_and_receive([messages[1]], timeout=0.3)
            never.set()
    assert reply.error.reason == "gave no reply in time"


def test_a_reply_in_a_file_is_read_from_there_and_goes_with_whoever_held_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium, mapped = Consortium(tmp_path), weakref.WeakSet[mmap.mmap]()
    change = np.random.default_rng(0).standard_normal(1 << 20).astype(np.float32)
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        return Message(wire.encode_update(Update.of(change)), reply_to=message)

    class Noted(mmap.mmap):
        def __init__(self, *_: Any, **__: Any) -> None:
            mapped.add(self)

    monkeypatch.setattr(mmap, "mmap", Noted)
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid = HubGrid(coordinator.hub)
        assert Channel(grid).signed
        with hosted(Site(consortium.sites["north"], coordinator.address), client):
            coordinator.wait_for(1)
            asked = Message(content(np.ones(3, dtype=np.float32)), 2, "train")
            (reply,) = grid.send_and_receive([asked], timeout=60)
            assert len(mapped) == 1
            update = wire.decode_update(reply.content, change.size)
            (whole,) = mapped
            assert np.shares_memory(update.vector, np.frombuffer(whole, np.uint8))
            np.testing.assert_array_equal(update.vector, change)
            del reply, update, whole
            wait_until(lambda: not mapped)


def test_an_order_that_there_is_no_room_for_is_answered_with_the_reason(tmp_path: Path) -> None:
    consortium, seen = Consortium(tmp_path), list[tuple[int, str, str]]()
    with Coordinator(consortium, tmp_path / "run") as coordinator:
        grid, site = (
            HubGrid(coordinator.hub),
            Site(consortium.sites["south"], coordinator.address, most=1 << 16),
        )
        with hosted(site, app(seen)):
            coordinator.wait_for(1)
            (refused,), (done,) = (
                grid.send_and_receive([Message(content(vector), 3, "train")], timeout=60)
                for vector in (np.zeros(1 << 15, np.float32), np.zeros(9, np.float32))
            )
    assert "no room for an order of 13" in str(refused.error.reason)
    assert not done.has_error()
    assert len(seen) == 1
