"""Verdicts: what a check has found, of whom, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from fedmodel.audit.coordinator_reading import CoordinatorReading
    from fedmodel.audit.records import Records, SiteRecords

__all__ = [
    "COORDINATOR",
    "PASSED",
    "RUN",
    "Check",
    "Family",
    "FamilyName",
    "Outcome",
    "Rule",
    "Verdict",
    "failed",
    "inconclusive",
    "not_tested",
    "passed",
]

RUN = "run"  # the party of what isn't about one site
COORDINATOR = "coordinator"  # the party of what its own ledger says


class Verdict(StrEnum):
    """What a check may find. They aren't to be counted against one another, or averaged."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_TESTED = "NOT TESTED"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule has found.

    Args:
        verdict: of it.
        reason: in words; where it passed, what it was held against, or nothing.
        entry: which file, and which line of it.
    """

    verdict: Verdict
    reason: str = ""
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one party.

    Args:
        name: of the check: a stable word.
        party: ``run``, ``coordinator``, or ``site NAME``.
        verdict: what was found.
        reason: why; empty where nothing is to be said.
        entry: which file, and which line of it.
    """

    name: str
    party: str
    verdict: Verdict
    reason: str = ""
    entry: str | None = None


PASSED = Outcome(Verdict.PASS)


def passed(reason: str) -> Outcome:
    """Return that nothing was refuted, and what was looked at."""
    return Outcome(Verdict.PASS, reason)


def failed(reason: str, entry: str | None = None) -> Outcome:
    """Return that the records contradict themselves, or what was promised."""
    return Outcome(Verdict.FAIL, reason, entry)


def inconclusive(reason: str, entry: str | None = None) -> Outcome:
    """Return that an honest reading can't tell, and what it would take."""
    return Outcome(Verdict.INCONCLUSIVE, reason, entry)


def not_tested(reason: str, entry: str | None = None) -> Outcome:
    """Return that there was nothing to check, or nothing to check it by."""
    return Outcome(Verdict.NOT_TESTED, reason, entry)


FamilyName: TypeAlias = Literal[
    "bundle",
    "schema",
    "chain",
    "signatures",
    "roster",
    "tree heads",
    "completeness",
    "job",
    "plan",
    "epsilon",
    "caps",
    "secure sums",
    "model",
    "report",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A check that can be made of a run, of its coordinator's own ledger, of each of its sites.

    Args:
        name: stable, kebab-case.
        says: what is true where it passes, as a sentence.
        run: makes it for the run as a whole.
        coordinator: makes it for a coordinator whose own ledger is here.
        site: makes it for a site that has a ledger.
        ledgers: whether ``run`` or ``coordinator`` reads the sites' ledgers: where an earlier check
            of one of them has failed, it isn't made.
        both: whether ``run`` or ``site`` reads the coordinator's ledger as well: likewise.
    """

    name: str
    says: str
    run: "Callable[[Records], Outcome] | None" = None
    coordinator: "Callable[[Records, CoordinatorReading], Outcome] | None" = None
    site: "Callable[[Records, SiteRecords], Outcome] | None" = None
    ledgers: bool = False
    both: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Rules that belong together, in the order in which they are made.

    A tampering is to show in the check that names it, and not in all that follow from it. So where
    one has failed, what would read the same records any further isn't made.

    Args:
        name: of the family.
        rules: in order.
        needs: families in which nothing may have failed for a site, or for the coordinator, for
            its rules to be made.
        run_needs: families in which nothing may have failed for the run as a whole.
        stops: whether a failure stops the rules after it in the family, for that party.
    """

    name: FamilyName
    rules: tuple[Rule, ...]
    needs: tuple[FamilyName, ...] = ()
    run_needs: tuple[FamilyName, ...] = ()
    stops: bool = True
