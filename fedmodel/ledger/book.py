"""The book: what a ledger's entries add up to, held and spent. No files, no clock."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from operator import attrgetter
from typing import TypeAlias, get_args

from fedmodel.accounting.spends import Kind, Spend
from fedmodel.errors import LedgerError
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.entries import (
    AbortEntry,
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OpenEntry,
    OutcomeEntry,
    Part,
    RepeatEntry,
    ReserveEntry,
    SpendEntry,
)
from fedmodel.ledger.fields import real
from fedmodel.ledger.mechanism import Mechanism
from fedmodel.ledger.outcomes import Outcomes
from fedmodel.ledger.site_line import Schema

__all__ = ["Book", "Reservation"]

_Steps: TypeAlias = tuple[Kind, str, str]  # kind, rate and noise multiplier, as they are written
_SCHEMAS: tuple[Schema, ...] = get_args(Schema)  # from the oldest


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
    end: GiveBackEntry | AbortEntry | None = None
    _left: Counter[_Steps] = field(default_factory=Counter)
    _spent: Counter[_Steps] = field(default_factory=Counter)
    _mechanisms: dict[Kind, Mechanism | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in self.entry.parts:
            self._left[_steps(part)] += part.steps
            self._mechanisms[part.kind] = part.mechanism

    def check(self, entry: SpendEntry) -> None:
        """Check that a spend can be drawn on it.

        Raises:
            LedgerError: when it is by another mechanism, or gives up steps that aren't held.
        """
        known = self.mechanism(entry.kind)
        # Lines of one ledger share theirs: to compare two by value takes far longer.
        if known is not None and entry.mechanism is not known and entry.mechanism != known:
            raise LedgerError(
                f"a spend and its reservation must agree on the mechanism, expected {known}, got "
                f"{entry.mechanism}"
            )
        # Steps that go beyond what is held leave nothing, not less: only giving up can be too much.
        if entry.given_up and min(self._after(entry).values(), default=0) < 0:
            raise LedgerError("it gives up steps that its reservation doesn't hold")

    def draw(self, entry: SpendEntry) -> None:
        """Count a spend that was checked."""
        drawn = _steps(entry)
        if entry.given_up:
            self._left = self._after(entry)
        else:  # a copy takes time where each round has a noise of its own
            self._left[drawn] = max(0, self._left[drawn] - entry.steps)
        self._spent[drawn] += entry.steps
        self.spent.append(entry)

    def draw_all(self, entries: Sequence[SpendEntry]) -> None:
        """Count spends that are alike, give up nothing, and were checked."""
        drawn, steps = _steps(entries[0]), entries[0].steps * len(entries)
        self._left[drawn] = max(0, self._left[drawn] - steps)
        self._spent[drawn] += steps
        self.spent += entries

    def _after(self, entry: SpendEntry) -> Counter[_Steps]:
        """Return what is left after a spend: fewer of such steps, if any are, and of others."""
        left = Counter(self._left)
        drawn = _steps(entry)
        left[drawn] = max(0, left[drawn] - entry.steps)
        for part in entry.given_up:
            left[_steps(part)] -= part.steps
        return left

    def mechanism(self, kind: Kind) -> Mechanism | None:
        """Return the mechanism of steps of a kind; ``None`` where it has none, or doesn't say."""
        return self._mechanisms.get(kind)

    def left(self, spend: Spend) -> int:
        """Return how many steps such as a spend's are still held, whether or not it has ended."""
        return self._left[_steps_of(spend)]

    def done(self) -> list[Spend]:
        """Return what is spent, equal steps taken together."""
        return _spends(self._spent)

    def held(self, but: Spend | None = None) -> list[Spend]:
        """Return what is still held, except steps such as ``but``'s: nothing once it has ended."""
        if self.end is not None:
            return []
        without = None if but is None else _steps_of(but)
        return _spends(Counter({k: n for k, n in self._left.items() if k != without}))

    def charge(self, spend: Spend) -> Charge:
        """Return a spend on this reservation as a charge."""
        entry = self.entry
        return Charge(spend, entry.unit, entry.adjacency, float(entry.delta))


class Book:
    """The state after some entries. :meth:`check` an entry, then :meth:`count` it."""

    def __init__(self) -> None:
        self.opened: OpenEntry | None = None
        self.dataset: DatasetEntry | None = None
        self.reservations: dict[int, Reservation] = {}
        self.outcomes = Outcomes()
        self._open: dict[tuple[str, str], int] = {}  # (run, job) → its open reservation
        self._attempts: Counter[tuple[str, str, str, int]] = Counter()
        self._schema = _SCHEMAS[0]  # of the newest entry

    def check(self, entry: Entry) -> None:
        """Check that an entry means something after those before it.

        Raises:
            LedgerError: when it doesn't: a spend or an end without an open reservation of its own
                run and job, a second beginning, or anything before the beginning.
        """
        if entry.schema != self._schema and (
            _SCHEMAS.index(entry.schema) < _SCHEMAS.index(self._schema)
        ):
            raise LedgerError(
                f"a line of {entry.schema} can't follow one of {self._schema}: no version of "
                "fedmodel writes that"
            )
        if entry.type == "torn":
            return
        if (entry.type == "open") == (self.opened is not None):
            raise LedgerError(
                "a ledger has one entry 'open', its first, "
                f"got '{entry.type}' {'after' if self.opened else 'before'} it"
            )
        if entry.type == "reserve" and (entry.run, entry.job) in self._open:
            raise LedgerError("its run and job have an open reservation already")
        if entry.type == "outcome":
            self.outcomes.check(entry)
        elif entry.type in ("spend", "repeat", "give-back", "abort"):
            self._check_drawn(entry)

    def _check_drawn(self, entry: SpendEntry | RepeatEntry | GiveBackEntry | AbortEntry) -> None:
        if self._open.get((entry.run, entry.job)) != entry.reservation:
            raise LedgerError(
                f"'{entry.type}' names reservation {entry.reservation}, which isn't an open one "
                "of its run and job"
            )
        if entry.type == "spend":
            held = self.reservations[entry.reservation]
            said = held.entry
            if (
                entry.unit != said.unit
                or entry.adjacency != said.adjacency
                or entry.delta != said.delta
            ):
                raise LedgerError(
                    "a spend and its reservation must agree on unit, adjacency, delta"
                )
            held.check(entry)
        elif entry.type == "repeat":
            self._check_repeat(entry)

    def _check_repeat(self, entry: RepeatEntry) -> None:
        mechanism = self.reservations[entry.reservation].mechanism("train")
        if mechanism is None or not mechanism.shared:
            raise LedgerError("only a round of noise in shares is repeated at no cost")
        before = self.attempts(entry.run, entry.job, "train", entry.round)
        if before < 1 or entry.attempt != before + 1:
            raise LedgerError(
                f"round {entry.round} was spent on {before} times, so attempt {entry.attempt} "
                "isn't the one that follows a spend"
            )

    def count(self, entry: Entry) -> None:
        """Count an entry that was checked."""
        self._schema = entry.schema
        if entry.type == "outcome":  # half of all, as the next
            self.outcomes.count(entry)
        elif entry.type == "spend":
            self.reservations[entry.reservation].draw(entry)
            self._attempts[entry.run, entry.job, entry.kind, entry.round] += 1
            self.outcomes.charged(entry)
        elif entry.type == "open":
            self.opened = entry
        elif entry.type == "dataset":
            self.dataset = entry
        elif entry.type == "reserve":
            self.reservations[entry.seq] = Reservation(entry)
            self._open[entry.run, entry.job] = entry.seq
        elif entry.type == "repeat":
            self._attempts[entry.run, entry.job, "train", entry.round] += 1
            self.outcomes.charged(entry)
        elif entry.type in ("give-back", "abort"):
            self.reservations[entry.reservation].end = entry
            del self._open[entry.run, entry.job]

    def draw_all(self, spends: Sequence[SpendEntry], outcomes: Sequence[OutcomeEntry]) -> bool:
        """Check and count spends, each with its outcome after it, all at once.

        Args:
            spends: alike in all but where they stand, what they start from and what was shown.
            outcomes: of each, likewise.

        Returns:
            Whether they were counted; none was where they have to be checked one by one.
        """
        first, came = spends[0], outcomes[0]
        try:
            self.check(first)
        except LedgerError:
            return False
        alike = _both_named(first, came) and came.steps <= first.steps and not first.given_up
        if not (alike and self._schema == first.schema == came.schema):
            return False
        if {*map(_RESERVATION, spends)} != {first.reservation}:
            return False
        if list(map(_CHARGED, spends)) != list(map(_OUTCOME_OF, outcomes)):
            return False
        self.reservations[first.reservation].draw_all(spends)
        rounds = [entry.round for entry in spends]
        named = zip(repeat(first.run), repeat(first.job), repeat(first.kind), rounds, strict=False)
        self._attempts.update(named)
        self.outcomes.count_all(spends, outcomes)
        return True

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
        done: Counter[_Steps] = Counter()
        for reservation in self.of(run, job):
            done.update(reservation._spent)
            for given_up in (part for entry in reservation.spent for part in entry.given_up):
                done[_steps(given_up)] += given_up.steps
        for part in parts:
            used = min(done[_steps(part)], part.steps)
            done[_steps(part)] -= used
            if used < part.steps:
                yield replace(part, steps=part.steps - used)


def _both_named(spend: SpendEntry, outcome: OutcomeEntry) -> bool:
    return (spend.run, spend.job, spend.kind) == (outcome.run, outcome.job, outcome.kind)


_RESERVATION = attrgetter("reservation")
_CHARGED, _OUTCOME_OF = attrgetter("seq", "round", "attempt"), attrgetter("of", "round", "attempt")


def _steps(written: Part | SpendEntry) -> _Steps:
    return written.kind, written.rate, written.noise_multiplier


def _steps_of(spend: Spend) -> _Steps:
    return spend.kind, real(spend.rate), real(spend.noise_multiplier)


def _spends(steps: Counter[_Steps]) -> list[Spend]:
    return [Spend(float(r), float(noise), n, kind) for (kind, r, noise), n in steps.items() if n]
