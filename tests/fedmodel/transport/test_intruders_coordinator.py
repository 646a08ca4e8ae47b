"""A coordinator that lies to a site: nothing is done or told, and the site dials again."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fedmodel.transport.call import Call
from fedmodel.transport.frames import (
    Ack,
    Bye,
    Chunk,
    HelloFrame,
    Letter,
    encode,
)
from tests.fedmodel.transport.deceived import EPOCH, World, deceived, letter, site_of
from tests.fedmodel.transport.intruder import dialling, papers_of
from tests.fedmodel.transport.liar import Ear, Talk
from tests.fedmodel.transport.world import Site, signer_of, told, wait_until

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with deceived(tmp_path_factory.mktemp("world")) as made:
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
