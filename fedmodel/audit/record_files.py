"""Files of a run's records: each part of the evidence is read once, strictly."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fedmodel import config
from fedmodel.audit import collector
from fedmodel.audit.coordinator_reading import CoordinatorReading, read_coordinator
from fedmodel.audit.evidence import KINDS, Evidence, Kind, site_of
from fedmodel.audit.reading import LedgerReading, read_ledger
from fedmodel.audit.records import Found, Head, Records, SiteRecords
from fedmodel.errors import ConfigError, EvidenceError, FedmodelError
from fedmodel.identity.roster import Roster
from fedmodel.identity.signed_roster import SignedRoster, read_roster
from fedmodel.job import Job
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.repeated import Decoder
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs.files import parse_json
from fedmodel.runs.manifest import Manifest
from fedmodel.runs.names import run_folder_name
from fedmodel.runs.summary import Summary

__all__ = ["read_records"]

T = TypeVar("T")

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


@collector.paused()
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
        sites=_sites(evidence, _named(manifest.value, summary.value), manifest.value.run),
        rosters=_rosters(evidence, roster),
        coordinator=_coordinator(evidence),
        own=_found_head(evidence, "coordinator-head", "coordinator-head.json"),
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


def _rosters(evidence: Evidence, own: bytes | None) -> dict[str, Roster]:
    """Return every roster that can be read, by its SHA-256."""
    texts = {name: evidence.read("roster", name) for name in evidence.names("roster")}
    if own is not None:
        texts["the auditor's roster"] = own
    found = [_read_roster(text, name).value for name, text in texts.items()]
    return {roster.sha256: roster for roster in found if roster is not None}


def _coordinator(evidence: Evidence) -> CoordinatorReading | None:
    name = "coordinator.jsonl"
    if name not in evidence.names("coordinator"):
        return None
    return read_coordinator(name, evidence.read("coordinator", name))


def _found_head(evidence: Evidence, kind: Kind, name: str) -> Found[Head]:
    """Return the tree head of that name, if it is there."""
    if name not in evidence.names(kind):
        return Found()
    try:
        return Found(Head(_head(evidence.read(kind, name), name), name), name=name)
    except FedmodelError as error:
        return Found(wrong=str(error), name=name)


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


def _sites(evidence: Evidence, named: Sequence[str], run: str) -> dict[str, SiteRecords]:
    decoder = Decoder()
    ledgers: dict[str, LedgerReading] = {}
    for name in evidence.names("ledger"):
        text = evidence.read("ledger", name)
        ledgers[site_of("ledger", name) or name] = read_ledger(name, text, decoder)
    own: dict[str, list[str]] = {}
    for name in evidence.names("own-head"):
        own.setdefault(site_of("own-head", name) or name, []).append(name)
    shown = {
        found["site"]: _found_head(evidence, "shown-head", name)
        for name in evidence.names("shown-head")
        if (found := KINDS["shown-head"].pattern.fullmatch(name))
        and found["run"] == run_folder_name(run)
    }
    known = (*named, *sorted(ledgers), *sorted(own), *sorted(shown))
    sites = {
        name: _site(evidence, name, ledgers.get(name), own.get(name, []))
        for name in dict.fromkeys(str(name) for name in known)
    }
    return {name: replace(each, shown=shown.get(name, Found())) for name, each in sites.items()}


def _site(
    evidence: Evidence, name: str, ledger: LedgerReading | None, own: Sequence[str]
) -> SiteRecords:
    heads: list[Head] = []
    for part in own:
        try:
            heads.append(Head(_head(evidence.read("own-head", part), part), part))
        except ConfigError as error:
            return SiteRecords(name, ledger, (), str(error))
    return SiteRecords(name, ledger, tuple(heads))


def _head(text: bytes, name: str) -> TreeHead:
    """Return the tree head that a part is.

    Raises:
        ConfigError: when it isn't one, in its canonical form.
    """
    try:
        head = config.build(TreeHead, json.loads(text), "head")
        same = head.to_json() + b"\n" == text
    except (FedmodelError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: {error!s:.300}") from error
    if not same:
        raise ConfigError(f"{name} isn't as fedmodel writes it")
    return head
