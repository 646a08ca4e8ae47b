"""A coordinator that lies to a site: nothing is done or told, and the site dials again."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import FedmodelError, ProtocolError
from fedmodel.identity import SigningKey
from fedmodel.transport.call import Call
from fedmodel.transport.frames import (
    Ack,
    Bye,
    Challenge,
    Chunk,
    HelloFrame,
    Letter,
    WelcomeFrame,
    decode,
    encode,
)
from fedmodel.transport.hello import Hello, Welcome, greeted, signed_greeting
from fedmodel.transport.letters import Order, sign_header
from fedmodel.transport.link import Link
from fedmodel.transport.payloads import Departure, digest_of
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import ALL, dialling, papers_of
from tests.fedmodel.transport.liar import Ear, Liar, Talk
from tests.fedmodel.transport.mutants import mutant
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until

pytestmark = pytest.mark.long

EPOCH = 5


class World:
    """The true coordinator, a liar, and a site whose line leads to either."""

    def __init__(self, root: Path) -> None:
        self.consortium = Consortium(root)
        self.consortium.renew(*self.consortium.parties)  # so that there is an older one
        self.coordinator = Coordinator(self.consortium, root / "run", epoch=EPOCH)
        self.north, self.south = self.consortium.sites.values()
        self.signer = signer_of(self.consortium.coordinator)
        self.strange = signer_of(self.south)
        self.line = Forwarder(self.coordinator.server.port)
        self.liar = Liar(self.consortium, self.junk)
        self.start = self.coordinator.hub.config.start
        self.heard: list[bytes] = []
        self.said: list[str] = []

    def enter(self, stack: ExitStack) -> None:
        """Begin: the coordinator, the liar, the line, and the site at its end."""
        for each in (self.coordinator, self.liar, self.line):
            stack.enter_context(each)
        self.site = Site(self.north, f"127.0.0.1:{self.line.port}", explain=False)
        self.site.link._say = self.said.append  # type: ignore[method-assign, assignment]
        stack.enter_context(self.site)

    async def junk(self, ear: Ear) -> None:
        await ear.say(b"junk")

    @property
    def challenge(self) -> Challenge:
        return Challenge(nonce="0a" * 32, run="run-1", epoch=EPOCH, start=self.start)

    def welcome(self, hello: Hello, signer: SigningKey, **changes: Any) -> bytes:
        made = Welcome(
            nonce=hello.own,
            certificate=hello.certificate,
            run="run-1",
            epoch=EPOCH,
            start=self.start,
            roster=hello.roster,
            version=hello.version,
            member=hello.member,
        )
        greeting = signed_greeting(replace(made, **changes), signer.sign)
        return encode(WelcomeFrame(), greeting)

    def order(self, **changes: Any) -> Order:
        made = Order(
            run="run-1",
            epoch=EPOCH,
            start=self.start,
            seq=1000,
            member=1,
            roster=self.coordinator.hub.config.roster.sha256,
            type="train",
            group="",
            size=4,
            sha256=digest_of([b"good"]),
        )
        return replace(made, **changes)


def site_of(hello: bytes, key: bytes) -> Hello:
    return greeted(Hello, decode(hello, ALL).body, lambda _: key)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setattr("fedmodel.transport.backoff.Backoff.lost", lambda *_: 0.02)
        made = World(tmp_path_factory.mktemp("world"))
        made.enter(stack)
        made.coordinator.wait_for(1)
        yield made


def before(*frames: bytes) -> Any:
    """Return talk that begins with something else than a challenge."""

    def made(world: World) -> Talk:
        async def talk(ear: Ear) -> None:
            await ear.say(*frames)
            if frames:
                world.heard.append(await ear.hear())

        return talk

    return made


def challenged(**changes: Any) -> Any:
    def made(world: World) -> Talk:
        async def talk(ear: Ear) -> None:
            await ear.say(encode(replace(world.challenge, **changes)))
            world.heard.append(await ear.hear())

        return talk

    return made


def welcomed(after: Any = None, strange: bool = False, **changes: Any) -> Any:
    """Return talk with a welcome, and then perhaps what a function of the world makes."""

    def made(world: World) -> Talk:
        async def talk(ear: Ear) -> None:
            await ear.say(encode(world.challenge))
            hello = site_of(await ear.hear(), signer_of(world.north).public)
            signer = world.strange if strange else world.signer
            await ear.say(world.welcome(hello, signer, **changes))
            if after is not None:
                await ear.say(*after(world))
            world.heard.append(await ear.hear())

        return talk

    return made


def ordered(**changes: Any) -> Any:
    return welcomed(lambda world: letter(world, world.order(**changes)))


def letter(world: World, order: Order, signer: SigningKey | None = None) -> list[bytes]:
    signed = sign_header(order, (signer or world.signer).sign)
    return list(Departure(order.seq, signed, [b"good"]).frames())


def _swapped(world: World) -> list[bytes]:
    """Return the beginnings of two orders, the later one first."""
    orders = [world.order(seq=seq, size=1 << 10) for seq in (2001, 2000)]
    return [letter(world, order)[0] for order in orders]


LIES: dict[str, tuple[Any, str]] = {
    "says nothing and goes": (before(), "connection was lost"),
    "junk": (before(b"junk and more of it"), "frame of version 1"),
    "a malformed challenge": (before(b"F\x01\x01\0\0\0\x02{}"), "malformed Challenge"),
    "an order first": (before(encode(Letter(header=1))), "Letter came where none may"),
    "too much": (before(bytes(9 << 20)), "RESOURCE_EXHAUSTED"),
    "an older epoch": (challenged(epoch=EPOCH - 1), f"epoch {EPOCH - 1} of the run's coordinator"),
    "another start": (challenged(start="0c" * 16), f"another coordinator of epoch {EPOCH}"),
    "it was replaced": (before(encode(Bye(code="replaced", reason="go away"))), "go away"),
    "the run is over": (before(encode(Bye(code="ended", reason="over"))), "over"),
    "another's welcome": (welcomed(strange=True), "the welcome isn't signed by the key"),
    "a recorded welcome": (welcomed(nonce="0d" * 32), "expected the welcome of nonce"),
    "a relayed welcome": (welcomed(certificate="0e" * 32), "expected the welcome of certificate"),
    "a welcome to south": (welcomed(member=2), "expected the welcome of member 1, got 2"),
    "a welcome to another run": (welcomed(run="run-2"), "expected the welcome of run run-1"),
    "a welcome of an older start": (welcomed(epoch=1), "epoch 1 of the run's coordinator is over"),
    "a welcome by a newer roster": (welcomed(version=3), "expected the welcome of version 2"),
    "a welcome by its own, as older": (welcomed(version=1), "expected the welcome of version 2"),
    "a welcome by another roster": (welcomed(roster="0f" * 32), "expected the welcome of roster"),
    "a welcome by another number": (
        welcomed(version=1, roster="0f" * 32, member=2),
        "expected the welcome of member 1, got 2",
    ),
    "an order of an older roster": (
        welcomed(
            lambda world: letter(world, world.order(roster="0f" * 32)),
            version=1,
            roster="0f" * 32,
        ),
        "expected the order of roster",
    ),
    "an order of another run": (ordered(run="run-2"), "expected the order of run run-1, got run-2"),
    "an order of an older start": (ordered(epoch=4), "expected the order of epoch 5, got 4"),
    "an order of another start": (ordered(start="0c" * 16), "expected the order of start"),
    "an order for south": (ordered(member=2), "expected the order of member 1, got 2"),
    "an order of another roster": (ordered(roster="0f" * 32), "expected the order of roster"),
    "an order of other bytes": (ordered(sha256="0a" * 32), "isn't the one that its header"),
    "another's order": (
        welcomed(lambda world: letter(world, world.order(), world.strange)),
        "the order isn't signed by",
    ),
    "an order after a later one": (welcomed(_swapped), "order 2000 came after order 2001"),
    "a piece of no order": (
        welcomed(lambda world: [encode(Chunk(seq=1 << 40, offset=0), [b"x"])]),
        "hasn't begun",
    ),
    "thanks for nothing": (
        welcomed(lambda world: [*(encode(Ack(seq=n)) for n in (0, 7, 1 << 52)), b"F\x02"]),
        "expected a frame of",
    ),
    "a greeting of its own": (welcomed(lambda world: [encode(HelloFrame())]), "where none may"),
}
_TELLS_NOTHING = ("an older epoch", "another start")


@pytest.mark.parametrize("lie", LIES)
def test_a_site_that_is_lied_to_does_nothing_and_dials_again(lie: str, world: World) -> None:
    made, why = LIES[lie]
    site = world.site
    done, world.heard = list(site.done), []
    world.said.clear()
    world.liar.talk, came = made(world), world.liar.came
    world.line.lead_to(world.liar.port)
    world.line.cut()
    wait_until(lambda: any(why in each for each in world.said) and world.liar.came > came + 1)
    if lie in _TELLS_NOTHING:
        assert set(world.heard) <= {b""}
    assert (site.link.final, site.link.ended) == (None, "")
    assert site.done == done
    world.line.lead_to(world.coordinator.server.port)
    world.line.cut()
    _check_round(world, site)


def _check_round(world: World, site: Site) -> None:
    wait_until(lambda: site.link.connected and 1 in world.coordinator.hub.callers)
    (answer,) = world.coordinator.ask(b"round", [1])
    assert (told(answer), answer.reason) == (b"round", "")


def test_a_greeting_that_a_liar_relays_to_the_coordinator_is_refused(world: World) -> None:
    site = world.site
    with dialling(world.coordinator, papers_of(world.south), world.consortium.authority) as relay:
        challenge = relay.challenge()
        world.heard = []
        world.liar.talk = challenged(nonce=challenge.nonce)(world)
        world.line.lead_to(world.liar.port)
        world.line.cut()
        wait_until(lambda: world.heard != [] and world.heard[0] != b"")
        relay.say(world.heard[0])
        assert "somebody repeats or relays it" in relay.ended()
    world.line.lead_to(world.coordinator.server.port)
    world.line.cut()
    _check_round(world, site)


def test_a_fault_of_its_own_doesnt_end_a_link(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = world.site
    faults = [KeyError("x"), ValueError("y"), AttributeError("z"), UnicodeError("w")]
    run = Call.run

    async def faulty(self: Call) -> Bye:
        if faults:
            raise faults.pop()
        return await run(self)

    monkeypatch.setattr(Call, "run", faulty)
    world.line.cut()
    wait_until(lambda: not faults)
    _check_round(world, site)


class Fake:
    """A stream in memory from a coordinator that may have its key: mutants, at any stage."""

    def __init__(self, world: World, random_: random.Random, good: list[bytes]) -> None:
        self._world, self._random, self._good = world, random_, good
        self._stage, self._left = 0, random_.randint(1, 30)
        self._hello = b""
        self._key = bytes.fromhex(world.coordinator.hub.config.roster.members[1].key)
        self.count = 0

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if decode(data, ALL).head == HelloFrame():
            self._hello = data

    def cancel(self) -> None:
        self._left = 0

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if self.count >= self._left:
            return encode(Bye(code="stopping"))
        self.count += 1
        self._stage += 1
        random_, world = self._random, self._world
        if self._stage == 1:
            good = [encode(world.challenge)]
        elif self._stage == 2 and self._hello:
            hello = site_of(self._hello, self._key)
            good = [world.welcome(hello, world.signer)]
        else:
            # One that would end the stream anyway says little of those that follow.
            return mutant(random_, self._good) if random_.random() < 0.2 else self._good[1]
        return random_.choice(good) if random_.random() < 0.9 else mutant(random_, good)


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants_at_any_stage_raise_nothing_that_a_link_doesnt_expect(
    count: int, world: World
) -> None:
    random_ = random.Random(4)
    link = Site(world.south, "127.0.0.1:1", explain=False).link
    good = [encode(Ack(seq=3))]
    for seq in (5, 6):
        order = world.order(seq=seq, member=2)
        good += [*letter(world, order), encode(Chunk(seq=seq, offset=0), [b"good"])]
    ends: dict[str, int] = {}

    async def many() -> None:
        done = 0
        while done < count:
            fake = Fake(world, random_, good)
            call = Call(link, fake)
            try:
                end = (await call.run()).code
            except (FedmodelError, OSError) as error:
                end = type(error).__name__
            call.connection.close()
            ends[end] = ends.get(end, 0) + 1
            done += fake.count
            while not link.orders.empty():
                link.orders.get()

    link._loop.run_until_complete(many())
    link._loop.close()
    assert {"stopping", "ProtocolError", "UnsignedError"} <= set(ends)


class Flood(Fake):
    """A stream in memory with orders without end.

    Args:
        size: bytes that each announces; four come of it.
        most: so many come.
    """

    def __init__(self, world: World, size: int = 4, most: int = 1 << 30) -> None:
        super().__init__(world, random.Random(5), [])
        self._size, self._most = size, most

    async def read(self) -> Any:
        await asyncio.sleep(0)
        self._stage += 1
        if self._stage == 1:
            return encode(self._world.challenge)
        if self._stage == 2:
            return self._world.welcome(site_of(self._hello, self._key), self._world.signer)
        if self._stage > self._most + 2:
            return encode(Bye(code="stopping"))
        order = self._world.order(seq=100 + self._stage, member=2, size=self._size)
        return letter(self._world, order)[0]


async def flooded(link: Link, stream: Flood) -> tuple[Call, Bye]:
    call = Call(link, stream)
    return call, await call.run()


def test_orders_that_a_site_cant_keep_up_with_are_no_more_than_so_many(world: World) -> None:
    link = Site(world.south, "127.0.0.1:1", explain=False).link
    with pytest.raises(ProtocolError, match="more than 64 orders came and wait"):
        link._loop.run_until_complete(flooded(link, Flood(world)))
    assert link.orders.qsize() == 64
    link._loop.close()


def test_of_orders_that_never_come_whole_a_site_keeps_the_last_one_alone(world: World) -> None:
    """Each is within its limit, and a hundred would fill the disk."""
    link = Site(world.south, "127.0.0.1:1", explain=False).link
    call, end = link._loop.run_until_complete(flooded(link, Flood(world, size=2 << 20, most=100)))
    assert end.code == "stopping"
    assert call.taken is not None
    assert call.taken.mail is not None
    ((seq, size),) = [(each.seq, each.size) for each in call.taken.mail.partial()]
    assert (seq, size) == (202, 4)
    assert link.orders.empty()
    call.taken.mail.forget()
    link._loop.close()


def test_orders_that_there_is_no_room_for_are_refused_a_few_of_them_and_no_more(
    world: World,
) -> None:
    link = Site(world.south, "127.0.0.1:1", explain=False, most=1000).link
    with pytest.raises(ProtocolError, match="more than 64 orders came and wait"):
        link._loop.run_until_complete(flooded(link, Flood(world, size=1001)))
    refusals = [link.orders.get() for _ in range(64)]
    assert {each.refusal is not None for each in refusals if each} == {True}
    link._loop.close()
