"""Link and hub over real gRPC and TLS on loopback: questions, cuts, and either end started anew."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.transport.call import Received
from fedmodel.transport.payloads import Part
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, question, told, wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


@pytest.fixture
def coordinator(consortium: Consortium, tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(consortium, tmp_path / "run") as made:
        yield made


def test_every_site_is_asked_and_answers(consortium: Consortium, coordinator: Coordinator) -> None:
    north, south = consortium.sites.values()
    with Site(north, coordinator.address), Site(south, coordinator.address):
        coordinator.wait_for(2)
        asked = [question(1, b"one"), question(2, b"two" * 3_000_000)]
        got = coordinator.hub.ask(asked, 60)
    assert [(a.member, a.reason, told(a)) for a in got] == [
        (1, "", b"one"),
        (2, "", b"two" * 3_000_000),
    ]


@pytest.mark.parametrize("other", [True, False])
def test_a_site_with_other_sources_is_named_before_it_is_asked_anything(
    other: bool, consortium: Consortium, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    if other:
        coordinator.hub.config = replace(coordinator.hub.config, sources="1" * 64)
    with caplog.at_level(logging.INFO), Site(consortium.sites["north"], coordinator.address):
        coordinator.wait_for(1)
        wait_until(lambda: "site north is here" in caplog.text)
        (got,) = coordinator.ask(b"x", [1])
    assert told(got) == b"x"
    assert ("site north has other sources (0000" in caplog.text) is other


def test_who_never_came_fails_at_once_and_who_is_there_answers(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    with Site(consortium.sites["south"], coordinator.address):
        coordinator.wait_for(1)
        north, south = coordinator.ask(b"x", [1, 2])
    assert (told(north), north.reason) == (None, "isn't connected")
    assert told(south) == b"x"


def test_a_site_that_takes_too_long_is_not_waited_for_and_its_late_reply_changes_nothing(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    go_on = threading.Event()

    def slow(received: Received) -> Sequence[Part]:
        if bytes(received.payload) == b"slow":
            go_on.wait(60)
        return [received.payload]

    with Site(consortium.sites["north"], coordinator.address, slow) as site:
        coordinator.wait_for(1)
        (late,) = coordinator.ask(b"slow", [1], timeout=0.5)
        go_on.set()
        (next_one,) = coordinator.ask(b"quick", [1])
        wait_until(lambda: not site.inbox.unacknowledged("run-1"))
    assert (told(late), late.reason) == (None, "gave no reply in time")
    assert told(next_one) == b"quick"
    assert len(site.done) == 2


def test_an_acknowledgement_that_takes_its_time_or_fails_holds_nothing_up(
    consortium: Consortium, coordinator: Coordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk may take a second to remove a large reply."""
    go_on = threading.Event()

    def slow(run: str, epoch: int, seq: int) -> None:
        go_on.wait(60)
        raise RunFolderError("can't remove it: Input/output error")

    with Site(consortium.sites["north"], coordinator.address) as site:
        coordinator.wait_for(1)
        real, site.inbox.acknowledge = site.inbox.acknowledge, slow  # type: ignore[method-assign]
        for payload in (b"one", b"two", b"three"):
            assert told(*coordinator.ask(payload, [1])) == payload
        go_on.set()
        wait_until(lambda: "the reply to order 3 can't be let go of" in caplog.text)
        site.inbox.acknowledge = real  # type: ignore[method-assign]
        assert told(*coordinator.ask(b"four", [1])) == b"four"
        wait_until(lambda: len(site.inbox.unacknowledged("run-1")) == 3)
    with Site(consortium.sites["north"], coordinator.address) as site:
        wait_until(lambda: not site.inbox.unacknowledged("run-1"))


def test_what_a_site_has_no_room_for_is_refused_until_there_is_and_it_is_asked_one_thing_at_a_time(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    go_on, large, hub = threading.Event(), bytes(3 << 20), coordinator.hub

    def slow(received: Received) -> Sequence[Part]:
        go_on.wait(60)
        return [b"done"]

    with (
        ThreadPoolExecutor() as pool,
        Site(consortium.sites["north"], coordinator.address, slow, most=4 << 20) as site,
    ):
        coordinator.wait_for(1)
        first = pool.submit(coordinator.ask, large, [1])
        wait_until(lambda: site.link.room.held == len(large))
        with pytest.raises(ProtocolError, match="member 1 is asked for something else meanwhile"):
            coordinator.ask(b"x", [1])
        hub.loop.call_soon_threadsafe(hub.fail, 1, "was given up")
        assert first.result(60)[0].reason == "was given up"
        second = pool.submit(coordinator.ask, large, [1])
        wait_until(lambda: site.link.orders.qsize() == 1)  # it is told in its turn
        go_on.set()
        whys = [told(second.result(60)[0]), told(coordinator.ask(bytes(5 << 20), [1])[0])]
        for why, size, held in zip(whys, (3 << 20, 5 << 20), (3 << 20, 0), strict=True):
            said = f"the site has no room for an order of {size} bytes beside {held} of others"
            assert (why or b"").decode().startswith(said)
        wait_until(lambda: site.link.room.held == 0)
        (answer,) = coordinator.ask(large, [1])
        assert told(answer) == b"done"
        assert len(site.done) == 2
        with pytest.raises(ProtocolError, match="member 1 is asked"):
            coordinator.ask(b"x", [1, 1])


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_in_the_middle_costs_only_what_was_not_there_yet(
    way: str, consortium: Consortium, coordinator: Coordinator
) -> None:
    size = 24_000_000
    order, reply = (size, 10) if way == "down" else (10, size)
    payload, answer = os.urandom(order), os.urandom(reply)
    with (
        Forwarder(coordinator.server.port) as line,
        Site(consortium.sites["north"], f"127.0.0.1:{line.port}", lambda _: [answer]) as site,
    ):
        coordinator.wait_for(1)
        before = line.passed[way]  # type: ignore[index]
        line.cut_after(size * 3 // 4, way)  # type: ignore[arg-type]
        (got,) = coordinator.ask(payload, [1], timeout=120)
        passed = line.passed[way] - before  # type: ignore[index]
    assert told(got) == answer
    assert site.done == [1]
    assert line.accepted == 2
    # All of it twice would be 1.75 times as much; 4 MiB were in pieces when the line was cut.
    assert size <= passed < size + 12_000_000


def test_a_connection_that_is_cut_again_and_again_does_each_order_once(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    with (
        Forwarder(coordinator.server.port) as line,
        Site(consortium.sites["north"], f"127.0.0.1:{line.port}") as site,
    ):
        coordinator.wait_for(1)
        for number in range(6):
            line.cut_after(4000 + 3000 * number, "up" if number % 2 else "down")
            payload = bytes([number]) * 20_000
            (got,) = coordinator.ask(payload, [1], timeout=120)
            assert told(got) == payload
    assert site.done == sorted(set(site.done))
    assert len(site.done) == 6


def test_what_the_coordinators_disk_does_not_take_comes_again_until_it_does(
    consortium: Consortium,
    coordinator: Coordinator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer, write, refused = os.urandom(6_000_000), os.pwrite, list[int]()

    def full(file: int, data: memoryview, place: int) -> int:
        if threading.current_thread().name == "fedmodel-hub" and len(refused) < 3 and place:
            refused.append(place)
            raise OSError(28, "No space left on device")
        return write(file, data, place)

    monkeypatch.setattr("os.pwrite", full)
    with Site(consortium.sites["north"], coordinator.address, lambda _: [answer]) as site:
        coordinator.wait_for(1)
        (got,) = coordinator.ask(b"x", [1], timeout=120)
    assert told(got) == answer
    assert (len(refused), site.done) == (3, [1])
    assert "what the site north sends can't be kept: can't keep a letter in" in caplog.text
    assert "what comes can't be kept now; the coordinator's own log says why" in caplog.text


def test_a_site_that_is_started_anew_while_at_it_is_not_waited_for(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    begun, never = threading.Event(), threading.Event()

    def hang(received: Received) -> Sequence[Part]:
        begun.set()
        never.wait(60)
        return [b"of the first"]

    got = []
    home = consortium.sites["north"]
    first = Site(home, coordinator.address, hang)
    with first:
        coordinator.wait_for(1)
        asking = threading.Thread(target=lambda: got.extend(coordinator.ask(b"x", [1], 60)))
        asking.start()
        assert begun.wait(60)
        names = coordinator.hub.incarnations()
        with Site(home, coordinator.address) as second:
            asking.join(60)
            wait_until(lambda: coordinator.hub.incarnations() != names)
            (again,) = coordinator.ask(b"y", [1])
        never.set()
    assert [(told(a), a.reason) for a in got] == [(None, "was started anew while at it")]
    assert told(again) == b"y"
    assert len(second.done) == 1


def test_a_reply_that_was_kept_is_told_by_the_next_process(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    home = consortium.sites["north"]
    got = []
    with Forwarder(coordinator.server.port) as line:
        address = f"127.0.0.1:{line.port}"

        def cut_off(received: Received) -> Sequence[Part]:
            line.stop_listening()
            line.cut()
            return [b"kept"]

        with Site(home, address, cut_off) as first:
            coordinator.wait_for(1)
            asking = threading.Thread(target=lambda: got.extend(coordinator.ask(b"x", [1], 60)))
            asking.start()
            wait_until(lambda: first.inbox.unacknowledged("run-1") != ())
        line.listen_again()
        with Site(home, address, lambda _: [b"made anew"]) as second:
            asking.join(60)
            wait_until(lambda: not second.inbox.unacknowledged("run-1"))
    assert [(told(a), a.reason) for a in got] == [(b"kept", "")]
    assert second.done == []


def test_a_site_goes_on_with_the_next_start_of_the_coordinator_and_not_with_an_older_one(
    consortium: Consortium, tmp_path: Path
) -> None:
    home = consortium.sites["north"]
    with Forwarder(1) as line, Site(home, f"127.0.0.1:{line.port}") as site:
        for epoch, answers in ((3, True), (2, False), (4, True)):
            with Coordinator(consortium, tmp_path / "run", epoch=epoch) as coordinator:
                line.lead_to(coordinator.server.port)
                if answers:
                    coordinator.wait_for(1)
                    (got,) = coordinator.ask(b"x", [1])
                    assert told(got) == b"x"
                else:
                    wait_until(lambda: "epoch 2" in site.link.said)
                    assert coordinator.hub.present() == frozenset()
                line.cut()
    assert len(site.done) == 2


def test_of_two_processes_of_one_site_the_later_one_stays(
    consortium: Consortium, coordinator: Coordinator
) -> None:
    home = consortium.sites["north"]
    with Site(home, coordinator.address) as first:
        coordinator.wait_for(1)
        with Site(home, coordinator.address) as second:
            wait_until(lambda: first.link.final is not None)
            (got,) = coordinator.ask(b"x", [1])
    assert first.done == []
    assert len(second.done) == 1
    assert told(got) == b"x"
    assert "another connection of this site" in str(first.link.final)


@pytest.mark.parametrize("ended", [True, False])
def test_an_orderly_end_is_told_and_is_no_trouble_of_the_line(
    ended: bool, consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = Coordinator(consortium, tmp_path / "run")
    with coordinator, Site(consortium.sites["north"], coordinator.address) as site:
        coordinator.wait_for(1)
        waits, backoff = list[str](), site.link._backoff

        def noted(name: str) -> Callable[[float], float]:
            whole = getattr(backoff, name)

            def found(now: float) -> float:
                waits.append(name)
                wait: float = whole(now)
                return wait

            return found

        for name in ("hinted", "lost"):
            monkeypatch.setattr(backoff, name, noted(name))
        coordinator.stop(ended=ended)
        wait_until(lambda: len(waits) >= 2)
    # After that nobody is there, which is trouble.
    assert waits[:2] == ["hinted", "lost"]
    assert ("its run is over" if ended else "its process ends") in site.link.said


def test_a_key_is_used_once_however_often_is_dialled_and_a_renewed_one_is_taken(
    consortium: Consortium, tmp_path: Path
) -> None:
    """Each use is a line of the security log, which would grow all night; no restart renews it."""
    home, runs = consortium.sites["north"], tmp_path / "run"

    def used() -> int:
        about = [row.about for row in home.log.rows() if row.event == "key-used"]
        return sum(each.get("key") == "tls-key" for each in about)

    first, before = Coordinator(consortium, runs), used()
    with Site(home, first.address) as site:
        with first:
            first.wait_for(1)
            assert used() == before + 1
        wait_until(lambda: not site.link.connected)
        with Coordinator(consortium, runs, 2, listen=first.address) as second:
            second.wait_for(1)
            assert used() == before + 1
        home.renew()
        consortium.admit(home)
        consortium.hand_out(home)
        renewed = used()
        with Coordinator(consortium, runs, 3, listen=first.address) as third:
            third.wait_for(1)
            assert used() == renewed + 1
