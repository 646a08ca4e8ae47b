"""Verification: every check, in order; what follows from one that failed isn't made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fedmodel.audit import collector
from fedmodel.audit.bundles.evidence import BundleEvidence
from fedmodel.audit.families import BUNDLE, FAMILIES
from fedmodel.audit.forms import NO_COORDINATOR, PRESENT
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import (
    COORDINATOR,
    RUN,
    Check,
    Family,
    FamilyName,
    Outcome,
    Rule,
    Verdict,
    not_tested,
)

__all__ = ["Findings", "verify"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found.

    Args:
        run: the run's name.
        job_sha256: its job's.
        where: the evidence lies.
        checks: family → its checks, in the order in which they were made.
    """

    run: str
    job_sha256: str
    where: str
    checks: Mapping[FamilyName, tuple[Check, ...]]

    def count(self, verdict: Verdict) -> int:
        """Return how many checks have found that."""
        return sum(each.verdict == verdict for some in self.checks.values() for each in some)


@collector.paused()
def verify(records: Records) -> Findings:
    """Make every check that can be made of a run's records."""
    found: dict[FamilyName, tuple[Check, ...]] = {}
    going = _Going(records)
    bundle = (BUNDLE,) if isinstance(records.evidence, BundleEvidence) else ()
    for family in (*bundle, *FAMILIES):
        found[family.name] = tuple(going.checks(family))
    return Findings(records.run, records.manifest.job_sha256, records.evidence.where, found)


class _Going:
    """The checks so far, as far as the next ones depend on them."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._failed: dict[tuple[FamilyName, str], str] = {}  # family and party → first that failed

    def checks(self, family: Family) -> Iterator[Check]:
        """Yield the checks of a family."""
        for rule in family.rules:
            if rule.run is not None:
                yield self._noted(family, rule, RUN, self._of_run(family, rule))
            if rule.coordinator is not None:
                yield self._noted(family, rule, COORDINATOR, self._of_coordinator(family, rule))
            if rule.site is not None:
                yield from self._of_sites(family, rule)

    def _of_run(self, family: Family, rule: Rule) -> Outcome:
        if rule.both and self._records.coordinator is None:
            return not_tested(NO_COORDINATOR)
        if (why := self._lacking(rule)) is not None:
            return not_tested(why)
        needed = [(name, RUN) for name in family.run_needs]
        needed += [*self._of_ledgers(family, rule), *self._of_both(family, rule)]
        if (why := self._blocked([*needed, *self._siblings(family, RUN)])) is not None:
            return not_tested(why)
        return rule.run(self._records) if rule.run is not None else not_tested("")

    def _of_coordinator(self, family: Family, rule: Rule) -> Outcome:
        ledger = self._records.coordinator
        if ledger is None:
            return not_tested(NO_COORDINATOR)
        if (why := self._lacking(rule)) is not None:
            return not_tested(why)
        needed = [(name, COORDINATOR) for name in family.needs]
        needed += [(name, RUN) for name in family.run_needs]
        needed += [*self._of_ledgers(family, rule), *self._siblings(family, COORDINATOR)]
        if (why := self._blocked(needed)) is not None:
            return not_tested(why)
        return (
            not_tested("") if rule.coordinator is None else rule.coordinator(self._records, ledger)
        )

    def _lacking(self, rule: Rule) -> str | None:
        """Return which ledgers a rule would read that weren't handed in."""
        if not rule.ledgers or self._records.without_ledgers is not None:
            return None
        return self._records.lacking

    def _of_ledgers(self, family: Family, rule: Rule) -> list[tuple[FamilyName, str]]:
        if not rule.ledgers or self._records.without_ledgers is not None:
            return []
        parties = [site.party for site in self._records.sites.values()]
        return [(name, party) for name in (*family.needs, family.name) for party in parties]

    def _of_both(self, family: Family, rule: Rule) -> list[tuple[FamilyName, str]]:
        names = (*family.needs, family.name) if rule.both else ()
        return [(name, COORDINATOR) for name in names]

    def _of_sites(self, family: Family, rule: Rule) -> Iterator[Check]:
        records, make = self._records, rule.site
        if make is None:
            return
        why = records.without_ledgers
        if why is None and rule.both and records.coordinator is None:
            why = NO_COORDINATOR
        if why is not None:
            yield Check(rule.name, RUN, Verdict.NOT_TESTED, why)
            return
        for site in records.sites.values():
            if site.ledger is None and rule.name != PRESENT:
                continue  # that check says why there is none
            needed = [(name, site.party) for name in family.needs]
            needed += [(name, RUN) for name in family.run_needs]
            needed += [*self._of_both(family, rule), *self._siblings(family, site.party)]
            why = self._blocked(needed)
            outcome = make(records, site) if why is None else not_tested(why)
            yield self._noted(family, rule, site.party, outcome)

    def _siblings(self, family: Family, party: str) -> list[tuple[FamilyName, str]]:
        return [(family.name, party)] if family.stops else []

    def _blocked(self, needed: list[tuple[FamilyName, str]]) -> str | None:
        for key in needed:
            if (name := self._failed.get(key)) is not None:
                at = "" if key[1] == RUN else f" for {key[1]}"
                return f"because {name} failed{at}"
        return None

    def _noted(self, family: Family, rule: Rule, party: str, outcome: Outcome) -> Check:
        if outcome.verdict == Verdict.FAIL:
            self._failed.setdefault((family.name, party), rule.name)
        return Check(rule.name, party, outcome.verdict, outcome.reason, outcome.entry)
