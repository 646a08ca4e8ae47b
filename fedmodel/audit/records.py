"""Records of a run: what its evidence says; what of it can't be read says why."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fedmodel._text import listed
from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.evidence import Evidence
from fedmodel.audit.reading import LedgerReading
from fedmodel.audit.rounds import Account, Round
from fedmodel.audit.story import Gave, Story
from fedmodel.identity.roster import Roster
from fedmodel.job import Job
from fedmodel.ledger.coordinator_entries import CoordinatorEntry
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs.manifest import Manifest
from fedmodel.runs.summary import Summary

if TYPE_CHECKING:
    from fedmodel.audit.exports import ExportedFolder

__all__ = ["Found", "Head", "Records", "SiteRecords"]

T = TypeVar("T")

_AT_THE_SITES = (
    "each site's ledger is at the site, and none is in this folder: ask the sites for what "
    "fedmodel site hand-in packs, and put it together by fedmodel bundle run=NAME with=[FILE,…]"
)
_COPIED_AT_THE_END = (
    "the run hasn't come to its end, and its ledgers are copied here from its state folder then; "
    "those there would tell"
)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A part that was looked for.

    Args:
        value: what it says; ``None`` where it isn't there, or can't be read.
        wrong: why it can't be read; ``None`` where it can, or isn't there.
        name: of the part; ``None`` where it isn't there.
    """

    value: T | None = None
    wrong: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A tree head, whose signature nobody has looked at yet.

    Args:
        head: as it was read.
        name: of the part that has it.
    """

    head: TreeHead
    name: str


_NO_HEAD: Found[Head] = Found()


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """What there is of one site.

    Args:
        name: of the site.
        ledger: as far as it can be followed; ``None`` where it has none here.
        own: tree heads that the site has kept itself.
        wrong: why one of those can't be read.
        shown: the tree head of the coordinator's ledger that the site has kept: the last that it
            was shown in the run.
    """

    name: str
    ledger: LedgerReading | None = None
    own: tuple[Head, ...] = ()
    wrong: str | None = None
    shown: Found[Head] = _NO_HEAD

    @property
    def party(self) -> str:
        """The site, as a check names it."""
        return f"site {self.name}"


# No slots: some of it is worked out once, when it is asked for.
@dataclass(frozen=True)
class Records:
    """What there is of a run.

    Args:
        evidence: it comes from.
        manifest: what the run says it is.
        job: of the manifest.
        metrics: the coordinator's line of each round.
        summary: of the finished run.
        heads: the tree heads that the coordinator has kept.
        roster: by which the parties' keys are known.
        sites: by name.
        rosters: SHA-256 → each roster in the evidence that can be read.
        coordinator: its own ledger, as far as it can be followed; ``None`` where it isn't here.
        own: the tree head that the coordinator has kept of that.
        consortium: fingerprint of the consortium's key, as the auditor knows it.
        exported: a folder that the model was exported to.
    """

    evidence: Evidence
    manifest: Manifest
    job: Found[Job]
    metrics: Found[list[dict[str, Any]]]
    summary: Found[Summary]
    heads: Found[tuple[Head, ...]]
    roster: Found[Roster]
    sites: Mapping[str, SiteRecords]
    rosters: Mapping[str, Roster] = field(default_factory=dict)
    coordinator: CoordinatorReading | None = None
    own: Found[Head] = _NO_HEAD
    consortium: str | None = None
    exported: "ExportedFolder | None" = None

    @property
    def run(self) -> str:
        """The run's name in ledgers."""
        return self.manifest.run

    @property
    def served(self) -> bool:
        """Whether it was played over the network: then each site's ledger is its own."""
        return "listen" in self.manifest.config

    @property
    def without_ledgers(self) -> str | None:
        """Why there is no ledger to look at; ``None`` where there should be some."""
        if any(site.ledger for site in self.sites.values()):
            return None
        job = self.job.value
        if job is not None and not job.privacy.private:
            return "the job promises no privacy, so that no ledger is kept"
        if self.served:
            return _AT_THE_SITES
        return _COPIED_AT_THE_END if self._copied_later else None

    @cached_property
    def lacking(self) -> str | None:
        """Which ledgers of a served run weren't handed in; ``None`` where those are all."""
        if not self.served:
            return None
        lacking = self._without(site.name for site, _ in self.with_ledgers())
        return f"ledgers that weren't handed in: {listed(lacking, 5)}" if lacking else None

    def absent(self, here: Iterable[str]) -> tuple[str, ...]:
        """Return the sites that took part in a private run, and whose ledgers aren't here, sorted.

        Args:
            here: names of the sites that have one here.
        """
        job = self.job.value
        if job is None or not job.privacy.private:
            return ()
        return tuple(self._without(here))

    def _without(self, here: Iterable[str]) -> list[str]:
        return sorted(self.account.participants() - {*here})

    @property
    def _copied_later(self) -> bool:
        """Whether the sites' ledgers are elsewhere, and come here only as the run ends."""
        return self.manifest.config.get("state") is not None and self.summary.name is None

    def outdated(self, ledger: LedgerReading) -> str | None:
        """Return why a ledger may be an old copy in all honesty; ``None`` where it may not."""
        opened = ledger.opened
        if opened is None or not self._copied_later:
            return None
        newest = max((each.head.size for each in self.heads_of.get(opened.ledger, ())), default=0)
        return _COPIED_AT_THE_END if newest > len(ledger.entries) else None

    def with_ledgers(self) -> list[tuple[SiteRecords, LedgerReading]]:
        """Return the sites that have a ledger here, with it."""
        return [(site, site.ledger) for site in self.sites.values() if site.ledger is not None]

    @cached_property
    def account(self) -> Account:
        """What the coordinator says of who took part."""
        rows, job = self.metrics.value or [], self.job.value
        # Of a run that hasn't come to its end all sites are known where so many have a ledger.
        whole = job is not None and len(self.sites) == job.federation.sites
        known = sorted(self.sites) if whole else []
        return Account(self.manifest.config, rows, self.summary.value, known)

    @cached_property
    def rounds(self) -> list[Round]:
        """The rounds as the coordinator counts them."""
        return self.account.rounds()

    @cached_property
    def published_by(self) -> frozenset[str] | None:
        """The sites that gave counts of test rows; ``None`` where that can't be told."""
        return self.account.published_by()

    @cached_property
    def payers(self) -> Counter[int]:
        """Round → how many ledgers here have a spend of it."""
        found: Counter[int] = Counter()
        for _, ledger in self.with_ledgers():
            found.update(ledger.of_run(self.run).trained.keys())
        return found

    @cached_property
    def evaluated(self) -> int:
        """How many ledgers here have a spend of counts of test rows."""
        found = (ledger.of_run(self.run) for _, ledger in self.with_ledgers())
        return sum(each.evaluations > 0 for each in found)

    @cached_property
    def story(self) -> Story:
        """What the coordinator's ledger tells, in order."""
        return Story.of(() if self.coordinator is None else self.coordinator.entries)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Site → its number in the coordinator's ledger, by its last start."""
        starts = [] if self.coordinator is None else self.coordinator.starts
        members = starts[-1].members if starts else {}
        return {name: int(number) for number, name in members.items() if number.isdecimal()}

    @cached_property
    def asked(self) -> dict[int, dict[tuple[str, int], list[int]]]:
        """Number of a site → where it was asked to train in each round, and to evaluate (0).

        Where updates are summed, each attempt of an asking counts. What is told of each is the
        place of its entry.
        """
        job = self.job.value
        summed = job is not None and job.secagg.on
        found: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
        for asking in self.story.askings:
            entry = asking.entry
            key = (entry.kind, entry.round if entry.kind == "train" else 0)
            places = [entry.seq]
            if summed and entry.kind == "train":
                places = [attempt.entry.seq for attempt in asking.attempts]
            for member in entry.members:
                found[member][key] += places
        return found

    @cached_property
    def models_asked(self) -> dict[tuple[str, int], set[str]]:
        """Kind and round (of an evaluation 0) → from which parameters it was asked for."""
        found: dict[tuple[str, int], set[str]] = defaultdict(set)
        for asking in self.story.askings:
            entry = asking.entry
            found[entry.kind, entry.round if entry.kind == "train" else 0].add(entry.model)
        return found

    @cached_property
    def given(self) -> dict[int, list[Gave]]:
        """Number of a site → what it has given, by the coordinator's ledger, in order."""
        found: dict[int, list[Gave]] = defaultdict(list)
        for each in self.story.given:
            found[each.given.member].append(each)
        return found

    def at_coordinator(self, entry: CoordinatorEntry) -> str | None:
        """Return where an entry of the coordinator's ledger stands, for people."""
        return None if self.coordinator is None else self.coordinator.at(entry)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Site → its key, by the roster."""
        roster = self.roster.value
        return {} if roster is None else {member.name: member.key for member in roster.members}

    @cached_property
    def heads_of(self) -> dict[str, list[Head]]:
        """Ledger → its heads at the coordinator."""
        found: dict[str, list[Head]] = {}
        for each in self.heads.value or ():
            found.setdefault(each.head.ledger, []).append(each)
        return found
