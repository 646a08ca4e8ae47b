"""A coordinator that says anything at all to a site, or more than it can take."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from fedmodel.errors import FedmodelError, ProtocolError
from fedmodel.transport.call import Call
from fedmodel.transport.frames import Ack, Bye, Chunk, HelloFrame, decode, encode
from fedmodel.transport.link import Link
from tests.fedmodel.transport.deceived import World, deceived, letter, site_of
from tests.fedmodel.transport.intruder import ALL
from tests.fedmodel.transport.mutants import mutant
from tests.fedmodel.transport.world import Site

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with deceived(tmp_path_factory.mktemp("world")) as made:
        yield made


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
