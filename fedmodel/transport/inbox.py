"""Inbox of a site: which orders it has accepted, and the replies that nobody has acknowledged yet.

An order is noted on disk before it is acted on, and its reply is on disk before it is told. So
after a kill at any point each order was acted on once or never, and each reply is the one that was
first made. What was accepted and has no reply is lost: it isn't done again.

Numbers of orders only grow: one that is older than the last is an order of the past, and isn't
acted on even where it never came before. A link admits orders of its present stream only, in their
order.
"""

import enum
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from fedmodel.errors import ReplayError, RunFolderError
from fedmodel.transport.stamps import Stamp, Standing, require_start

__all__ = ["Inbox", "Noted", "Order", "Part", "Store", "Verdict"]

Part: TypeAlias = bytes | memoryview


class Verdict(enum.Enum):
    """What becomes of an order that has come."""

    DO = "it came for the first time, and is noted: act on it"
    AGAIN = "it was answered: its reply is sent once more"
    BUSY = "it is being acted on"
    LOST = "it was accepted by a process that ended before the reply was kept: no reply will come"


@dataclass(frozen=True, slots=True)
class Order:
    """An order that was accepted.

    Args:
        seq: its number.
        digest: SHA-256 (hex) of its header.
    """

    seq: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is on disk of a run's orders.

    Args:
        epoch: the highest that was obeyed; 0: none.
        start: of that coordinator.
        last: the last order that was accepted of it.
        open: those that were accepted and may have no acknowledged reply yet, the last among them.
    """

    epoch: int = 0
    start: str = ""
    last: Order | None = None
    open: tuple[Order, ...] = ()

    def stamps(self, run: str) -> tuple[Stamp, ...]:
        """Return the stamps of the open orders.

        Args:
            run: whose these are.
        """
        return tuple(Stamp(run, self.epoch, self.start, o.seq, o.digest) for o in self.open)


class Store(Protocol):
    """Where an inbox keeps what must outlive its process. What it can't do it raises.

    All its errors are :class:`~fedmodel.errors.RunFolderError`.
    """

    def locked(self, run: str) -> AbstractContextManager[None]:
        """Keep other threads and processes out of a run's inbox."""

    def read(self, run: str) -> Noted:
        """Return what was noted last, or an empty note."""

    def note(self, run: str, noted: Noted) -> None:
        """Replace what is noted; return once it is on disk. Replies to all but its open orders go.

        The run is locked.
        """

    def keep(self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = "") -> None:
        """Keep the reply to an order, if it is still open; return once it is on disk.

        The run isn't locked. Of the parts after the first ones the SHA-256 may be known.
        """

    def has(self, stamp: Stamp) -> bool:
        """Return whether there is a reply to an order, whole."""

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        """Return the parts of a reply that is there."""

    def drop(self, stamp: Stamp) -> None:
        """Let go of the reply to an order, where there is one; the run is locked.

        After a kill the reply may be there again: it is only sent once more.
        """


class Inbox:
    """The orders of all runs that a process of a site takes part in.

    It may be used by several threads. No two processes use the same store at once; were there two,
    no order would be acted on twice.

    Args:
        store: keeps what must outlive the process.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._busy: set[Stamp] = set()  # accepted by this process, and not answered
        self._over: set[Stamp] = set()  # acknowledged, and still noted as open

    def standing(self, run: str) -> Standing:
        """Return where the site stands in a run.

        Raises:
            RunFolderError: when what is on disk can't be read.
        """
        noted = self._store.read(run)
        last = noted.last
        return Standing(
            epoch=noted.epoch,
            start=noted.start,
            taken=last.seq if last else 0,
            digest=last.digest if last else "",
            has=tuple(stamp.seq for stamp in self._answered(run, noted)),
        )

    def check(self, run: str, epoch: int, start: str) -> None:
        """Check that a coordinator may be obeyed: before anything is told to it.

        Args:
            run: the run's name.
            epoch: of the coordinator.
            start: of the coordinator.

        Raises:
            ReplayError: when a later coordinator, or another one of this epoch, was obeyed before.
            RunFolderError: when what is on disk can't be read.
        """
        require_start(epoch, start)
        _check_epoch(self._store.read(run), epoch, start)

    def obey(self, run: str, epoch: int, start: str) -> None:
        """Note that a coordinator is obeyed from now on, and none from before it.

        The first order of it does the same. Replies to earlier coordinators are dropped.

        Args:
            run: the run's name.
            epoch: of the coordinator.
            start: of the coordinator.

        Raises:
            ReplayError: as :meth:`check`.
            RunFolderError: when it can't be noted; then it isn't obeyed.
        """
        require_start(epoch, start)
        with self._store.locked(run):
            noted = self._store.read(run)
            _check_epoch(noted, epoch, start)
            if noted.epoch < epoch:
                self._note(run, Noted(epoch=epoch, start=start))

    def admit(self, stamp: Stamp) -> Verdict:
        """Say what becomes of an order. One to act on is on disk as accepted before this returns.

        Args:
            stamp: of an order whose signature, receiver and content have been checked.

        Raises:
            ReplayError: when it is of an earlier coordinator, or another one of the same epoch; or
                has the number of another order; or of one that is over.
            RunFolderError: when what is on disk can't be read or written: it mustn't be acted on.
        """
        with self._store.locked(stamp.run):
            noted = self._store.read(stamp.run)
            _check_epoch(noted, stamp.epoch, stamp.start)
            if noted.epoch < stamp.epoch:
                noted = Noted(epoch=stamp.epoch, start=stamp.start)
            if noted.last is not None and stamp.seq <= noted.last.seq:
                return self._known(noted, stamp)
            order = Order(stamp.seq, stamp.digest)
            kept = [Order(s.seq, s.digest) for s in noted.stamps(stamp.run) if self._alive(s)]
            # Before it is noted, so that no other thread takes it for one that is answered.
            self._busy.add(stamp)
            try:
                self._note(stamp.run, replace(noted, last=order, open=(*kept, order)))
            except RunFolderError:
                self._busy.discard(stamp)
                raise
            return Verdict.DO

    def answered(
        self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = ""
    ) -> bool:
        """Keep the reply to an order that this process was told to do.

        Args:
            stamp: of the order.
            parts: of the reply, of any sizes.
            first: how many of them, small ones, aren't hashed.
            sha256: of all others, hex, so that large ones needn't be hashed again; empty: it isn't
                known.

        Returns:
            True: it is on disk, and may be sent. False: a later coordinator is obeyed by now, or
            another process has taken a later order, so it isn't kept, and mustn't be sent.

        Raises:
            ReplayError: when this process isn't at that order, or has answered it.
            RunFolderError: when it can't be kept: it mustn't be sent. It may be tried again, also
                with another reply.
        """
        if stamp not in self._busy:
            raise ReplayError(
                f"order {stamp.seq} of epoch {stamp.epoch} isn't being acted on by this process, "
                "or is answered; an order is answered once"
            )
        try:
            if self._awaited(stamp):
                self._store.keep(stamp, parts, first, sha256)
        except RunFolderError:
            if self._awaited(stamp):
                raise
        with self._store.locked(stamp.run):
            awaited = self._awaited(stamp)
            if not awaited:
                self._store.drop(stamp)
            self._busy.discard(stamp)
        return awaited

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        """Return the parts of a reply, as they were given to :meth:`answered`.

        Args:
            stamp: of an order that :meth:`admit` said AGAIN of, or of :meth:`unacknowledged`.

        Raises:
            RunFolderError: when it can't be read, or was changed.
        """
        return self._store.reply(stamp)

    def unacknowledged(self, run: str) -> tuple[Stamp, ...]:
        """Return the orders whose replies are to be sent again after a reconnect, in their order.

        Raises:
            RunFolderError: when what is on disk can't be read.
        """
        return self._answered(run, self._store.read(run))

    def acknowledge(self, run: str, epoch: int, seq: int) -> None:
        """Drop a reply that the coordinator has. What is none, or of another epoch, is nothing.

        Args:
            run: the run's name.
            epoch: of the coordinator that acknowledges.
            seq: number of the order.

        Raises:
            RunFolderError: when it can't be removed.
        """
        with self._store.locked(run):
            for stamp in self._answered(run, self._store.read(run)):
                if (stamp.epoch, stamp.seq) == (epoch, seq):
                    self._store.drop(stamp)
                    self._over.add(stamp)

    def _known(self, noted: Noted, stamp: Stamp) -> Verdict:
        digests = {order.seq: order.digest for order in noted.open}
        if stamp.seq not in digests:
            raise ReplayError(
                f"order {stamp.seq} of epoch {stamp.epoch} is over: a later one was accepted"
            )
        if digests[stamp.seq] != stamp.digest:
            raise ReplayError(
                f"order {stamp.seq} of epoch {stamp.epoch} differs from the one of this number "
                "that was accepted: two coordinators speak as one, perhaps a copy of its machine; "
                "stop both, and start one with resume=true"
            )
        if stamp in self._over:
            raise ReplayError(
                f"order {stamp.seq} of epoch {stamp.epoch} is over: its reply was acknowledged"
            )
        if stamp in self._busy:
            return Verdict.BUSY
        return Verdict.AGAIN if self._store.has(stamp) else Verdict.LOST

    def _answered(self, run: str, noted: Noted) -> tuple[Stamp, ...]:
        # Copies: another thread may be in the middle of an order.
        settled = {*list(self._busy), *list(self._over)}
        return tuple(s for s in noted.stamps(run) if s not in settled and self._store.has(s))

    def _alive(self, stamp: Stamp) -> bool:
        return stamp in self._busy or (stamp not in self._over and self._store.has(stamp))

    def _awaited(self, stamp: Stamp) -> bool:
        return stamp in self._store.read(stamp.run).stamps(stamp.run)

    def _note(self, run: str, noted: Noted) -> None:
        self._store.note(run, noted)
        self._over = {stamp for stamp in self._over if stamp.run != run}


def _check_epoch(noted: Noted, epoch: int, start: str) -> None:
    if epoch < noted.epoch:
        raise ReplayError(
            f"epoch {epoch} of the run's coordinator is over: epoch {noted.epoch} was obeyed "
            "since. An old coordinator is still at work, or its run folder is an older copy; stop "
            "it. If it is the only one, start it again until its epoch is above that"
        )
    if epoch == noted.epoch and start != noted.start:
        raise ReplayError(
            f"another coordinator of epoch {epoch} was obeyed before: there are two, with copies "
            "of one run folder; stop both, and start one again with resume=true"
        )
