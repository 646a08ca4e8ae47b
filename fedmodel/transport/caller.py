"""Coordinator's end of one connection of a site: from the greeting to its end."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmodel._escape import escaped
from fedmodel.errors import (
    FedmodelError,
    IdentityError,
    ProtocolError,
    RefusedError,
    RunFolderError,
)
from fedmodel.identity.certificates import Certificate
from fedmodel.identity.signed_roster import SignedMember
from fedmodel.identity.validity import check_valid
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
    WelcomeFrame,
    decode,
)
from fedmodel.transport.goodbyes import AGAIN, LOST, MALFORMED, NOT_NOW, REFUSED, REPLACED
from fedmodel.transport.hello import Hello, Welcome, greeted, signed_greeting
from fedmodel.transport.letters import Reply, check_same
from fedmodel.transport.mail import Mail, Source
from fedmodel.transport.members import Listed, Look, number_of
from fedmodel.transport.payloads import Arrival, Departure
from fedmodel.transport.stamps import Stamp

if TYPE_CHECKING:
    from fedmodel.transport.hub import Hub

__all__ = ["Caller", "Stream"]

logger = logging.getLogger(__name__)

_GREETING_S = 10.0
_LARGEST_GREETING = 1 << 16  # bytes of a frame from somebody who hasn't greeted


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of gRPC as this end of it needs it.

    Args:
        read: returns the next message; empty: the other end has ended the stream.
        write: sends one.
        cut: ends the stream at once.
        certificate: that TLS has checked.
        address: of the other end, for logs.
    """

    read: Callable[[], Awaitable[bytes]]
    write: Callable[[bytes], Awaitable[None]]
    cut: Callable[[], object]
    certificate: Certificate
    address: str


class Caller:
    """One connection of a site.

    Args:
        hub: that it belongs to.
        stream: to the site.
        greeted: is told, once, when the greeting is over, however that went.
    """

    def __init__(self, hub: "Hub", stream: Stream, greeted: Callable[[], None]) -> None:
        self._hub = hub
        self._stream = stream
        own = hub.config.own
        self._own = None if own is None else own()  # TLS has shown it, and looks at it no more
        self._greeted = greeted
        self.connection = Connection(stream.write, stream.cut)
        self.member: SignedMember | None = None
        self.number = 0
        self.incarnation = ""
        self._connection_number = 0
        self._waiting: list[tuple[Departure, int]] | None = []  # until the site is welcomed
        self.mail: Mail[Reply] | None = None

    async def run(self) -> None:
        """Greet, then take letters until the connection ends."""
        try:
            mail = await self._let_in()
            if mail is not None:
                await self._listen(mail)
        except RunFolderError as error:
            # That is no fault of the site's, and where this end keeps things isn't for it.
            logger.error("what the site %s sends can't be kept: %s", self._name, error)
            why = "what comes can't be kept now; the coordinator's own log says why"
            await self.connection.end(NOT_NOW, why)
        except FedmodelError as error:
            self._note("link-malformed", str(error))
            if self.mail is not None:
                self.mail.forget()  # of whoever sends such things nothing is kept
            await self.connection.end(MALFORMED, str(error))
        except ConnectionError as error:
            logger.debug("the connection of %s is lost: %s", self._name, error)
        except Exception:
            logger.exception("the connection of the site %s fails", self._name)
        finally:
            self.connection.close()
            self._hub.went(self.number, self, self._connection_number)

    async def _let_in(self) -> Mail[Reply] | None:
        """Greet; return what has come of the site's letters, ``None``: it isn't let in."""
        try:
            async with asyncio.timeout(_GREETING_S):
                return await self._begin(*await self._greet())
        except TimeoutError:
            await self._refuse(f"no greeting within {_GREETING_S:g} seconds")
        except FedmodelError as error:
            await self._refuse(str(error), type(error).__name__)
        finally:
            self._greeted()
        return None

    def outdated(self, look: Look) -> str | None:
        """Return why the site may no longer be here; ``None``: it may.

        Args:
            look: at all sites (:meth:`Hub.look`).
        """
        certificate, own = self._stream.certificate, self._own
        try:
            check_valid("the site's certificate", certificate.start, certificate.end, look.now)
            if own is not None:
                check_valid("the coordinator's certificate", own.start, own.end, look.now)
            if look.listed is None:
                return look.why
            if self.member is not None:
                look.listed.check(self.member)
        except (IdentityError, RefusedError) as error:
            return str(error)
        return None

    def cut(self) -> None:
        """End the connection at once."""
        self._stream.cut()

    async def let_go(self, why: str) -> None:
        """End the connection of a site that may no longer be here."""
        self._note("link-ended", why)
        await self.connection.end(REFUSED, why)
        self._stream.cut()

    # -- the greeting ----------------------------------------------------------------------------

    async def _greet(self) -> tuple[Hello, SignedMember]:
        config = self._hub.config
        nonce = config.entropy.bytes(32).hex()
        challenge = Challenge(nonce=nonce, run=config.run, epoch=config.epoch, start=config.start)
        await self.connection.say(challenge)
        frame = await self._next(frozenset([HelloFrame, Bye]), _LARGEST_GREETING)
        if not isinstance(frame.head, HelloFrame):
            raise ProtocolError(f"no greeting: {_said(frame.head)}")

        numbers: list[int] = []

        def key_of(hello: Hello) -> bytes:
            numbers.append(self.recognised(hello, nonce))
            return config.roster.keys[numbers[0]]

        hello = greeted(Hello, frame.body, key_of)
        member = config.roster.members[numbers[0] - 1]
        self.member, self.number, self.incarnation = member, numbers[0], hello.incarnation
        return hello, member

    def recognised(self, hello: Hello, nonce: str) -> int:
        """Return the number in the run's roster of whoever says a greeting; it may refuse.

        Args:
            hello: as it came; that this member has signed it is checked afterwards.
            nonce: that this end has given for this connection.
        """
        config, certificate = self._hub.config, self._stream.certificate
        listed, now = Listed(self._hub.rosters.newest()), config.clock()
        listed.check_not_revoked(certificate.subject)  # whatever else there is, that is why
        self._hub.rosters.check(now)
        number = number_of(hello, nonce, certificate, config.roster, now)
        listed.check(config.roster.members[number - 1])
        return number

    async def _begin(self, hello: Hello, member: SignedMember) -> Mail[Reply]:
        """Take the place of the site's connection before, and go on where that has ended."""
        hub, config, now = self._hub, self._hub.config, time.monotonic()
        await self._end_before(hello)
        # From here on it is this connection that orders go by: none may fall in between.
        state = hub.outbox.connected(self.number, self.incarnation, hello.standing, now)
        source = self._source(bytes.fromhex(member.key))
        mail = self.mail = hub.mail_of(self.number, self.incarnation, source)
        self._connection_number = state.number
        hub.came(self.number, self)
        for each in state.lost:
            hub.fail(each.seq, each.reason.value)
        self._waiting = [
            (each, each.offset_in(hello.partial))
            for each in (hub.open[seq].departure for seq in state.again if seq in hub.open)
        ]
        mine = hello.standing.epoch == config.epoch
        welcome = Welcome(
            nonce=hello.own,
            certificate=self._stream.certificate.sha256,
            run=config.run,
            epoch=config.epoch,
            start=config.start,
            roster=config.roster.sha256,
            version=config.roster.version,
            member=self.number,
            partial=mail.partial(),
            over=tuple(seq for seq in hello.standing.has if seq not in hub.open) if mine else (),
        )
        await self.connection.say(WelcomeFrame(), signed_greeting(welcome, config.signer.sign))
        self._say_here(hello, anew=state.anew)
        waiting, self._waiting = self._waiting, None
        for departure, offset in waiting or ():
            self.connection.post(departure, offset)
        return mail

    async def _end_before(self, hello: Hello) -> None:
        hub, before = self._hub, None
        # While one is told, yet another may come: of those that are here none may be left over.
        while (found := hub.callers.get(self.number)) not in (None, before):
            before = found
            # First: whoever mustn't be spoken to would else end the connection of the good process.
            hub.outbox.check(self.number, self.incarnation, hello.standing)
            same = before.incarnation == self.incarnation
            code = AGAIN if same else REPLACED
            await before.connection.end(code, "another connection of this site has come")
            before.cut()

    def post(self, departure: Departure) -> None:
        """Send a letter to the site; after the welcome, where that is still under way."""
        if self._waiting is None:
            self.connection.post(departure, 0)
        else:
            self._waiting.append((departure, 0))

    def _say_here(self, hello: Hello, *, anew: bool) -> None:
        how = ", as another process than before" if anew else ""
        logger.info("site %s is here (%s)%s", self._name, self._stream.address, how)
        own = self._hub.config.sources
        if hello.sources != own:
            # Said now: it refuses the job, and that shows once all that are awaited are here.
            logger.warning(
                "site %s has other sources (%s…) than this coordinator (%s…), and refuses its job "
                "for that; install the same fedmodel version everywhere",
                self._name, hello.sources[:16], own[:16],
            )  # fmt: skip
        version = self._hub.config.roster.version
        if hello.version > version:
            logger.warning(
                "site %s has version %d of the roster, and the run goes by version %d: that is "
                "good until all join anew; before that, take the newest over here, too: fedmodel "
                "provision role=coordinator home=… roster=PATH",
                self._name, hello.version, version,
            )  # fmt: skip

    def _source(self, key: bytes) -> Source[Reply]:
        hub, config, number = self._hub, self._hub.config, self.number

        def check(reply: Reply) -> bool:
            check_same(
                "reply",
                [
                    ("run", config.run, reply.run),
                    ("epoch", config.epoch, reply.epoch),
                    ("start", config.start, reply.start),
                    ("member", number, reply.member),
                ],
            )
            opened = hub.open.get(reply.seq)
            if opened is None:
                return False
            check_same(
                "reply",
                [
                    ("member", opened.order.member, number),
                    ("order", opened.departure.header.digest, reply.order),
                ],
            )
            if reply.size > config.most:
                why = f"has a reply of {reply.size} bytes, at most {config.most} may come"
                self._note("reply-refused", why)
                hub.fail(reply.seq, why)
                return False
            return True

        return Source(Reply, key, check, config.most, config.folder)

    # -- letters ---------------------------------------------------------------------------------

    async def _listen(self, mail: Mail[Reply]) -> None:
        allowed: frozenset[type[Head]] = frozenset([Letter, Chunk, Bye])
        while True:
            frame = await self._next(allowed)
            if isinstance(frame.head, Bye):
                if self.connection.closed:  # by this end
                    return
                logger.info(
                    "site %s goes: %s", self._name, escaped(frame.head.reason or frame.head.code)
                )
                return
            await self._take(frame, mail)

    async def _take(self, frame: Frame, mail: Mail[Reply]) -> None:
        arrival: Arrival[Reply] | None
        if isinstance(frame.head, Letter):
            header, arrival = mail.begin(frame.head, frame.body)
            if arrival is None:
                await self.connection.say(Ack(seq=header.seq))
        elif isinstance(frame.head, Chunk):
            arrival = mail.go_on(frame.head, frame.body)
        else:
            return
        if arrival is not None and arrival.complete:
            reply = arrival.header
            try:
                payload = arrival.payload()
            except ProtocolError:
                self._hub.fail(reply.seq, "gave a reply that isn't the one it has signed")
                raise
            stamp = Stamp(reply.run, reply.epoch, reply.start, reply.seq, reply.order)
            self._hub.answer(self.number, stamp, payload)
            await self.connection.say(Ack(seq=reply.seq))

    async def _next(self, allowed: frozenset[type[Head]], most: int | None = None) -> Frame:
        data = await self._stream.read()
        if not data:
            return Frame(Bye(code=LOST, reason="the connection was lost"), memoryview(b""))
        if most is not None and len(data) > most:
            raise ProtocolError(f"expected a greeting of at most {most} bytes, got {len(data)}")
        return decode(data, allowed)

    # -- what is written down --------------------------------------------------------------------

    async def _refuse(self, why: str, kind: str = "") -> None:
        self._note("link-refused", why)
        await self.connection.end(REFUSED, f"{kind}: {why}" if kind else why)

    @property
    def _name(self) -> str:
        if self.member is not None:
            return self.member.name
        return ", ".join(self._stream.certificate.names) or "?"

    def _note(self, event: str, why: str) -> None:
        self._hub.notes.add(event, self._name, self._stream.address, why)


def _said(head: Head) -> str:
    """Return why a site goes that hasn't greeted; whoever has sent it has a certificate."""
    if isinstance(head, Bye) and head.code != LOST and head.reason:
        return f"the site says: {escaped(head.reason)}"
    return "the site has gone, or has sent more than one message may have"
