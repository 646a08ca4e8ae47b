"""Call of a site to its coordinator: from its greeting to the end of the connection."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from fedmodel._escape import escaped
from fedmodel.config import canonical, sha256
from fedmodel.errors import ConfigError, ProtocolError, RunFolderError
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.transport.connection import Connection
from fedmodel.transport.frames import (
    Ack,
    Bye,
    Challenge,
    Chunk,
    Frame,
    Head,
    HelloFrame,
    Letter,
    Partial,
    WelcomeFrame,
    decode,
)
from fedmodel.transport.goodbyes import LOST, MALFORMED, NOT_NOW
from fedmodel.transport.hello import MOST, Hello, Welcome, greeted, signed_greeting
from fedmodel.transport.letters import Order, check_same
from fedmodel.transport.mail import Mail, Source
from fedmodel.transport.payloads import Arrival, Departure
from fedmodel.transport.stamps import Stamp

if TYPE_CHECKING:
    from fedmodel.transport.link import Link

__all__ = ["Call", "Received", "Taken"]

logger = logging.getLogger(__name__)

_GREETING_S = 30.0
_HEARD_S = 2.0  # for the coordinator to have read why this site goes
_MOST_WAITING = 64  # orders that have come and wait for this site to do them
_UNREADABLE = "what it keeps of this run can't be read or written; its own log says why"
_NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """An order that has come whole.

    Args:
        order: its header, which has verified.
        stamp: of it.
        payload: that the header was signed for.
        refusal: why it isn't done, nor its payload taken; ``None``: it is.
    """

    order: Order
    stamp: Stamp
    payload: memoryview
    refusal: str | None = None


@dataclass(slots=True, kw_only=True)
class Taken:
    """What is under way between a site's process and one start of a coordinator.

    Args:
        run: names the run.
        epoch: how often the coordinator had started on it.
        start: of the coordinator.
        mail: orders under way; ``None``: none yet.
        whole: orders that have come whole and aren't known to be over, by number.
        replies: that the coordinator isn't known to have.
    """

    run: str
    epoch: int
    start: str
    mail: Mail[Order] | None = None
    whole: dict[int, Partial] = field(default_factory=dict)
    replies: dict[int, Departure] = field(default_factory=dict)


class Call:
    """One connection of a site.

    Args:
        link: that it belongs to.
        stream: of gRPC.
    """

    def __init__(self, link: "Link", stream: Any) -> None:
        self._link = link
        self._stream = stream
        self.connection = Connection(stream.write, self.cut)
        self.taken: Taken | None = None
        self._latest = 0  # order of this connection that has begun
        self._over = asyncio.Event()

    def cut(self) -> None:
        """End the stream at once, and with it what the other end hasn't read of it."""
        self._stream.cancel()

    async def leave(self, code: str, reason: str) -> None:
        """Tell the coordinator why this site goes, and end the stream once that has been read.

        Args:
            code: of the end.
            reason: of it.
        """
        await self.connection.end(code, reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(_HEARD_S):
                await self._over.wait()  # the coordinator ends the stream when it has read that
        self.cut()

    async def run(self) -> Bye:
        """Greet, then take orders until the connection ends; return its end.

        Raises:
            grpc.aio.AioRpcError: when there is no connection, or it breaks.
            FedmodelError: when the coordinator isn't believed, or an order can't be kept.
        """
        try:
            return await self._run()
        finally:
            self._over.set()

    async def _run(self) -> Bye:
        try:
            async with asyncio.timeout(_GREETING_S):
                mail = await self._greet()
        except TimeoutError:
            return Bye(code=LOST, reason="the coordinator hasn't answered the greeting in time")
        except (RunFolderError, OSError):
            # Else it would be awaited there, and nobody would know why it doesn't come.
            await self.connection.end(NOT_NOW, _UNREADABLE)
            await self._ended()
            raise
        if isinstance(mail, Bye):
            return mail
        try:
            return await self._listen(mail)
        except ProtocolError:
            mail.forget()  # of whoever says such things nothing is kept
            raise

    async def _listen(self, mail: Mail[Order]) -> Bye:
        allowed: frozenset[type[Head]] = frozenset([Letter, Chunk, Ack, Bye])
        while True:
            frame = await self._next(allowed)
            if isinstance(frame.head, Bye):
                return frame.head
            if self.connection.closed:
                continue  # this site has said that it goes: it comes again, or another process does
            if isinstance(frame.head, Ack):
                self._acknowledged(frame.head.seq)
            else:
                self._take(frame, mail)

    async def _greet(self) -> Mail[Order] | Bye:
        config = self._link.config
        frame = await self._next(frozenset([Challenge, Bye]))
        if not isinstance(frame.head, Challenge):
            return _end(frame)
        challenge = frame.head
        # Before anything is told to it: an old coordinator learns nothing.
        config.inbox.check(challenge.run, challenge.epoch, challenge.start)
        roster = config.home.current_roster()
        hello = self._hello(challenge, roster, config.entropy.bytes(32).hex())
        await self.connection.say(HelloFrame(), signed_greeting(hello, config.signer.sign))
        frame = await self._next(frozenset([WelcomeFrame, Bye]))
        if not isinstance(frame.head, WelcomeFrame):
            return _end(frame)
        key = bytes.fromhex(roster.coordinator)
        welcome = greeted(Welcome, frame.body, lambda _: key)
        check_same(
            "welcome",
            [
                ("nonce", hello.own, welcome.nonce),
                ("certificate", hello.certificate, welcome.certificate),
                ("run", challenge.run, welcome.run),
            ],
        )
        _check_roster(hello, welcome)
        # A run's sites stay the same, so their numbers do; by another this site would be two nodes.
        number = self._link.numbers.setdefault(welcome.run, welcome.member)
        check_same("welcome", [("member", number, welcome.member)])
        obeyed = partial(config.inbox.obey, welcome.run, welcome.epoch, welcome.start)
        await self._link.aside(obeyed)
        taken = self._link.taken(welcome.run, welcome.epoch, welcome.start)
        if taken.mail is None:
            taken.mail = Mail(self._source(taken, welcome, roster.coordinator))
        self.taken = taken
        self._link.welcomed(taken)
        self._send_again(taken, welcome)
        return taken.mail

    def _hello(self, challenge: Challenge, roster: SignedRoster, own: str) -> Hello:
        config = self._link.config
        certificate = config.home.certificate()
        if certificate is None:
            raise ConfigError(f"{config.home.folder} has no certificate any more")
        standing = config.inbox.standing(challenge.run)
        taken = self._link.known(challenge.run, challenge.epoch, challenge.start)
        partial: tuple[Partial, ...] = ()
        if taken is not None and taken.mail is not None:
            partial = (*taken.mail.partial(), *taken.whole.values())[-MOST:]
        return Hello(
            nonce=challenge.nonce,
            own=own,
            certificate=certificate.sha256,
            roster=roster.sha256,
            version=roster.version,
            consortium=roster.consortium,
            coordinator=roster.coordinator,
            member=roster.number_of(config.home.read().owner.name),
            sources=config.sources,
            incarnation=self._link.incarnation,
            standing=replace(standing, has=standing.has[-MOST:]),
            partial=partial,
        )

    def _source(self, taken: Taken, welcome: Welcome, coordinator: str) -> Source[Order]:
        config = self._link.config

        def check(order: Order) -> bool:
            # One that can't be relied on any more ends the connection, too.
            newest = config.home.current_roster()
            check_same("order", [("coordinator", newest.coordinator, coordinator)])
            check_same(
                "order",
                [
                    ("run", taken.run, order.run),
                    ("epoch", taken.epoch, order.epoch),
                    ("start", taken.start, order.start),
                    ("member", welcome.member, order.member),
                    ("roster", welcome.roster, order.roster),
                ],
            )
            return order.seq not in taken.whole and self._fits(taken, order)

        key = bytes.fromhex(coordinator)
        return Source(Order, key, check, config.most, config.folder)

    def _fits(self, taken: Taken, order: Order) -> bool:
        """Return whether an order may come; one that there is no room for is answered at once.

        A coordinator asks a site for one thing at a time: with the next order it waits for the one
        before no more, and nothing is kept of that.
        """
        if taken.mail is None or order.seq in taken.replies:
            return False
        taken.mail.pass_over_others(order.seq)
        room, unheard = self._link.room, taken.replies.values()
        held = room.held + sum(reply.size for reply in unheard)
        if order.size <= room.most - held and len(unheard) < _MOST_WAITING:
            return True
        why = (
            f"the site has no room for an order of {order.size} bytes beside {held} of others, and "
            f"of {len(unheard)} replies that weren't acknowledged; at most {room.most} bytes, and "
            f"{_MOST_WAITING} replies"
        )
        logger.error("order %d (%s) is refused: %s", order.seq, escaped(order.type), why)
        self._hand_on(order, sha256(canonical(order)), _NOTHING, why)
        return False

    def _send_again(self, taken: Taken, welcome: Welcome) -> None:
        for seq in welcome.over:
            self._acknowledged(seq)
        for seq in sorted(taken.replies):
            reply = taken.replies[seq]
            self.connection.post(reply, reply.offset_in(welcome.partial))

    def _take(self, frame: Frame, mail: Mail[Order]) -> None:
        arrival: Arrival[Order] | None = None
        if isinstance(frame.head, Letter):
            order, arrival = mail.begin(frame.head, frame.body)
            if order.seq < self._latest:
                raise ProtocolError(
                    f"order {order.seq} came after order {self._latest}: their numbers rise"
                )
            self._latest = order.seq
        elif isinstance(frame.head, Chunk):
            arrival = mail.go_on(frame.head, frame.body)
        if arrival is None or not arrival.complete or self.taken is None:
            return
        payload = arrival.payload()
        self._link.room.hold(payload)
        self._hand_on(arrival.header, arrival.digest, payload)
        self.taken.whole[arrival.header.seq] = arrival.partial()

    def _hand_on(
        self, order: Order, digest: str, payload: memoryview, refusal: str | None = None
    ) -> None:
        if self._link.orders.qsize() >= _MOST_WAITING:
            raise ProtocolError(f"more than {_MOST_WAITING} orders came and wait to be done")
        stamp = Stamp(order.run, order.epoch, order.start, order.seq, digest)
        self._link.orders.put(Received(order=order, stamp=stamp, payload=payload, refusal=refusal))

    def _acknowledged(self, seq: int) -> None:
        taken = self.taken
        if taken is None:
            return
        taken.whole.pop(seq, None)
        reply = taken.replies.pop(seq, None)
        if reply is not None:
            reply.over = True
        self._link.acknowledge(taken, seq)

    async def _ended(self) -> None:
        """Wait, a little, until the coordinator has ended the stream, and take nothing more."""
        with suppress(TimeoutError, grpc.aio.AioRpcError):
            async with asyncio.timeout(_HEARD_S):
                while isinstance(await self._read(), bytes):
                    pass

    async def _next(self, allowed: frozenset[type[Head]]) -> Frame:
        data = await self._read()
        return decode(data, allowed) if isinstance(data, bytes) else Frame(data, _NOTHING)

    async def _read(self) -> bytes | Bye:
        try:
            data = await self._stream.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # by a deadline: it wants to hear of it
                raise
            # So gRPC says that this end has ended the stream (:meth:`cut`).
            return Bye(code=LOST, reason="the connection was ended here")
        return data if isinstance(data, bytes) else Bye(code=LOST, reason="the connection was lost")


def _check_roster(hello: Hello, welcome: Welcome) -> None:
    """Check by which roster a coordinator goes on: this site's, or one before it.

    Which one that was can't be known here, and needn't: it is the coordinator of the newest who
    says so, and this site's app does nothing but what is signed for the roster by which it joined.

    Raises:
        ProtocolError: when it is neither.
    """
    if welcome.version < hello.version and welcome.roster != hello.roster:
        logger.info(
            "this site has version %d of the roster, and the run goes by version %d until all join "
            "anew",
            hello.version, welcome.version,
        )  # fmt: skip
        return
    check_same(
        "welcome",
        [
            ("roster", hello.roster, welcome.roster),
            ("version", hello.version, welcome.version),
            ("member", hello.member, welcome.member),
        ],
    )


def _end(frame: Frame) -> Bye:
    return frame.head if isinstance(frame.head, Bye) else Bye(code=MALFORMED)
