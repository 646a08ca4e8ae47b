"""The verb ``verify``: what a run's records say, held against one another, offline."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedmodel import _files, config
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.show import last_line, plain, tables
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import ConfigError, EvidenceError
from fedmodel.identity.roster import LARGEST
from fedmodel.runs.folder import run_path

__all__ = ["main"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        run: a run's name, or its folder.
        roster: the auditor's own copy of the roster.
        consortium: fingerprint of the consortium's key, as the auditor knows it.
        format: ``table`` or ``json``.
    """

    run: str | None = None
    roster: str | None = None
    consortium: str | None = None
    format: Literal["table", "json"] = "table"


def main(
    mappings: Sequence[dict[str, Any]],
    *,
    given: Sequence[Sequence[str]] = (),
    labels: object = None,
) -> int:
    """Verify a run.

    Args:
        mappings: the composed configuration.
        given: unused.
        labels: unused; a sweep makes no sense here.

    Returns:
        The exit code: 0, or 1 where a check fails.

    Raises:
        ConfigError: for a missing or wrong value.
        EvidenceError: for what can't be verified: no run, or not of a version that is known.
    """
    ask = config.build(Ask, mappings[0])
    if ask.run is None:
        raise ConfigError("verify needs run=<a run's name, or its folder>")
    roster = None if ask.roster is None else _roster(Path(ask.roster).expanduser())
    found = read_records(FolderEvidence(run_path(ask.run)), roster, ask.consortium)
    findings = verify(found)
    if ask.format == "json":
        print(json.dumps(plain(findings), indent=2))
    else:
        from fedmodel.report.terminal import Terminal

        console = Terminal()
        for table in tables(findings):
            console.print(table)
        console.print(last_line(findings), markup=False, highlight=False)
    return 1 if findings.count(Verdict.FAIL) else 0


def _roster(path: Path) -> bytes:
    try:
        return _files.read(path, LARGEST)
    except OSError as error:
        raise EvidenceError(f"roster={path} can't be read: {error.strerror}") from error
