"""Findings as a person is shown them, and as plain data. Texts from the evidence are escaped."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fedmodel._escape import escaped
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import Findings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["SCHEMA", "alike", "last_line", "plain", "tables"]

SCHEMA = "fedmodel.findings/1"
_STYLES = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NOT_TESTED: "dim",
}
_MOST = 5  # parties that are named in one line


def tables(findings: Findings) -> list["RenderableType"]:
    """Return one line for each family, and the details of all that didn't pass."""
    return [_families(findings), *_details(findings)]


def _families(findings: Findings) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(escaped(f"run {findings.run}")),
        caption=escape(escaped(f"job {findings.job_sha256[:16]}…, in {findings.where}")),
    )
    table.add_column("checks")
    for verdict in Verdict:
        table.add_column(str(verdict), justify="right")
    for name, checks in findings.checks.items():
        counts = [sum(each.verdict == verdict for each in checks) for verdict in Verdict]
        cells = [
            f"[{_STYLES[verdict]}]{count}[/]" if count else "–"
            for verdict, count in zip(Verdict, counts, strict=True)
        ]
        table.add_row(name, *cells)
    return table


def _details(findings: Findings) -> list["Table"]:
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=True, expand=False)
    for name in ("verdict", "check", "of"):
        table.add_column(name, overflow="fold")
    table.add_column("why", overflow="fold")
    checks = [each for some in findings.checks.values() for each in some]
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_TESTED):
        for some in alike(each for each in checks if each.verdict == verdict):
            first, where = some[0], [each.entry for each in some if each.entry]
            why = first.reason + (f" ({_listed(where)})" if where else "")
            table.add_row(
                f"[{_STYLES[verdict]}]{verdict}[/]",
                first.name,
                *(escape(escaped(text)) for text in (_listed([e.party for e in some]), why)),
            )
    return [table] if table.row_count else []


def alike(checks: Iterable[Check]) -> list[list[Check]]:
    """Return checks of several parties that have found the same together."""
    found: dict[tuple[str, str], list[Check]] = {}
    for each in checks:
        found.setdefault((each.name, each.reason), []).append(each)
    return list(found.values())


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more


def last_line(findings: Findings) -> str:
    """Return what was found, in plain words."""
    passes, fails, unsure, untested = (findings.count(verdict) for verdict in Verdict)
    left = f"{unsure} inconclusive, {untested} not tested" if unsure else f"{untested} not tested"
    if fails:
        what = "1 check FAILs" if fails == 1 else f"{fails} checks FAIL"
        return (
            f"{what}: the records contradict themselves or what was promised. {passes} passed, "
            f"{left}"
        )
    return (
        f"Nothing was refuted by {passes} checks ({left}). A check that passes refutes nothing; it "
        "shows neither that a site ran the code nor that nobody has lied"
    )


def plain(findings: Findings) -> dict[str, Any]:
    """Return findings as plain data."""
    return {
        "schema": SCHEMA,
        "run": findings.run,
        "job_sha256": findings.job_sha256,
        "evidence": findings.where,
        "verdicts": {str(verdict): findings.count(verdict) for verdict in Verdict},
        "checks": [
            {
                "family": family,
                "check": each.name,
                "party": each.party,
                "verdict": str(each.verdict),
                "reason": each.reason,
                "entry": each.entry,
            }
            for family, checks in findings.checks.items()
            for each in checks
        ],
    }
