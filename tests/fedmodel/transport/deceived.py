"""A site, its coordinator and a liar in that one's place, to whom the site's line may lead."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.identity import SigningKey
from fedmodel.transport.frames import Challenge, WelcomeFrame, decode, encode
from fedmodel.transport.hello import Hello, Welcome, greeted, signed_greeting
from fedmodel.transport.letters import Order, sign_header
from fedmodel.transport.payloads import Departure, digest_of
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import ALL
from tests.fedmodel.transport.liar import Ear, Liar
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, signer_of

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


@contextmanager
def deceived(root: Path) -> Iterator[World]:
    """Yield a world whose site dials again at once."""
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setattr("fedmodel.transport.backoff.Backoff.lost", lambda *_: 0.02)
        made = World(root)
        made.enter(stack)
        made.coordinator.wait_for(1)
        yield made


def letter(world: World, order: Order, signer: SigningKey | None = None) -> list[bytes]:
    signed = sign_header(order, (signer or world.signer).sign)
    return list(Departure(order.seq, signed, [b"good"]).frames())
