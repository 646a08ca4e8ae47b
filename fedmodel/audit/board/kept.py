"""Answers about the checks: whether the promise was kept, who has looked, and how."""

from importlib.metadata import version

from fedmodel import _hazmat
from fedmodel._paths import source_digest
from fedmodel._text import listed
from fedmodel.audit.board.asked import Answer, answered, unanswered
from fedmodel.audit.board.facts import Facts
from fedmodel.audit.bundles.statement import Packer
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import Findings
from fedmodel.identity.names import grouped
from fedmodel.identity.signed_roster import SignedRoster

__all__ = ["checked", "counted", "kept", "tuned"]

_MOST = 8


def counted(findings: Findings) -> str:
    """Return how many checks found what, as a sentence."""
    told = ", ".join(f"{findings.count(verdict)} {verdict}" for verdict in Verdict)
    left = findings.count(Verdict.NOT_TESTED)
    more = f" The {left} that weren't made say nothing either way." if left else ""
    return f"Checks: {told}.{more}"


def kept(findings: Findings) -> Answer:
    """Return whether the promise was kept in the run."""
    named = {v: _named(findings, v) for v in (Verdict.FAIL, Verdict.INCONCLUSIVE)}
    lines = [counted(findings)]
    if named[Verdict.FAIL]:
        lines.insert(0, f"No: refuted by {listed(named[Verdict.FAIL], _MOST)}.")
    else:
        lines.insert(0, "Nothing in these records refutes it.")
    if named[Verdict.INCONCLUSIVE]:
        lines.append(
            f"Left open: {listed(named[Verdict.INCONCLUSIVE], _MOST)}. An honest run can look like "
            "that, and so can another."
        )
    lines.append(
        "Noise, clipping and sampling are checked as they were written down before each step. That "
        "they were then done so, records can't show."
    )
    return answered(6, *lines, evidence=tuple(findings.checks))


def _named(findings: Findings, verdict: Verdict) -> list[str]:
    found = [c for checks in findings.checks.values() for c in checks if c.verdict == verdict]
    return list(dict.fromkeys(each.name for each in found))


def tuned(facts: Facts) -> Answer:
    """Return whether something was chosen on private data, as far as records tell."""
    job, summary = facts.job, facts.records.summary.value
    lines = []
    if job.federation.patience is not None:
        lines.append("The run was to stop early by a public test set, which costs nothing.")
    if summary is not None and summary.stopped is not None:
        lines.append(f"It stopped before its last round: {summary.stopped}")
    others = sorted({name for s in facts.sites if s.cost is not None for name in s.cost.others})
    if others:
        lines.append(
            f"The ledgers know {len(others)} other runs on these rows ({listed(others, _MOST)}). "
            "If settings were chosen by them, they are counted in what was spent in all, and not "
            "in this run's ε."
        )
    return unanswered(
        11,
        "no record says how the job's settings (rates, rounds, clip) were chosen: not counted, as "
        "far as these records tell.",
        *lines,
        evidence=("epsilon-total",),
    )


def checked(facts: Facts, signer: Packer | None) -> Answer:
    """Return who has checked, with what, and how to repeat it."""
    records = facts.records
    by = "nobody has signed this report"
    if signer is not None:
        key = grouped(signer.fingerprint)
        by = f"signed by {signer.name} ({signer.role}), whose key has the fingerprint {key}"
    roster = records.roster.value
    consortium = "no roster was here"
    if isinstance(roster, SignedRoster):
        consortium = f"consortium {grouped(_hazmat.fingerprint(bytes.fromhex(roster.consortium)))}"
        if records.consortium is not None:
            consortium += ", as its fingerprint was given to the checker"
    return answered(
        12,
        f"fedmodel {version('fedmodel')} (sources {source_digest()[:16]}…) has checked; {by}.",
        f"Run {records.run}, job {facts.job.sha256}; {consortium}.",
        "To repeat it, with a copy of the same records and without a network: fedmodel verify "
        "run=FOLDER (or bundle=FILE), and the formats are written down so that anybody can write "
        "another checker (docs/verify.md).",
        evidence=("roster-signed", "roster-consortium"),
    )
