"""The coordinator's end of the network: takes sites in, asks them, and matches their replies.

It has a thread of its own with its own loop, beside the one that aggregates. Who isn't on the
roster gets no further than its greeting; who is there and who isn't is known at any time.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fedmodel._paths import source_digest
from fedmodel.errors import ProtocolError
from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import Certificate
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.validity import utc_now
from fedmodel.seeds import Entropy
from fedmodel.transport.connection import settle
from fedmodel.transport.goodbyes import ENDED, STOPPING
from fedmodel.transport.letters import Order, Reply, sign_header
from fedmodel.transport.mail import Mail, Source
from fedmodel.transport.members import Look
from fedmodel.transport.notes import Notes, Told
from fedmodel.transport.outbox import Outbox
from fedmodel.transport.payloads import Departure, digest_of, size_of
from fedmodel.transport.questions import Answered, Question
from fedmodel.transport.rosters import Rosters
from fedmodel.transport.stamps import Stamp

if TYPE_CHECKING:
    from fedmodel.transport.caller import Caller

__all__ = ["Hub", "HubConfig"]

logger = logging.getLogger(__name__)

_TICK_S = 0.1
_SLOW_TICK_S = 20.0  # how often it is looked who has been taken back, or whose time is over
_CLOSING_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """What a coordinator's end goes by.

    Args:
        run: names the run.
        epoch: how often the coordinator has started on it, with this time.
        start: 128 random bits, hex, of this start.
        roster: of the run.
        signer: the coordinator's identity.
        newest: returns the newest roster that the coordinator has taken over; who isn't on it any
            more is let go.
        folder: for large payloads that are under way; of the coordinator alone.
        most: bytes that a reply may have.
        own: returns the coordinator's own certificate, as TLS shows it now; ``None``: what becomes
            of it isn't looked at.
        grace: seconds that a site may be away before what it was asked has failed.
        told: is told of each refusal: event, who (by the certificate, or an address), and why.
        sources: SHA-256 (hex) of the sources that this process runs.
        clock: tells the time, UTC.
        entropy: draws nonces.
    """

    run: str
    epoch: int
    start: str
    roster: SignedRoster
    signer: SigningKey
    newest: Callable[[], SignedRoster]
    folder: Path
    most: int
    own: Callable[[], Certificate] | None = None
    grace: float = 30.0
    told: Told = lambda event, who, why: None
    sources: str = field(default_factory=source_digest)
    clock: Callable[[], datetime] = utc_now
    entropy: Entropy = field(default_factory=Entropy)


@dataclass(slots=True)
class _Open:
    """An order that waits for its reply."""

    departure: Departure
    order: Order
    future: "asyncio.Future[Answered]"


class Hub:
    """The coordinator's end.

    Args:
        config: what it goes by.
    """

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.outbox = Outbox(
            run=config.run,
            epoch=config.epoch,
            start=config.start,
            members=tuple(config.roster.keys),
            grace=config.grace,
        )
        self.open: dict[int, _Open] = {}
        self.callers: dict[int, Caller] = {}  # by member: the end of its connection
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fedmodel-hub", daemon=True)
        self._asked = asyncio.Event()  # while there is something to be answered
        self.rosters = Rosters(config.roster, config.newest, config.clock)
        self.notes = Notes(config.told)
        self._mail: dict[int, tuple[str, Mail[Reply]]] = {}  # member → of which process, and what

    # -- for other threads -----------------------------------------------------------------------

    def run_beside(self) -> None:
        """Start the hub's thread."""
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its thread."""
        return self._loop

    def ask(self, questions: Sequence[Question], timeout: float | None) -> list[Answered]:
        """Ask sites, and return what they answer; who isn't there fails at once.

        Args:
            questions: one for each site at most.
            timeout: seconds after which it is no use any more; ``None``: there is no such time.

        Raises:
            ProtocolError: for a site that is asked for something else meanwhile.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        asked: list[Future[Answered]] = []
        try:
            for question in questions:
                # Here, for in the hub's thread all sites would wait for that; and one by one, for
                # the first is on its way while the next is hashed.
                one = self._ask(question, digest_of(question.parts), deadline)
                asked.append(asyncio.run_coroutine_threadsafe(one, self._loop))
            return [future.result() for future in asked]
        except BaseException:  # an interruption: nobody waits for the replies any more
            for future in asked:
                future.cancel()
            raise

    def present(self) -> frozenset[int]:
        """Return the members that are connected."""
        return frozenset(self.callers)

    def incarnations(self) -> dict[int, str]:
        """Return which process of each connected site that is: member → its name."""
        found = {member: self.outbox.incarnation(member) for member in self.present()}
        return {member: name for member, name in found.items() if name is not None}

    def close_callers(self, *, ended: bool) -> None:
        """Tell all sites that this is the end.

        Args:
            ended: the run is over; else this process stops, and may come again.
        """
        code = ENDED if ended else STOPPING
        with suppress(TimeoutError, RuntimeError):
            asyncio.run_coroutine_threadsafe(self._end(code), self._loop).result(_CLOSING_S)

    def close(self) -> None:
        """End the hub's thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSING_S)

    # -- in its own thread -----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        watches = (self._look_at_times(), self._look_at_members())
        tasks = [self._loop.create_task(each) for each in watches]
        try:
            self._loop.run_forever()
        finally:
            for task in tasks:
                task.cancel()
            settle(self._loop)
            self._loop.close()

    async def _ask(self, question: Question, digest: str, deadline: float) -> Answered:
        self._require_idle(question.member)
        seq, future = self._post(question, digest, deadline)
        try:
            return await future
        except asyncio.CancelledError:
            self.fail(seq, "nobody waits for it any more")
            raise

    def _require_idle(self, member: int) -> None:
        """Check that a site isn't asked for two things at once: with the second the first is over.

        Raises:
            ProtocolError: when it is.
        """
        for seq, each in [(s, o) for s, o in self.open.items() if o.order.member == member]:
            if not each.future.done():
                raise ProtocolError(f"member {member} is asked for something else meanwhile")
            self.fail(seq, "nobody waits for it any more")  # its question was interrupted

    def _post(
        self, question: Question, digest: str, deadline: float
    ) -> "tuple[int, asyncio.Future[Answered]]":
        """Post an order, and return its number and what will be its answer."""
        now, member = time.monotonic(), question.member
        seq = self.outbox.next_seq()
        order = Order(
            run=self.config.run,
            epoch=self.config.epoch,
            start=self.config.start,
            seq=seq,
            member=member,
            roster=self.config.roster.sha256,
            type=question.type,
            group=question.group,
            size=size_of(question.parts),
            sha256=digest,
            before=self.outbox.before(member),
        )
        departure = Departure(seq, sign_header(order, self.config.signer.sign), question.parts)
        self.outbox.post(member, seq, departure.header.digest, now, deadline)
        future: asyncio.Future[Answered] = self._loop.create_future()
        self.open[seq] = _Open(departure, order, future)
        self._asked.set()
        caller = self.callers.get(member)
        if caller is not None:
            caller.post(departure)
        self._give_up_what_is_due(now)
        return seq, future

    def answer(self, member: int, stamp: Stamp, payload: memoryview) -> None:
        """Hand on a reply; what comes again, or too late, changes nothing.

        Args:
            member: who has signed it.
            stamp: of the order that it answers.
            payload: the reply.

        Raises:
            ProtocolError: when there was no such order.
        """
        if not self.outbox.replied(member, stamp) or stamp.seq not in self.open:
            return
        self._settle(stamp.seq, payload, "")

    def fail(self, seq: int, reason: str) -> None:
        """Hand on that there won't be a reply."""
        self._settle(seq, None, reason)

    def _settle(self, seq: int, payload: memoryview | None, reason: str) -> None:
        opened = self._over(seq)
        if opened is None or opened.future.done():
            return
        member, sent = opened.order.member, opened.departure.sent
        answered = Answered(member=member, payload=payload, reason=reason, sent=sent)
        opened.future.set_result(answered)

    def _over(self, seq: int) -> _Open | None:
        """Forget an order, and what there is of it on its way, out or in."""
        opened = self.open.pop(seq, None)
        if opened is None:
            return None
        member = opened.order.member
        opened.departure.over = True
        if member in self._mail:  # the site may be away
            self._mail[member][1].pass_over(seq)
        caller = self.callers.get(member)
        if caller is not None:
            caller.connection.withdraw(seq)
        return opened

    def mail_of(self, member: int, incarnation: str, source: Source[Reply]) -> Mail[Reply]:
        """Return what has come of a site's letters; of another process of it, nothing.

        Args:
            member: number in the roster.
            incarnation: of its process.
            source: whose letters may come.
        """
        known = self._mail.get(member)
        if known is not None and known[0] == incarnation:
            return known[1]
        if known is not None:
            known[1].forget()
        self._mail[member] = incarnation, Mail(source)
        return self._mail[member][1]

    def came(self, member: int, caller: "Caller") -> None:
        """Take note that a site is connected."""
        self.callers[member] = caller

    def went(self, member: int, caller: "Caller", number: int) -> None:
        """Take note that a site's connection has ended; another one may have taken its place.

        Args:
            member: whose it was.
            caller: whose connection has ended.
            number: of the connection.
        """
        if self.callers.get(member) is not caller:
            return
        del self.callers[member]
        self.outbox.disconnected(member, number, time.monotonic())

    async def _look_at_times(self) -> None:
        while True:
            await self._asked.wait()
            await asyncio.sleep(_TICK_S)
            try:
                self._give_up_what_is_due(time.monotonic())
            except Exception:  # without this watch a round would never end
                logger.exception("what is due can't be given up now")
            if not self.open:
                self._asked.clear()

    def _give_up_what_is_due(self, now: float) -> None:
        for each in self.outbox.due(now):
            self.fail(each.seq, each.reason.value)

    async def _look_at_members(self) -> None:
        while True:
            await asyncio.sleep(_SLOW_TICK_S)
            try:
                look = self.rosters.look()
            except Exception:  # without this watch nobody would be let go
                logger.exception("the sites can't be looked at now")
                continue
            # At once: whoever doesn't listen to its end would hold up the others'.
            looks = [_look_at(caller, look) for caller in self.callers.values()]
            for failed in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(failed, Exception):
                    logger.error("a site can't be looked at now", exc_info=failed)

    async def _end(self, code: str) -> None:
        callers = list(self.callers.values())
        ends = (each.connection.end(code) for each in callers)
        await asyncio.gather(*ends, return_exceptions=True)


async def _look_at(caller: "Caller", look: Look) -> None:
    why = caller.outdated(look)
    if why is not None:
        await caller.let_go(why)
