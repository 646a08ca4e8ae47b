"""The book: what a ledger's entries add up to, held and spent. No files, no clock."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from fedmodel.accounting.spends import Spend
from fedmodel.errors import LedgerError
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.entries import (
    AbortEntry,
    DatasetEntry,
    Entry,
    OpenEntry,
    Part,
    ReleaseEntry,
    ReserveEntry,
    SpendEntry,
    TornEntry,
)

__all__ = ["Book", "Reservation"]

_StepKind: TypeAlias = tuple[str, str]  # rate and noise multiplier, as they are written
_SHARED = ("unit", "adjacency", "delta")


@dataclass(slots=True)
class Reservation:
    """What one run of a job may spend, and has.

    Args:
        entry: that made it.
        spent: drawn on it.
        end: that ended it; ``None`` while it is open.
    """

    entry: ReserveEntry
    spent: list[SpendEntry] = field(default_factory=list)
    end: ReleaseEntry | AbortEntry | None = None
    _left: Counter[_StepKind] = field(default_factory=Counter)
    _spent: Counter[_StepKind] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for part in self.entry.parts:
            self._left[part.rate, part.noise_multiplier] += part.steps

    def check(self, entry: SpendEntry) -> None:
        """Check that a spend can be drawn on it.

        Raises:
            LedgerError: when it gives up steps that aren't held.
        """
        if min(self._after(entry).values(), default=0) < 0:
            raise LedgerError("it gives up steps that its reservation doesn't hold")

    def draw(self, entry: SpendEntry) -> None:
        """Count a spend that was checked."""
        self._left = self._after(entry)
        self._spent[entry.rate, entry.noise_multiplier] += entry.steps
        self.spent.append(entry)

    def _after(self, entry: SpendEntry) -> Counter[_StepKind]:
        """Return what is left after a spend: fewer steps of its kind, if any are, and of others."""
        left = Counter(self._left)
        kind = (entry.rate, entry.noise_multiplier)
        left[kind] = max(0, left[kind] - entry.steps)
        for part in entry.given_up:
            left[part.rate, part.noise_multiplier] -= part.steps
        return left

    def left(self, rate: float, noise_multiplier: float) -> int:
        """Return how many steps of a kind are still held, whether or not it has ended."""
        return self._left[repr(float(rate)), repr(float(noise_multiplier))]

    def done(self) -> list[Spend]:
        """Return what is spent, equal steps taken together."""
        return _spends(self._spent)

    def held(self) -> list[Spend]:
        """Return what is still held: nothing once it has ended."""
        return [] if self.end else _spends(self._left)

    def charge(self, spend: Spend) -> Charge:
        """Return a spend on this reservation as a charge."""
        entry = self.entry
        return Charge(spend, entry.unit, entry.adjacency, float(entry.delta))


class Book:
    """The state after some entries. :meth:`check` an entry, then :meth:`take` it."""

    def __init__(self) -> None:
        self.opened: OpenEntry | None = None
        self.dataset: DatasetEntry | None = None
        self.reservations: dict[int, Reservation] = {}
        self._open: dict[tuple[str, str], int] = {}  # (run, job) → its open reservation
        self._attempts: Counter[tuple[str, str, str, int]] = Counter()

    def check(self, entry: Entry) -> None:
        """Check that an entry means something after those before it.

        Raises:
            LedgerError: when it doesn't: a spend or an end without an open reservation of its own
                run and job, a second beginning, or anything before the beginning.
        """
        if isinstance(entry, TornEntry):
            return
        if isinstance(entry, OpenEntry) == (self.opened is not None):
            raise LedgerError(
                "a ledger has one entry 'open', its first, "
                f"got '{entry.type}' {'after' if self.opened else 'before'} it"
            )
        if isinstance(entry, ReserveEntry) and (entry.run, entry.job) in self._open:
            raise LedgerError("its run and job have an open reservation already")
        if isinstance(entry, SpendEntry | ReleaseEntry | AbortEntry):
            self._check_drawn(entry)

    def _check_drawn(self, entry: SpendEntry | ReleaseEntry | AbortEntry) -> None:
        if self._open.get((entry.run, entry.job)) != entry.reservation:
            raise LedgerError(
                f"'{entry.type}' names reservation {entry.reservation}, which isn't an open one "
                "of its run and job"
            )
        if isinstance(entry, SpendEntry):
            held = self.reservations[entry.reservation]
            if any(getattr(entry, name) != getattr(held.entry, name) for name in _SHARED):
                raise LedgerError(f"a spend and its reservation must agree on {', '.join(_SHARED)}")
            held.check(entry)

    def take(self, entry: Entry) -> None:
        """Count an entry that was checked."""
        if isinstance(entry, OpenEntry):
            self.opened = entry
        elif isinstance(entry, DatasetEntry):
            self.dataset = entry
        elif isinstance(entry, ReserveEntry):
            self.reservations[entry.seq] = Reservation(entry)
            self._open[entry.run, entry.job] = entry.seq
        elif isinstance(entry, SpendEntry):
            self.reservations[entry.reservation].draw(entry)
            self._attempts[entry.run, entry.job, entry.kind, entry.round] += 1
        elif isinstance(entry, ReleaseEntry | AbortEntry):
            self.reservations[entry.reservation].end = entry
            del self._open[entry.run, entry.job]

    def open_one(self, run: str, job: str) -> Reservation | None:
        """Return the open reservation of a run and job."""
        seq = self._open.get((run, job))
        return None if seq is None else self.reservations[seq]

    def open_ones(self, run: str | None = None) -> list[Reservation]:
        """Return the open reservations: all, or of one run."""
        return [r for r in self.of(run) if r.end is None]

    def of(self, run: str | None = None, job: str | None = None) -> list[Reservation]:
        """Return the reservations: all, or of one run or job, in order."""
        return [
            r
            for r in self.reservations.values()
            if run in (None, r.entry.run) and job in (None, r.entry.job)
        ]

    def attempts(self, run: str, job: str, kind: str, round_: int) -> int:
        """Return how often a round has been spent on."""
        return self._attempts[run, job, kind, round_]

    def charges(self, run: str | None = None) -> tuple[list[Charge], list[Charge]]:
        """Return what is spent and what is held: of all runs, or of one."""
        spent = [r.charge(spend) for r in self.of(run) for spend in r.done()]
        held = [r.charge(spend) for r in self.of(run) for spend in r.held()]
        return spent, held

    def unspent(self, parts: Iterable[Part], run: str, job: str) -> Iterator[Part]:
        """Return what of a job's parts this run has neither spent nor given up, to go on with.

        It is what the run's last reservation still held: so spent and held together never cost
        more than before that one ended.
        """
        done: Counter[_StepKind] = Counter()
        for reservation in self.of(run, job):
            done.update(reservation._spent)
            for given_up in (part for entry in reservation.spent for part in entry.given_up):
                done[given_up.rate, given_up.noise_multiplier] += given_up.steps
        for part in parts:
            kind = (part.rate, part.noise_multiplier)
            used = min(done[kind], part.steps)
            done[kind] -= used
            if used < part.steps:
                yield Part(
                    kind=part.kind,
                    rate=part.rate,
                    noise_multiplier=part.noise_multiplier,
                    steps=part.steps - used,
                )


def _spends(steps: Counter[_StepKind]) -> list[Spend]:
    return [Spend(float(rate), float(noise), n) for (rate, noise), n in steps.items() if n]
