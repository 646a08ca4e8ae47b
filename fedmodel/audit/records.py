"""Records of a run: what its evidence says, each part read once; what can't be read says why."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from fedmodel import config
from fedmodel._text import listed
from fedmodel.audit.evidence import KINDS, Evidence
from fedmodel.audit.reading import LedgerReading, read_ledger
from fedmodel.audit.rounds import Account, Round
from fedmodel.errors import EvidenceError, FedmodelError
from fedmodel.identity.roster import Roster
from fedmodel.identity.signed_roster import SignedRoster, read_roster
from fedmodel.job import Job
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.repeated import Decoder
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs.files import parse_json
from fedmodel.runs.manifest import Manifest
from fedmodel.runs.summary import Summary

__all__ = ["Found", "Head", "Records", "SiteRecords", "read_records"]

T = TypeVar("T")

_COPIED_AT_THE_END = (
    "the run hasn't come to its end, and its ledgers are copied here from its state folder then; "
    "those there would tell"
)
_SCHEMA = re.compile(r"(fedmodel\.[a-z-]+)/([0-9]{1,9})")
_KNOWN = {  # the newest that is read here
    "fedmodel.run": 1,
    "fedmodel.summary": 1,
    "fedmodel.heads": 1,
    "fedmodel.head": 1,
    "fedmodel.job": 2,
    "fedmodel.roster": 2,
    "fedmodel.register": 1,
}


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


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """What there is of one site.

    Args:
        name: of the site.
        ledger: as far as it can be followed; ``None`` where it has none here.
        own: tree heads that the site has kept itself.
        wrong: why one of those can't be read.
    """

    name: str
    ledger: LedgerReading | None = None
    own: tuple[Head, ...] = ()
    wrong: str | None = None

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
        consortium: fingerprint of the consortium's key, as the auditor knows it.
    """

    evidence: Evidence
    manifest: Manifest
    job: Found[Job]
    metrics: Found[list[dict[str, Any]]]
    summary: Found[Summary]
    heads: Found[tuple[Head, ...]]
    roster: Found[Roster]
    sites: Mapping[str, SiteRecords]
    consortium: str | None = None

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
            return "each site's ledger is at the site, and none is in this folder"
        return _COPIED_AT_THE_END if self._copied_later else None

    @cached_property
    def lacking(self) -> str | None:
        """Which ledgers of a served run weren't handed in; ``None`` where those are all."""
        if not self.served:
            return None
        lacking = sorted(name for name in self.account.participants() if not self._has(name))
        return f"ledgers that weren't handed in: {listed(lacking, 5)}" if lacking else None

    def _has(self, name: str) -> bool:
        return name in self.sites and self.sites[name].ledger is not None

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


def read_records(
    evidence: Evidence, roster: bytes | None = None, consortium: str | None = None
) -> Records:
    """Return what there is of a run.

    Args:
        evidence: that was handed in.
        roster: the auditor's own copy; without one, that in the evidence.
        consortium: fingerprint of the consortium's key, as the auditor knows it.

    Raises:
        EvidenceError: when it is no run, or a newer version has written a part of it.
    """
    manifest = _read(
        evidence, "manifest", "manifest.json", lambda text: Manifest.from_mapping(text)
    )
    if manifest.name is None:
        raise EvidenceError(
            f"{evidence.where} has no manifest.json, so it isn't a run folder; give a run's name, "
            "or the path of its folder"
        )
    if manifest.value is None:
        raise EvidenceError(f"{evidence.where}/manifest.json can't be read: {manifest.wrong}")
    summary = _read(evidence, "summary", "summary.json", lambda text: Summary.from_mapping(text))
    return Records(
        evidence=evidence,
        manifest=manifest.value,
        job=_job(manifest.value),
        metrics=_metrics(evidence),
        summary=summary,
        heads=_heads(evidence),
        roster=_roster(evidence, roster),
        sites=_sites(evidence, _named(manifest.value, summary.value)),
        consortium=consortium,
    )


def _read(
    evidence: Evidence, kind: Any, name: str, make: Callable[[dict[str, Any]], T]
) -> Found[T]:
    """Return what a part that is one JSON object says."""
    if name not in evidence.names(kind):
        return Found()
    text = evidence.read(kind, name)
    try:
        mapping = parse_json(text, name)
        _check_known(mapping.get("schema"), f"{evidence.where}/{name}")
        return Found(make(mapping), name=name)
    except EvidenceError:
        raise
    except FedmodelError as error:
        return Found(wrong=str(error), name=name)


def _check_known(schema: object, where: str) -> None:
    """Refuse what a version that is yet to come has written: nobody can say what it means.

    Raises:
        EvidenceError: for such a schema.
    """
    named = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if named is not None and int(named[2]) > _KNOWN.get(named[1], int(named[2])):
        raise EvidenceError(
            f"{where} has schema {schema}: a newer fedmodel has written it; verify it with that "
            "version, or a newer one"
        )


def _job(manifest: Manifest) -> Found[Job]:
    _check_known(manifest.job.get("format"), "the job in manifest.json")
    try:
        return Found(Job.read(manifest.job), name="manifest.json")
    except FedmodelError as error:
        return Found(wrong=str(error), name="manifest.json")


def _metrics(evidence: Evidence) -> Found[list[dict[str, Any]]]:
    name = "metrics.jsonl"
    if name not in evidence.names("metrics"):
        return Found()
    rows = []
    for number, line in enumerate(evidence.read("metrics", name).split(b"\n"), start=1):
        if not line:
            continue
        try:
            row = parse_json(line, f"{name}, line {number}")
        except FedmodelError as error:
            return Found(wrong=str(error), name=name)
        if (wrong := _wrong_row(row)) is not None:
            return Found(wrong=f"{name}, line {number}: {wrong}", name=name)
        rows.append(row)
    return Found(rows, name=name)


def _wrong_row(row: Mapping[str, Any]) -> str | None:
    for key in ("round", "updates", "asked"):
        if type(row.get(key)) is not int or row[key] < 0:
            return f"{key} must be a whole number, got {row.get(key)!r:.40}"
    if not isinstance(row.get("failures", {}), dict):
        return "failures must name who failed, and why"
    return None


def _heads(evidence: Evidence) -> Found[tuple[Head, ...]]:
    name = "heads.json"
    if name not in evidence.names("heads"):
        return Found()
    text = evidence.read("heads", name)
    try:
        kept = parse_json(text, name)
        _check_known(kept.get("schema"), f"{evidence.where}/{name}")
        heads = [config.build(TreeHead, each, "head") for each in kept["heads"]]
        # Of what isn't written as it always is, nobody can say who has changed it, and what else.
        if heads_text({f"{n:09}": head for n, head in enumerate(heads)}) != text:
            return Found(wrong=f"{name} isn't as fedmodel writes it: it was changed", name=name)
    except EvidenceError:
        raise
    except (FedmodelError, KeyError, TypeError) as error:
        return Found(wrong=f"{name}: {error!s:.300}", name=name)
    return Found(tuple(Head(head, name) for head in heads), name=name)


def _roster(evidence: Evidence, own: bytes | None) -> Found[Roster]:
    """Return the auditor's roster, or the newest of those that the run was played by."""
    if own is not None:
        return _read_roster(own, "the auditor's roster")
    names = evidence.names("roster")
    played_by = [name for name in names if name.startswith("rosters/")]
    found = [_read_roster(evidence.read("roster", name), name) for name in played_by or names[-1:]]
    for each in found:
        if each.value is None:
            return each
    return max(found, key=_version, default=Found())


def _read_roster(text: bytes, name: str) -> Found[Roster]:
    try:
        roster = read_roster(_roster_in(text))
    except FedmodelError as error:
        return Found(wrong=str(error), name=name)
    if name.startswith("rosters/") and name != f"rosters/{roster.sha256}.json":
        return Found(wrong=f"its SHA-256 is {roster.sha256[:16]}…, not that of its name", name=name)
    return Found(roster, name=name)


def _version(found: Found[Roster]) -> int:
    return found.value.version if isinstance(found.value, SignedRoster) else 0


def _roster_in(text: bytes) -> bytes:
    """Return the roster that a text is, or that a consortium's register has kept."""
    kept = config.parsed(text)
    inner = kept.get("roster") if isinstance(kept, dict) else None
    return inner.encode() if isinstance(inner, str) else text


def _named(manifest: Manifest, summary: Summary | None) -> Sequence[str]:
    """Return the sites that the run names."""
    told = list(summary.privacy.sites) if summary is not None else []
    served = manifest.config.get("sites")
    return [*told, *(served if isinstance(served, list) else [])]


def _sites(evidence: Evidence, named: Sequence[str]) -> dict[str, SiteRecords]:
    decoder = Decoder()
    ledgers: dict[str, LedgerReading] = {}
    for name in evidence.names("ledger"):
        text = evidence.read("ledger", name)
        ledgers[_site_of("ledger", name)] = read_ledger(name, text, decoder)
    own: dict[str, list[str]] = {}
    for name in evidence.names("own-head"):
        own.setdefault(_site_of("own-head", name), []).append(name)
    sites = dict.fromkeys(str(name) for name in (*named, *sorted(ledgers), *sorted(own)))
    return {name: _site(evidence, name, ledgers.get(name), own.get(name, [])) for name in sites}


def _site(
    evidence: Evidence, name: str, ledger: LedgerReading | None, own: Sequence[str]
) -> SiteRecords:
    heads: list[Head] = []
    for part in own:
        text = evidence.read("own-head", part)
        try:
            head = config.build(TreeHead, json.loads(text), "head")
            if head.to_json() + b"\n" != text:
                return SiteRecords(name, ledger, (), f"{part} isn't as fedmodel writes it")
        except (FedmodelError, ValueError, RecursionError) as error:
            return SiteRecords(name, ledger, (), f"{part}: {error!s:.300}")
        heads.append(Head(head, part))
    return SiteRecords(name, ledger, tuple(heads))


def _site_of(kind: Any, name: str) -> str:
    found = KINDS[kind].pattern.fullmatch(name)
    return name if found is None else found["site"]
