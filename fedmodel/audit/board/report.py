"""The report: what a board reads, as one value, of which page, PDF and JSON are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fedmodel import config
from fedmodel._escape import escaped
from fedmodel._paths import source_digest
from fedmodel._text import show_epsilon
from fedmodel.audit.board.answers import LIMITS, answers, odds, spending, told_unit
from fedmodel.audit.board.asked import Answer, Terms
from fedmodel.audit.board.facts import Facts, SiteFacts, facts_of
from fedmodel.audit.board.kept import counted
from fedmodel.audit.board.parting import parted
from fedmodel.audit.board.planted import planted
from fedmodel.audit.board.recommendation import Recommendation, recommend
from fedmodel.audit.bundles.statement import Packer
from fedmodel.audit.records import Records
from fedmodel.audit.show import plain
from fedmodel.audit.verdicts import Check
from fedmodel.audit.verify import Findings
from fedmodel.errors import EvidenceError

__all__ = ["SCHEMA", "Report", "report_of"]

SCHEMA = "fedmodel.board-report/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a board reads of a run.

    Args:
        made: when, UTC.
        program: that made it: version and SHA-256 of its sources.
        signer: who signs it; ``None``: nobody does.
        findings: of the checks.
        facts: of the run.
        advice: what to do.
        answers: to the questions, in order.
        first: the first page: heading → paragraphs, in plain language.
        claims: what was claimed and what was found: name → text.
        planted: what the same checks find once one figure is changed; ``None`` where nothing could
            be changed.
    """

    made: str
    program: str
    signer: Packer | None
    findings: Findings
    facts: Facts
    advice: Recommendation
    answers: tuple[Answer, ...]
    first: Mapping[str, tuple[str, ...]]
    claims: Mapping[str, str]
    planted: Check | None

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain data, in the order of the page."""
        return {
            "schema": SCHEMA,
            "made": self.made,
            "program": self.program,
            "signer": None if self.signer is None else config.to_mapping(self.signer),
            "run": self.findings.run,
            "job_sha256": self.findings.job_sha256,
            "recommendation": config.to_mapping(self.advice),
            "first_page": {heading: list(lines) for heading, lines in self.first.items()},
            "questions": [
                {
                    "number": each.number,
                    "question": each.question,
                    "answered": each.answered,
                    "answer" if each.answered else "because": list(each.text),
                    "evidence": list(each.evidence),
                }
                for each in self.answers
            ],
            "claims": dict(self.claims),
            "findings": plain(self.findings),
            "sites": [_site(each) for each in self.facts.sites],
            "courses": [config.to_mapping(each) for each in self.facts.courses],
            "limits": list(LIMITS),
            "planted": None if self.planted is None else config.to_mapping(self.planted),
        }


def report_of(
    findings: Findings, records: Records, *, terms: Terms, made: str, signer: Packer | None = None
) -> Report:
    """Return the report on a run.

    Args:
        findings: of the checks on these records.
        records: of the run.
        terms: under which the model is to be released.
        made: now, UTC.
        signer: who will sign it.

    Raises:
        EvidenceError: where there is no job that can be read: then nothing says what was promised.
    """
    job = records.job.value
    if job is None:
        raise EvidenceError(
            f"no report can be made: {records.job.wrong or 'there is no job'}. Without its job "
            "nothing says what a run promised; fedmodel verify without format= shows what can be "
            "checked"
        )
    facts = facts_of(records, job)
    advice = recommend(findings, facts, termed=terms.whole, attacked=False)
    return Report(
        made=made,
        program=f"fedmodel {version('fedmodel')} {source_digest()}",
        signer=signer,
        findings=findings,
        facts=facts,
        advice=advice,
        answers=answers(findings, facts, advice, terms, signer),
        first=_first(findings, facts),
        claims=_claims(facts),
        planted=planted(records),
    )


def _first(findings: Findings, facts: Facts) -> dict[str, tuple[str, ...]]:
    privacy = facts.job.privacy
    promised: tuple[str, ...] = (
        "Nothing about rows. The model was trained without differential privacy.",
    )
    whom = "Nobody."
    if privacy.private:
        plain_odds = odds(facts)
        promised = (
            "That there is a limit to how well anybody can tell, by all that left the sites, "
            f"whether {told_unit(facts)} was in the data.",
            plain_odds or "Where that limit is, these records don't tell.",
        )
        whom = (
            f"To whoever is behind {told_unit(facts)} at one of "
            f"{len([s for s in facts.sites if s.refused is None])} sites, against everybody who "
            "has the trained model."
        )
    spent = tuple(spending(facts.sites)) or (
        "These records don't tell: no site's own ledger is here.",
    )
    refuted = [c for checks in findings.checks.values() for c in checks if c.verdict == "FAIL"]
    told = tuple(f"Yes: {c.name} ({c.party}). {c.reason}" for c in refuted[:3]) or (
        "No. No check found records that contradict one another, or what was promised.",
    )
    return {
        "What was promised": promised,
        "To whom": (whom,),
        "What left the building": tuple(f"{p[0].upper()}{p[1:]}." for p in parted(facts)),
        "What was spent before and now, and what is left": spent,
        "Is anything refuted?": (*told, counted(findings)),
    }


def _claims(facts: Facts) -> dict[str, str]:
    privacy, worst = facts.job.privacy, facts.worst
    if not privacy.private:
        return {"differential privacy": "none promised"}
    return {
        "unit of privacy": told_unit(facts),
        "neighbouring datasets": privacy.adjacency,
        "mechanism": privacy.mechanism,
        "ε promised": f"{privacy.epsilon:g}",
        "ε found, worst site": "unknown" if worst is None else show_epsilon(worst),
        "δ": f"{privacy.delta:g}",
        "clip norm": f"{privacy.clip:g} ({privacy.clipping})",
        "sampling rate": f"{privacy.rate:g}",
        "rounds × local steps": f"{facts.job.train.rounds} × {facts.job.train.steps}",
        "updates hidden from the coordinator": facts.job.secagg.mode,
        "accountants": "PLD and RDP (dp-accounting), each above a lower bound",
    }


def _site(site: SiteFacts) -> dict[str, Any]:
    made: dict[str, Any] = config.to_mapping(site)
    made["name"] = escaped(site.name)
    return made
