"""Facts of a run, as a report tells them: worked out from its records, and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.spends import Spend, merge
from fedmodel.audit.kept_caps import book_at, caps_of
from fedmodel.audit.reading import LedgerReading, RunEntries
from fedmodel.audit.records import Records
from fedmodel.errors import PrivacyError
from fedmodel.job import Job, Unit
from fedmodel.ledger.caps import Caps, Charge, total

__all__ = ["Cost", "Course", "Facts", "SiteFacts", "facts_of"]

_POINTS = 24  # of a site's course that are worked out
_COURSES = 12  # different ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How ε grew over the rounds.

    Args:
        sites: of which this is the course.
        rounds: rounds after which it was worked out.
        epsilons: ε of the run by then, for each of them.
    """

    sites: tuple[str, ...]
    rounds: tuple[int, ...]
    epsilons: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a site's rows have cost, by its own ledger.

    Args:
        before: ε of all that was spent on them before the run began; ``None``: there is none for
            the run's unit.
        after: ε of all that is spent now, likewise.
        others: names of other runs that have spent on them.
        cap: ε that the site allows in all; ``None``: no cap, or it isn't known here.
        left: of it, beside what is spent and reserved; ``None`` where that can't be told.
        uncapped: whether it is known that there was no cap as the run reserved.
    """

    before: float | None
    after: float | None
    others: tuple[str, ...]
    cap: float | None
    left: float | None
    uncapped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """A site's part in the run.

    Args:
        name: of the site.
        epsilon: ε of the run there: by its ledger, else as the summary tells it.
        own: whether its ledger is here.
        steps: that it was charged for; ``None`` where nothing tells.
        rounds: in which the coordinator counts its update; ``None`` where that can't be told.
        refused: why it didn't take part; ``None`` where it did.
        cost: of all runs; ``None`` without its ledger.
    """

    name: str
    epsilon: float | None
    own: bool
    steps: int | None
    rounds: int | None
    refused: str | None
    cost: Cost | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a report tells of a run, beside what the checks found.

    Args:
        records: of the run.
        job: of the run.
        sites: by name.
        courses: how ε grew; those of sites that are alike together.
        uncharted: how many more different courses there are.
    """

    records: Records
    job: Job
    sites: tuple[SiteFacts, ...]
    courses: tuple[Course, ...]
    uncharted: int

    @property
    def worst(self) -> float | None:
        """ε of the site that the run has cost most; ``None`` where none is known."""
        return max((s.epsilon for s in self.sites if s.epsilon is not None), default=None)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Sites that took part, and whose ledger isn't here."""
        return tuple(s.name for s in self.sites if not s.own and s.refused is None)

    @property
    def ended(self) -> bool:
        """Whether the run came to its end."""
        return self.records.summary.value is not None


def facts_of(records: Records, job: Job) -> Facts:
    """Return the facts of a run.

    Args:
        records: of the run.
        job: that they have.
    """
    names = {*records.sites, *records.account.nodes().values()}
    given: dict[str, int] | None = dict.fromkeys(names, 0)
    for each in records.rounds:
        if each.givers is None:
            given = None
            break
        for name in each.givers:
            if given is not None and name in given:
                given[name] += 1
    sites = [_site(records, job, name, None if given is None else given[name]) for name in names]
    courses, more = _courses(records) if job.privacy.private else ((), 0)
    return Facts(
        records=records,
        job=job,
        sites=tuple(sorted(sites, key=lambda site: site.name)),
        courses=courses,
        uncharted=more,
    )


def _site(records: Records, job: Job, name: str, rounds: int | None) -> SiteFacts:
    summary, site = records.summary.value, records.sites.get(name)
    told = summary.privacy.sites.get(name) if summary is not None else None
    ledger = None if site is None else site.ledger
    whole = ledger is not None and ledger.opened is not None and not _wrong(ledger)
    found = ledger.of_run(records.run) if whole and ledger is not None else None
    refused = None if told is None else told.refused
    return SiteFacts(
        name=name,
        epsilon=(None if told is None else told.epsilon) if found is None else _of_run(found),
        own=found is not None,
        steps=found.steps if found is not None else None if told is None else told.steps,
        rounds=0 if refused is not None else rounds,
        refused=refused,
        cost=None if ledger is None or found is None else _cost(records, job, ledger, found),
    )


def _wrong(ledger: LedgerReading) -> bool:
    """Return whether a ledger could be read to a wrong line only, and so says little."""
    return any((ledger.form, ledger.link, ledger.rule))


def _of_run(found: RunEntries) -> float | None:
    if not found.spends:
        return 0.0
    first = found.spends[0]
    return epsilon(found.schedule, float(first.delta), "pld", first.adjacency)


def _cost(records: Records, job: Job, ledger: LedgerReading, found: RunEntries) -> Cost:
    first = found.reservations[0].entry.seq if found.reservations else len(ledger.entries)
    spent, held = ledger.book.charges()
    before = book_at(ledger, first - 1).charges()[0]
    caps = _caps(records, found)
    others = {entry.run for entry in ledger.entries if entry.type == "spend"} - {records.run}
    return Cost(
        before=_total(before, job.privacy.unit),
        after=_total(spent, job.privacy.unit),
        others=tuple(sorted(others)),
        cap=None if caps is None else caps.epsilon,
        left=None if caps is None else _left(caps, [*spent, *held]),
        uncapped=caps is not None and caps.epsilon is None,
    )


def _caps(records: Records, found: RunEntries) -> Caps | None:
    """Return the caps in force as the run reserved: by the site's ledger, else as simulated."""
    told = [each.entry.grounds for each in found.reservations if each.entry.grounds is not None]
    if told:
        return told[-1].caps.caps()
    caps = caps_of(records)
    return caps if isinstance(caps, Caps) else None


def _left(caps: Caps, charges: Sequence[Charge]) -> float | None:
    known = _total(charges, caps.unit, caps.delta)
    return None if caps.epsilon is None or known is None else max(0.0, caps.epsilon - known)


def _total(charges: Sequence[Charge], unit: Unit, delta: float | None = None) -> float | None:
    try:
        return total(charges, unit, delta).epsilon if charges else 0.0
    except PrivacyError:
        return None


def _courses(records: Records) -> tuple[tuple[Course, ...], int]:
    """Return how ε grew over the rounds; equal courses are worked out once."""
    alike: dict[tuple[tuple[int, Spend, float, str], ...], list[str]] = {}
    for site, ledger in records.with_ledgers():
        spends = [e for e in ledger.of_run(records.run).spends if e.kind == "train"]
        key = tuple((e.round, e.spend(), float(e.delta), e.adjacency) for e in spends)
        if key:
            alike.setdefault(key, []).append(site.name)
    largest = sorted(alike.items(), key=lambda item: (-len(item[1]), item[1]))
    return (
        tuple(_course(records, names) for _, names in largest[:_COURSES]),
        max(0, len(largest) - _COURSES),
    )


def _course(records: Records, names: list[str]) -> Course:
    ledger = records.sites[names[0]].ledger
    if ledger is None:
        raise ValueError(f"{names[0]} has no ledger")
    spends = [e for e in ledger.of_run(records.run).spends if e.kind == "train"]
    last = sorted({entry.round for entry in spends})
    every = max(1, -(-len(last) // _POINTS))
    rounds = sorted({*last[every - 1 :: every], last[-1]})
    found = []
    for number in rounds:
        until = merge([e.spend() for e in spends if e.round <= number])
        found.append(epsilon(until, float(spends[0].delta), "pld", spends[0].adjacency))
    return Course(sites=tuple(names), rounds=tuple(rounds), epsilons=tuple(found))
