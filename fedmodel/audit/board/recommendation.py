"""Recommendation: release, release under conditions, don't release. Nothing is averaged.

One reason against it outweighs any number of checks that passed. The rules are few and in order;
the first that applies is the strongest reason, and it is the one that is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel._text import listed, show_epsilon
from fedmodel.audit.board.facts import Facts
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import Findings

__all__ = ["HARDLY", "Advice", "Recommendation", "recommend"]

Advice: TypeAlias = Literal["release", "release under conditions", "don't release"]

HARDLY = 20.0  # ε from which on a promise is hardly one: odds of 10⁸ to 1
_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to do, by what was found.

    Args:
        advice: the verdict.
        reason: the single strongest one.
        conditions: what has to hold, or be settled, first; the strongest first.
    """

    advice: Advice
    reason: str
    conditions: tuple[str, ...] = ()


def recommend(findings: Findings, facts: Facts, *, termed: bool, attacked: bool) -> Recommendation:
    """Return what to do.

    Args:
        findings: of the checks.
        facts: of the run.
        termed: whether it is said who may receive the model, and until when.
        attacked: whether attacks on the model were tried, and what came of them is in the report.
    """
    against = next(_against(findings, facts), None)
    if against is not None:
        return Recommendation(advice="don't release", reason=against)
    conditions = tuple(_conditions(findings, facts, termed=termed, attacked=attacked))
    if conditions:
        return Recommendation(
            advice="release under conditions", reason=conditions[0], conditions=conditions
        )
    return Recommendation(
        advice="release", reason="no check has refuted what was promised, and none was left out"
    )


def _against(findings: Findings, facts: Facts) -> Iterator[str]:
    for each in _found(findings, Verdict.FAIL):
        yield f"{each.name} ({each.party}) was refuted: {each.reason}"
    if not facts.job.privacy.private:
        yield (
            "no differential privacy was promised: the model may repeat what it was trained on, "
            "and nothing here bounds by how much"
        )
    if not facts.ended:
        yield "the run hasn't come to its end, so what it costs isn't settled"
    worst = facts.worst
    if facts.job.privacy.private and worst is None:
        yield "what the run has cost can't be told from these records"
    elif worst is not None and worst > HARDLY:
        yield (
            f"ε = {show_epsilon(worst)} promises hardly anything: from {HARDLY:g} on, whoever has "
            "the model can be all but sure whether somebody was in the data"
        )


def _conditions(findings: Findings, facts: Facts, *, termed: bool, attacked: bool) -> Iterator[str]:
    for each in _found(findings, Verdict.INCONCLUSIVE):
        yield f"{each.name} ({each.party}) is INCONCLUSIVE, and to be settled: {each.reason}"
    if facts.lacking:
        yield (
            f"ledgers aren't here ({listed(facts.lacking, _MOST)}), so what these sites spent is "
            "the coordinator's word: get and verify them"
        )
    for name, what in _NEEDED.items():
        if any(each.name == name for each in _found(findings, Verdict.NOT_TESTED)):
            yield what
    if not attacked:
        yield (
            "nobody has attacked the model: these are checks of records; have membership inference "
            "and extraction of texts tried before it leaves"
        )
    if not termed:
        yield "nobody has said who may receive the model, and until when: name both"


_NEEDED = {
    "roster-consortium": (
        "whoever wrote these records may have written the roster, too: verify again with the "
        "consortium's fingerprint as it was read out to you (consortium=…)"
    ),
    "roster-signed": (
        "nobody vouches for the parties' keys: get the consortium's roster (roster=…)"
    ),
}


def _found(findings: Findings, verdict: Verdict) -> list[Check]:
    return [c for checks in findings.checks.values() for c in checks if c.verdict == verdict]
