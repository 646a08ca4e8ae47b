"""An intruder: a client of gRPC that says what it likes, with whichever papers it has."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self, TypeVar

import grpc

from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import issue, make_request, read_certificate, tls_key_pem
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.transport.frames import (
    Ack,
    Bye,
    Challenge,
    Chunk,
    Frame,
    Head,
    HelloFrame,
    Letter,
    WelcomeFrame,
    decode,
    encode,
)
from fedmodel.transport.hello import Hello, signed_greeting
from fedmodel.transport.options import channel_options
from fedmodel.transport.server import METHOD
from fedmodel.transport.stamps import Standing
from fedmodel.transport.tls import read_material
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium
from tests.fedmodel.transport.world import Coordinator, signer_of

T = TypeVar("T")
ALL = frozenset[type[Head]]((Challenge, HelloFrame, WelcomeFrame, Letter, Chunk, Ack, Bye))
_WAIT = 20.0


@dataclass(frozen=True, slots=True)
class Papers:
    """A key of TLS and a certificate, PEM; none of them for whoever has none."""

    key: bytes | None = None
    certificate: bytes | None = None

    @property
    def sha256(self) -> str:
        return read_certificate((self.certificate or b"").decode()).sha256


def papers_of(home: PartyHome) -> Papers:
    material = read_material(home, None, "site")
    return Papers(material.key, material.certificate.pem.encode())


def short_papers(consortium: Consortium, home: PartyHome, start: datetime, days: int) -> Papers:
    """Return papers of a site that are good for some days: what its consortium could issue."""
    party, seed = home.read(), kept_secret(home.folder / "tls-key", "tls-key")
    authority = kept_secret(consortium.home.folder / "authority-key", "authority-key")
    subject, name = party.identity, party.owner.tls
    request = make_request(seed, subject, name)
    pem = issue(
        consortium.authority,
        authority,
        request,
        subject=subject,
        name=name,
        purpose="site",
        now=start,
        days=days,
    )
    return Papers(tls_key_pem(seed), pem.encode())


class Line:
    """A stream to a hub."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Any, method: str = METHOD) -> None:
        self._loop = loop
        self._channel = channel
        self._call = channel.stream_stream(method)()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT)

    def another(self, method: str = METHOD) -> "Line":
        """Return another stream of the same connection."""

        async def made() -> Line:
            return Line(self._loop, self._channel, method)

        return self._do(made())

    def say(self, *frames: bytes) -> None:
        """Send some messages, as far as the other end still takes them."""

        async def said() -> None:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                for frame in frames:
                    await self._call.write(frame)

        self._do(said())

    def hear(self) -> Frame | None:
        """Return the next frame; ``None``: the stream has ended."""

        async def heard() -> Any:
            try:
                return await self._call.read()
            except grpc.aio.AioRpcError:
                return None

        data = self._do(heard())
        return decode(data, ALL) if isinstance(data, bytes) else None

    def ended(self) -> str:
        """Return why the stream has ended, by the last word of the other end or of gRPC."""
        said = ""
        while (frame := self.hear()) is not None:
            if isinstance(frame.head, Bye):
                said = f"{frame.head.code}: {frame.head.reason}"

        async def status() -> str:
            return f"{(await self._call.code()).name}: {await self._call.details()}"

        return said or self._do(status())

    def over(self) -> bool:
        """Return whether the stream has ended, without reading what may have come."""

        async def found() -> bool:
            return bool(self._call.done())

        return self._do(found())

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._call.cancel)

    def hang_up(self) -> None:
        """End the connection."""
        self._do(self._channel.close())

    def challenge(self) -> Challenge:
        frame = self.hear()
        assert frame is not None
        assert isinstance(frame.head, Challenge)
        return frame.head

    def enter(self, home: PartyHome, papers: Papers, **changes: object) -> Self:
        """Greet as a site that one is, but for some changes, and be welcomed."""
        hello = hello_of(home, papers, self.challenge(), **changes)
        self.say(hello_frame(hello, signer_of(home)))
        frame = self.hear()
        assert frame is not None
        assert isinstance(frame.head, WelcomeFrame), frame.head
        return self


@contextmanager
def dialling(
    coordinator: Coordinator, papers: Papers, authority: str, *, plain: bool = False
) -> Iterator[Line]:
    """Yield a stream to a hub.

    It shares the hub's loop: gRPC in one process serves several loops badly, and has lost events.
    """
    loop, address = coordinator.hub.loop, coordinator.address
    options = channel_options(None, TLS_NAME)

    async def made() -> Line:
        if plain:
            return Line(loop, grpc.aio.insecure_channel(address, options))
        credentials = grpc.ssl_channel_credentials(
            authority.encode(), papers.key, papers.certificate
        )
        return Line(loop, grpc.aio.secure_channel(address, credentials, options))

    line = asyncio.run_coroutine_threadsafe(made(), loop).result(_WAIT)
    try:
        yield line
    finally:
        line.hang_up()


def hello_of(home: PartyHome, papers: Papers, challenge: Challenge, **changes: object) -> Hello:
    """Return what a site would say to a challenge, but for some changes."""
    roster = home.current_roster()
    hello = Hello(
        nonce=challenge.nonce,
        own="0a" * 32,
        certificate=papers.sha256,
        roster=roster.sha256,
        version=roster.version,
        consortium=roster.consortium,
        coordinator=roster.coordinator,
        member=roster.number_of(home.read().owner.name),
        sources="0" * 64,
        incarnation="0b" * 16,
        standing=Standing(),
    )
    return replace(hello, **changes)  # type: ignore[arg-type]


def hello_frame(hello: Hello, signer: SigningKey) -> bytes:
    return encode(HelloFrame(), signed_greeting(hello, signer.sign))
