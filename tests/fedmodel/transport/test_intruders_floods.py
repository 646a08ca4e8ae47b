"""Floods, bounded here, and connections that take their time: honest sites are served meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fedmodel.transport import server
from fedmodel.transport.frames import Challenge
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import Papers, dialling, hello_frame, hello_of, papers_of
from tests.fedmodel.transport.loris import Loris
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until

pytestmark = pytest.mark.long


class World:
    """A coordinator that waits for nobody long, the site south at it, and north's papers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.consortium = Consortium(root, ("north", "south", "east"))
        self.coordinator = Coordinator(self.consortium, root / "run")
        self.north, self.south, self.east = self.consortium.sites.values()
        self.papers: Papers = papers_of(self.north)
        self.port = 0

    def check_round(self, count: int = 1) -> None:
        for number in range(count):
            payload = f"round {number}".encode()
            (answer,) = self.coordinator.ask(payload, [2])
            assert (told(answer), answer.reason) == (payload, "")

    def check_joins(self) -> None:
        """Check that a site that comes now is let in, and answers."""
        with Site(self.east, self.coordinator.address):
            wait_until(lambda: 3 in self.coordinator.hub.present())
            (answer,) = self.coordinator.ask(b"newcomer", [3])
            assert (told(answer), answer.reason) == (b"newcomer", "")

    def check_nothing_left(self) -> None:
        listens = self.coordinator.server
        wait_until(lambda: listens.greeting == 0)
        wait_until(lambda: set(self.coordinator.hub.callers) == {2})
        wait_until(lambda: listens._heard.total() == listens._open.total() == 1)
        self.check_round()

    def noted(self) -> list[str]:
        found = [why for _, _, why in self.coordinator.refusals]
        self.coordinator.refusals.clear()
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setattr("fedmodel.transport.options._HANDSHAKE", 1500)
        patched.setattr("fedmodel.transport.options._IDLE", 500)
        patched.setattr("fedmodel.transport.caller._GREETING_S", 1.0)
        patched.setattr("fedmodel.transport.notes._MOST", 1 << 30)
        made = World(tmp_path_factory.mktemp("world"))
        stack.enter_context(made.coordinator)
        stack.enter_context(Site(made.south, made.coordinator.address))
        made.coordinator.wait_for(1)
        yield made


STAGES = ("TCP", "half of TLS", "TLS", "HTTP/2", "half a message", "a message of 4 GiB")


@pytest.mark.parametrize("stage", STAGES)
def test_who_takes_its_time_is_closed_out_and_keeps_nobody_out(stage: str, world: World) -> None:
    with Loris(world.coordinator.server.port) as loris:
        if stage == "half of TLS":
            loris.say(b"\x16\x03\x01\x02\x00\x01\x00")
        if stage not in ("TCP", "half of TLS"):
            loris.greet_tls(world.consortium, world.papers, world.root)
        if stage in ("HTTP/2", "half a message", "a message of 4 GiB"):
            loris.greet_http()
        if stage == "half a message":
            loris.begin(1000, b"F\x01\x02")
        if stage == "a message of 4 GiB":
            loris.begin((1 << 32) - 1, bytes(100))
        world.check_round()

        def closed() -> bool:
            if stage == "half a message":
                loris.go_on(b"\0")
            time.sleep(0.02)
            return loris.is_closed()

        wait_until(closed)
    if stage in ("half a message", "a message of 4 GiB"):
        assert "no greeting" in world.noted()[0]
    assert world.noted() == []
    world.check_nothing_left()


def test_who_opens_a_stream_and_says_nothing_is_refused_in_time(world: World) -> None:
    with dialling(world.coordinator, world.papers, world.consortium.authority) as line:
        line.challenge()
        world.check_round()
        assert line.ended() == "refused: no greeting within 1 seconds"
    assert world.noted() == ["no greeting within 1 seconds"]
    world.check_nothing_left()


def test_a_flood_of_connections_without_tls_keeps_nobody_out(world: World) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(Loris(world.coordinator.server.port)) for _ in range(200)]
        for number, each in enumerate(held):
            each.say(b"\x16\x03\x01" if number % 2 else b"GET / HTTP/1.1\r\n\r\n")
        world.check_round(5)
        world.check_joins()
        wait_until(lambda: all(each.is_closed() for each in held))
    assert world.noted() == []
    world.check_nothing_left()


def test_a_flood_of_streams_of_one_certificate_keeps_nobody_else_out(world: World) -> None:
    with ExitStack() as stack:
        lines = []
        for _ in range(8):
            args = world.coordinator, world.papers, world.consortium.authority
            line = stack.enter_context(dialling(*args))
            lines += [line, *(line.another() for _ in range(3))]
        wait_until(lambda: len(world.coordinator.refusals) >= len(lines) - 8)
        assert world.coordinator.server.greeting <= server._OF_ONE
        world.check_round(5)
        world.check_joins()
        ends = [line.ended() for line in lines]
    refused = [end for end in ends if end.startswith("RESOURCE_EXHAUSTED: too many at once")]
    slow = [end for end in ends if end == "refused: no greeting within 1 seconds"]
    assert len(refused) + len(slow) == len(lines)
    assert len(refused) >= len(lines) - 3 * server._OF_ONE
    assert set(world.noted()) == {"too many streams at once", "no greeting within 1 seconds"}
    world.check_nothing_left()


def test_a_flood_of_greetings_keeps_nobody_else_out(world: World) -> None:
    """As fast as one can, by a member that lies: rounds and newcomers go on meanwhile."""
    over = threading.Event()
    ends: list[str] = []

    def flood() -> None:
        args = world.coordinator, world.papers, world.consortium.authority
        with dialling(*args) as first:
            line, hello = first, None
            for _ in range(80):
                frame = line.hear()
                if frame is not None and isinstance(frame.head, Challenge):
                    hello = hello or hello_of(world.north, world.papers, frame.head)
                    line.say(hello_frame(hello, signer))
                ends.append(line.ended())
                line = first.another()
            line.cancel()
        over.set()

    signer = signer_of(world.south)
    thread = threading.Thread(target=flood)
    thread.start()
    while not over.is_set():
        world.check_round()
    thread.join(60)
    world.check_joins()
    assert len(ends) == 80
    assert all(end.startswith("refused: UnsignedError") for end in ends)
    assert len(world.noted()) >= 80
    world.check_nothing_left()


def test_a_flood_of_one_site_that_is_let_in_holds_up_no_other(world: World) -> None:
    """A member greets well, again and again: each time its last connection gives way."""
    args = world.coordinator, world.papers, world.consortium.authority
    with dialling(*args) as first:
        line, ends = first.enter(world.north, world.papers), []
        for number in range(40):
            later = first.another().enter(world.north, world.papers)
            ends.append(line.ended())
            line = later
            if number % 10 == 0:
                world.check_round()
        line.cancel()
    assert set(ends) == {"again: another connection of this site has come"}
    wait_until(lambda: 1 not in world.coordinator.hub.callers)
    assert world.noted() == []
    world.check_nothing_left()
