"""Frames that are malformed in any way, at any stage, at the coordinator's end."""

import asyncio
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel.identity.certificates import Certificate, read_certificate
from fedmodel.transport.caller import Caller, Stream
from fedmodel.transport.frames import (
    LARGEST_BODY,
    LARGEST_HEAD,
    Ack,
    Bye,
    Challenge,
    Chunk,
    WelcomeFrame,
    decode,
    encode,
)
from fedmodel.transport.hello import Hello
from fedmodel.transport.letters import Reply
from tests.fedmodel.transport.beset import Beset
from tests.fedmodel.transport.intruder import (
    ALL,
    dialling,
    hello_frame,
    hello_of,
)
from tests.fedmodel.transport.mutants import mutant
from tests.fedmodel.transport.test_intruders_letters import letter
from tests.fedmodel.transport.world import wait_until

pytestmark = pytest.mark.long


class World(Beset):
    """A coordinator, the site south at it, and frames that north may send."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 1 << 20)
        self.certificate: Certificate = read_certificate((self.papers.certificate or b"").decode())
        self.good = self._good()
        self._hello: Hello | None = None

    def _good(self) -> list[bytes]:
        config = self.coordinator.hub.config
        made = []
        for seq in (1, 2, 7, 1 << 40):
            header = Reply(
                run=config.run,
                epoch=config.epoch,
                start=config.start,
                seq=seq,
                member=1,
                order="0a" * 32,
                size=4,
                sha256="0b" * 32,
            )
            made += [*letter(header, self.signer), encode(Chunk(seq=seq, offset=0), [b"good"])]
        return made

    def hello(self, challenge: Challenge, number: int = 1) -> bytes:
        if self._hello is None:
            self._hello = hello_of(self.north, self.papers, challenge)
        name = f"{number:032x}"
        hello = replace(self._hello, nonce=challenge.nonce, incarnation=name)
        return hello_frame(hello, self.signer)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as made:
        yield made


TOO_LARGE = b"F\x01\x05\x00\x00\x40\x01" + b"{" * (LARGEST_HEAD + 1)
AT_EACH_STAGE = {
    "nothing": (b"", "expected a frame of"),
    "too short": (b"F\x01\x02", "expected a frame of"),
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "expected a frame of version 1"),
    "no kind": (b"F\x01\x63\x00\x00\x00\x00", "a frame of kind 99"),
    "a head too large": (TOO_LARGE, "by its own word"),
    "not its turn": (encode(Ack(seq=1)), "Ack came where none may"),
    "the coordinator's word": (encode(WelcomeFrame(), [b"x"]), "WelcomeFrame came where none may"),
}


@pytest.mark.parametrize("stage", ["before the greeting", "in the midst"])
@pytest.mark.parametrize("what", AT_EACH_STAGE)
def test_a_malformed_frame_ends_the_connection_with_a_reason(
    what: str, stage: str, world: World
) -> None:
    data, why = AT_EACH_STAGE[what]
    if what == "a head too large" and stage == "before the greeting":
        why = "Chunk came where none may"
    world.coordinator.refusals.clear()
    with dialling(world.coordinator, world.papers, world.consortium.authority) as line:
        if stage == "in the midst":
            line.enter(world.north, world.papers)
        else:
            line.challenge()
        line.say(data)
        if what == "nothing":
            # As an end of the stream it is taken, and isn't one: the stream ends with it.
            line.ended()
        else:
            assert why in line.ended()
            wait_until(lambda: world.coordinator.refusals != [])
            assert why in world.coordinator.refusals[0][2]
    world.check_round()


@pytest.mark.parametrize("size", [1 << 17, LARGEST_BODY + (1 << 15), 9 << 20])
@pytest.mark.parametrize("stage", ["before the greeting", "in the midst"])
def test_an_oversized_frame_ends_the_connection(size: int, stage: str, world: World) -> None:
    if stage == "in the midst" and size < LARGEST_BODY:
        size = LARGEST_BODY + 1
    with dialling(world.coordinator, world.papers, world.consortium.authority) as line:
        if stage == "in the midst":
            line.enter(world.north, world.papers)
        else:
            line.challenge()
        line.say(encode(Chunk(seq=1, offset=0), [bytes(size)]))
        said = line.ended()
    assert said.startswith(("malformed", "refused", "RESOURCE_EXHAUSTED"))
    world.check_round()


def test_hundreds_of_mutants_over_a_real_connection_change_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    random_ = random.Random(2)
    sent = 0
    with dialling(world.coordinator, world.papers, world.consortium.authority) as first:
        line = first
        while sent < 240:
            challenge = line.challenge()
            greeted = random_.random() < 0.6
            frames = [world.hello(challenge)] if greeted else []
            frames += [mutant(random_, [*world.good, world.hello(challenge)]) for _ in range(3)]
            line.say(*frames)
            line.cancel()
            sent += 3
            wait_until(lambda: world.coordinator.server.greeting == 0)
            line = first.another()
        line.cancel()
    world.check_round()
    assert "fails" not in caplog.text


class Fake:
    """A stream in memory: a greeting, good or a mutant, and then mutants."""

    def __init__(self, world: World, random_: random.Random) -> None:
        self._world, self._random = world, random_
        self._challenge: Challenge | None = None
        self._greeted = False
        self._left = random_.randint(1, 30)
        self.count = 0
        self.said: list[bytes] = []

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.said.append(data)

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        random_, world = self._random, self._world
        challenge = decode(self.said[0], ALL).head
        assert isinstance(challenge, Challenge)
        if self.count >= self._left:
            return encode(Bye(code="stopping"))
        self.count += 1
        if not self._greeted:
            self._greeted = True
            hello = world.hello(challenge, random_.randrange(1 << 40))
            return hello if random_.random() < 0.8 else mutant(random_, [hello])
        # One that would end the stream anyway says little of those that follow.
        if random_.random() < 0.8:
            return random_.choice(world.good[::2])
        return mutant(random_, world.good)


@pytest.mark.parametrize(
    "count",
    [
        1500,
        pytest.param(10_000, marks=pytest.mark.slow),
        pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.soak]),
    ],
)
def test_mutants_at_any_stage_end_sessions_with_a_reason_and_leave_nothing(
    count: int, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    random_ = random.Random(3)
    hub = world.coordinator.hub
    ends: dict[str, int] = {}
    over = [0]

    async def one() -> int:
        fake = Fake(world, random_)
        task: list[asyncio.Task[None]] = []
        stream = Stream(
            read=fake.read,
            write=fake.write,
            cut=lambda: task[0].cancel(),
            certificate=world.certificate,
            address="127.0.0.1:9",
        )

        def greeted() -> None:
            over[0] += 1

        task.append(asyncio.ensure_future(Caller(hub, stream, greeted).run()))
        await asyncio.wait(task)
        last = decode(fake.said[-1], ALL).head
        code = last.code if isinstance(last, Bye) else type(last).__name__
        ends[code] = ends.get(code, 0) + 1
        return fake.count

    async def many() -> int:
        return sum(await asyncio.gather(*(one() for _ in range(4))))

    done = 0
    with caplog.at_level(logging.ERROR):
        while done < count:
            done += asyncio.run_coroutine_threadsafe(many(), hub.loop).result(60)
            if random_.random() < 0.01:
                world.check_round()
    assert caplog.messages == []
    assert over[0] == sum(ends.values())
    assert {"malformed", "refused"} <= set(ends)
    world.check_round()
