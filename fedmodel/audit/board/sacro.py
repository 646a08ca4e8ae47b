"""The folder that output checkers of UK safe settings open: SACRO Viewer's, as ACRO writes it.

``outputs.json`` lists outputs with their files, and ``checksums/NAME.txt`` has the SHA-256 of each
(https://github.com/AI-SDC/SACRO-Viewer, https://github.com/AI-SDC/ACRO). The viewer shows CSV as
tables and JSON as text, and takes an output of status ``fail``, ``review`` or ``pass``. The model
itself isn't among them: it is what is asked to leave, and its digest is named.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

from fedmodel._escape import escaped
from fedmodel.audit.board.report import Report
from fedmodel.audit.verdicts import Verdict

__all__ = ["sacro_files", "tables"]

_VERSION = "0.4.0"  # of the format: the oldest that the viewer's versions of 2023 and later take
_STATUS = {
    "release": "pass",
    "release under conditions": "review",
    "don't release": "fail",
}


def sacro_files(report: Report, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the folder's files: those of the report, and what the viewer reads about them.

    Args:
        report: what it says.
        files: name → content, of the report's files, with :func:`tables`.
    """
    found = {**files, "outputs.json": _outputs(report, files)}
    sums = {f"checksums/{name}.txt": _sha256(text) for name, text in found.items()}
    return {**found, **sums}


def tables(report: Report) -> dict[str, bytes]:
    """Return the checks and the sites as tables that the viewer shows: name → content."""
    return {"checks.csv": _checks(report), "sites.csv": _sites(report)}


def _outputs(report: Report, files: Mapping[str, bytes]) -> bytes:
    told = {"report": _report_files(files), "checks": ["checks.csv"], "sites": ["sites.csv"]}
    results = {name: _output(name, report, found) for name, found in told.items()}
    text = json.dumps({"version": _VERSION, "results": results}, indent=4, ensure_ascii=False)
    return text.encode() + b"\n"


def _report_files(files: Mapping[str, bytes]) -> list[str]:
    return [name for name in files if name not in ("checks.csv", "sites.csv")]


def _output(name: str, report: Report, files: list[str]) -> dict[str, Any]:
    fails = report.findings.count(Verdict.FAIL)
    status = _STATUS[report.advice.advice]
    if name != "report":
        status = "fail" if fails and name == "checks" else "review"
    summaries = {
        "report": f"{status}; {report.advice.advice}: {report.advice.reason}",
        "checks": "; ".join(f"{report.findings.count(v)} {v}" for v in Verdict),
        "sites": f"privacy budget of {len(report.facts.sites)} sites",
    }
    return {
        "uid": name,
        "status": status,
        "type": "custom",
        "properties": {"run": report.findings.run, "job_sha256": report.findings.job_sha256},
        "files": [{"name": each, "sdc": {}} for each in files],
        "outcome": {},
        "command": f"fedmodel report run={escaped(report.findings.run)} format=sacro",
        "summary": escaped(summaries[name]),
        "timestamp": report.made,
        "comments": [escaped(each) for each in report.advice.conditions],
        "exception": None,
    }


def _checks(report: Report) -> bytes:
    rows = [
        (family, each.name, each.party, str(each.verdict), each.reason, each.entry or "")
        for family, checks in report.findings.checks.items()
        for each in checks
    ]
    return _csv(("family", "check", "party", "verdict", "reason", "entry"), rows)


def _sites(report: Report) -> bytes:
    rows = []
    for site in report.facts.sites:
        cost = site.cost
        told = (None, None, None) if cost is None else (cost.before, cost.after, cost.cap)
        rows.append((site.name, site.epsilon, *told, site.steps, site.rounds, site.refused))
    names = ("site", "epsilon", "before", "in all", "cap", "steps", "rounds", "refused")
    return _csv(names, rows)


def _csv(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> bytes:
    file = io.StringIO()
    made = csv.writer(file, lineterminator="\n")
    made.writerow(names)
    made.writerows([_cell(value) for value in row] for row in rows)
    return file.getvalue().encode()


def _cell(value: Any) -> str:
    """Return a value as a cell that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    text = "" if value is None else escaped(str(value))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _number(text) else text


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _sha256(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
