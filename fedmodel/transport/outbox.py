"""Outbox of a coordinator: the orders that it waits for, who is connected, and when it gives up.

A reply counts once, and not after its order was given up. When a site connects it says where it
stands (:class:`~fedmodel.transport.stamps.Standing`): what it hasn't accepted is sent again, what
it is at or has replies to isn't, and what an earlier process of it had accepted and not answered is
lost.

A pure state machine: it sends nothing, and times are what it is told, in seconds of any clock that
doesn't go back.
"""

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from fedmodel.errors import ProtocolError, ReplayError
from fedmodel.runs.names import check_run
from fedmodel.transport.stamps import Stamp, Standing, require_start

__all__ = ["Connected", "Failed", "Outbox", "Reason"]


class Reason(enum.Enum):
    """Why an order is given up; the value ends a sentence that begins with the site's name."""

    LATE = "gave no reply in time"
    AWAY = "was away for too long"
    ABSENT = "isn't connected"
    RESTARTED = "was started anew while at it"


@dataclass(frozen=True, slots=True)
class Failed:
    """An order that is given up: no reply to it counts from now on.

    Args:
        member: whom it was for.
        seq: its number.
        reason: why.
    """

    member: int
    seq: int
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """What follows from a connection.

    Args:
        number: of the connection, for :meth:`Outbox.disconnected`.
        again: numbers of the orders to send now, in this order.
        lost: orders that are given up: no reply to them can come.
        anew: whether another process of the site was connected before.
    """

    number: int
    again: tuple[int, ...]
    lost: tuple[Failed, ...]
    anew: bool


@dataclass(slots=True)
class _Order:
    posted: float
    deadline: float


@dataclass(slots=True)
class _Member:
    incarnation: str | None = None
    over: set[str] = field(default_factory=set)  # incarnations that another one has followed
    number: int | None = None  # of its connection; None: it is away
    since: float = -math.inf  # when it went away
    # Digests of all orders there were, in their order: some 150 bytes each, of one start only.
    sent: dict[int, str] = field(default_factory=dict)
    waiting: dict[int, _Order] = field(default_factory=dict)


class Outbox:
    """The orders of one start of a coordinator.

    Args:
        run: the run's name.
        epoch: of this start.
        start: of this start, 16 bytes as hex.
        members: numbers of all sites in the roster, connected or not.
        grace: seconds that a site may be away before what it was asked is given up.
    """

    def __init__(
        self, run: str, epoch: int, start: str, members: Iterable[int], grace: float
    ) -> None:
        require_start(epoch, start)
        self.run = check_run(run)
        self.epoch = epoch
        self.start = start
        self._members = {member: _Member() for member in members}
        self._grace = grace
        self._seq = 0
        self._connections = 0

    def next_seq(self) -> int:
        """Return a number for an order that is to be signed and posted: none is given twice."""
        self._seq += 1
        return self._seq

    def before(self, member: int) -> str:
        """Return the digest of the last order that was posted to a member; empty: there was none.

        The header of the next one names it. So one order's digest stands for all before it, and two
        coordinators of one epoch can't agree on an order again once they differed on one.

        Args:
            member: whose.

        Raises:
            ProtocolError: for nobody's member.
        """
        return next(reversed(self._member(member).sent.values()), "")

    def post(self, member: int, seq: int, digest: str, now: float, deadline: float) -> Stamp:
        """Wait for the reply to an order from now on. Whoever is connected is sent it now.

        Whoever never came, or is away for longer than the grace, fails at once: :meth:`due` says
        so.

        Args:
            member: whom it is for.
            seq: from :meth:`next_seq`; orders of a member are posted as their numbers grow.
            digest: SHA-256 (hex) of its signed header, in which :meth:`before` stands.
            now: the time.
            deadline: time from which on no reply counts.

        Raises:
            ProtocolError: for a number that wasn't given, or is older than the member's last, and
                for nobody's member.
        """
        known = self._member(member)
        if not next(reversed(known.sent), 0) < seq <= self._seq:
            raise ProtocolError(f"order {seq} of member {member} must be posted once, in order")
        stamp = Stamp(self.run, self.epoch, self.start, seq, digest)
        known.sent[seq] = digest
        known.waiting[seq] = _Order(now, deadline)
        return stamp

    def check(self, member: int, incarnation: str, standing: Standing) -> None:
        """Check that a member may be spoken to: before anything is taken from whoever is there.

        Args:
            member: who has connected.
            incarnation: 16 bytes as hex: of its process.
            standing: where it says that it stands.

        Raises:
            ReplayError: as :meth:`connected`.
            ProtocolError: for nobody's member.
        """
        known = self._member(member)
        if incarnation in known.over:
            raise ReplayError(
                f"member {member}: another process of this site has connected since; two can't "
                "take part at once"
            )
        if standing.epoch >= self.epoch:
            self._check_same(known, member, standing)

    def connected(self, member: int, incarnation: str, standing: Standing, now: float) -> Connected:
        """Take note of a connection, in place of the one that the member may still have.

        Args:
            member: who has connected.
            incarnation: 16 bytes as hex: of its process.
            standing: where it says that it stands.
            now: the time.

        Raises:
            ReplayError: when its process was followed by another one; when it has obeyed a later
                coordinator, or another one of this epoch, or has accepted an order that this one
                never gave. Nothing has changed then: it mustn't be spoken to.
            ProtocolError: for nobody's member.
        """
        self.check(member, incarnation, standing)
        known = self._member(member)
        mine = standing.epoch == self.epoch
        taken, has = (standing.taken, standing.has) if mine else (0, ())
        anew = known.incarnation not in (None, incarnation)
        lost = [seq for seq in known.waiting if anew and seq <= taken and seq not in has]
        again = [s for s, order in known.waiting.items() if s > taken and order.deadline > now]
        if anew:
            known.over.add(str(known.incarnation))
        known.incarnation = incarnation
        self._connections += 1
        known.number = self._connections
        return Connected(
            number=known.number,
            lost=tuple(self._give_up(member, seq, Reason.RESTARTED) for seq in lost),
            again=tuple(again),
            anew=anew,
        )

    def disconnected(self, member: int, number: int, now: float) -> None:
        """Take note that a connection has ended. One that another has followed is nothing.

        Args:
            member: whose it was.
            number: of the connection.
            now: the time.

        Raises:
            ProtocolError: for nobody's member.
        """
        known = self._member(member)
        if known.number == number:
            known.number, known.since = None, now

    def replied(self, member: int, stamp: Stamp) -> bool:
        """Return whether a reply counts: it is the first to an order that is waited for.

        Every reply whose signature holds is acknowledged, whether it counts or not, once what
        counts has been put where it can't be lost to this process.

        Args:
            member: who has signed it.
            stamp: of the order that it answers.

        Raises:
            ProtocolError: when there was no such order to this member.
        """
        known = self._member(member)
        own = (stamp.run, stamp.epoch, stamp.start) == (self.run, self.epoch, self.start)
        if not own or known.sent.get(stamp.seq) != stamp.digest:
            raise ProtocolError(
                f"member {member} answers order {stamp.seq} of epoch {stamp.epoch}, which this "
                "coordinator never gave it"
            )
        return known.waiting.pop(stamp.seq, None) is not None

    def due(self, now: float) -> list[Failed]:
        """Give up, and return, the orders whose time is over.

        Args:
            now: the time.
        """
        failed = []
        for member, known in self._members.items():
            for seq, order in list(known.waiting.items()):
                if self._until(known, order) <= now:
                    failed.append(self._give_up(member, seq, self._why(known, order, now)))
        return failed

    def next_time(self) -> float | None:
        """Return when something will be due, if nothing else happens; ``None``: never."""
        times = (
            self._until(known, order)
            for known in self._members.values()
            for order in known.waiting.values()
        )
        return min(times, default=None)

    def waiting(self, member: int) -> tuple[int, ...]:
        """Return the numbers of the orders that a member hasn't answered.

        Args:
            member: whose.
        """
        return tuple(self._member(member).waiting)

    def incarnation(self, member: int) -> str | None:
        """Return the process of a member that connected last; ``None``: it never did.

        Args:
            member: whose.
        """
        return self._member(member).incarnation

    def present(self, now: float) -> frozenset[int]:
        """Return who is connected, or away for no longer than the grace.

        Args:
            now: the time.
        """
        return frozenset(m for m, known in self._members.items() if self._here(known, now))

    def _member(self, member: int) -> _Member:
        if member not in self._members:
            raise ProtocolError(f"there is no member {member} in the roster")
        return self._members[member]

    def _here(self, known: _Member, now: float) -> bool:
        return known.number is not None or now < known.since + self._grace

    def _until(self, known: _Member, order: _Order) -> float:
        if known.number is not None:
            return order.deadline
        return min(order.deadline, max(order.posted, known.since + self._grace))

    def _why(self, known: _Member, order: _Order, now: float) -> Reason:
        if known.number is not None:
            return Reason.LATE
        if known.incarnation is None:
            return Reason.ABSENT
        return Reason.AWAY if known.since + self._grace <= now else Reason.LATE

    def _give_up(self, member: int, seq: int, reason: Reason) -> Failed:
        del self._members[member].waiting[seq]
        return Failed(member, seq, reason)

    def _check_same(self, known: _Member, member: int, standing: Standing) -> None:
        if standing.epoch > self.epoch:
            raise ReplayError(
                f"member {member} obeys a coordinator of epoch {standing.epoch}, and this one's is "
                f"{self.epoch}: another one of this run is at work, or this run folder is an older "
                "copy; stop the other. If there is none, start this one again until its epoch is "
                "above that"
            )
        strange = standing.taken and known.sent.get(standing.taken) != standing.digest
        if standing.start != self.start or strange:
            raise ReplayError(
                f"member {member} has obeyed another coordinator of epoch {self.epoch}: there are "
                "two, with copies of one run folder or one machine; stop both, and start one again "
                "with resume=true"
            )
