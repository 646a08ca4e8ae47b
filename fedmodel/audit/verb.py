"""The verb ``verify``: what a run's records say, held against one another, offline."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fedmodel import _files, config
from fedmodel.audit import collector
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.evidence import Evidence, FolderEvidence
from fedmodel.audit.exports import ExportedFolder
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Records
from fedmodel.audit.show import last_line, plain, tables
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import Findings, verify
from fedmodel.errors import ConfigError, EvidenceError
from fedmodel.identity.roster import LARGEST
from fedmodel.runs.folder import run_path

__all__ = ["Source", "main", "records_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a run's records are, and what they are held against.

    Args:
        run: a run's name, or its folder.
        bundle: a bundle of a run, in the place of its folder.
        packer: fingerprint of the key that must have signed the bundle.
        roster: the auditor's own copy of the roster.
        consortium: fingerprint of the consortium's key, as the auditor knows it.
        export: a folder that the model was exported to.
    """

    run: str | None = None
    bundle: str | None = None
    packer: str | None = None
    roster: str | None = None
    consortium: str | None = None
    export: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Source):
    """What is asked.

    Args:
        report: a signed report's folder, to verify with the run or by itself.
        signer: fingerprint of the key that must have signed the report.
        format: ``table`` or ``json``.
    """

    report: str | None = None
    signer: str | None = None
    format: Literal["table", "json"] = "table"


@collector.paused(verb=True)
def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Verify a run.

    Args:
        mapping: the composed configuration.
        given: unused.

    Returns:
        The exit code: 0, or 1 where a check fails.

    Raises:
        ConfigError: for a missing or wrong value.
        EvidenceError: for what can't be verified: no run, or not of a version that is known.
    """
    ask = config.build(Ask, mapping)
    findings = _findings(ask)
    if ask.format == "json":
        print(json.dumps(plain(findings), indent=2))
    else:
        from fedmodel.report.terminal import Terminal

        console = Terminal()
        for table in tables(findings):
            console.print(table)
        console.print(last_line(findings), markup=False, highlight=False)
    return 1 if findings.count(Verdict.FAIL) else 0


def _findings(ask: Ask) -> Findings:
    """Return what the checks find: of a run, of a report, or of a report by its run."""
    if ask.report is None:
        if ask.signer is not None:
            raise ConfigError("signer is about a report; give it with report=, or leave it out")
        return verify(records_of(ask, "verify"))
    from fedmodel.audit.board.signed import SignedReport

    report = SignedReport(Path(ask.report).expanduser())
    if ask.run is None and ask.bundle is None:
        if ask.packer is not None:
            raise ConfigError("packer is about a bundle; a report has its signer: signer=…")
        return report.findings(ask.signer, None)
    return report.findings(ask.signer, verify(records_of(ask, "verify")))


def records_of(source: Source, verb: str) -> Records:
    """Return a run's records.

    Args:
        source: where they are.
        verb: that asks for them, for messages.

    Raises:
        ConfigError: when it isn't said where.
        EvidenceError: for what can't be verified: no run, or not of a version that is known.
    """
    evidence = _evidence(source, verb)
    roster = None if source.roster is None else _roster(Path(source.roster).expanduser())
    found = read_records(evidence, roster, source.consortium)
    if source.export is None:
        return found
    return replace(found, exported=ExportedFolder.open(Path(source.export).expanduser()))


def _evidence(source: Source, verb: str) -> Evidence:
    if source.bundle is not None:
        if source.run is not None:
            raise ConfigError(f"{verb} takes run= or bundle=, not both")
        found = BundleEvidence(Path(source.bundle).expanduser(), source.packer)
        if not found.names("manifest"):
            raise EvidenceError(
                f"{found.where} is what one party hands in, not a run; whoever has the run's "
                f"folder packs both: fedmodel bundle run=… with=[{found.where}] to=…"
            )
        return found
    if source.packer is not None:
        raise ConfigError("packer is about a bundle; give it with bundle=, or leave it out")
    if source.run is None:
        raise ConfigError(f"{verb} needs run=<a run's name, or its folder>, or bundle=<a bundle>")
    return FolderEvidence(run_path(source.run))


def _roster(path: Path) -> bytes:
    try:
        return _files.read(path, LARGEST)
    except OSError as error:
        raise EvidenceError(f"roster={path} can't be read: {error.strerror}") from error
