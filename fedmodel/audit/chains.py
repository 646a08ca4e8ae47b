"""Chains: whether a ledger's lines follow one another, and mean something in that order."""

from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested

__all__ = ["CHAINS"]


def _chain(_: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None:
        return not_tested("it has no ledger here")
    if ledger.link is not None:
        return failed(ledger.link.reason, ledger.at(ledger.link.line - 1))
    return PASSED


def _entries(_: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None:
        return not_tested("it has no ledger here")
    if ledger.rule is not None:
        return failed(ledger.rule.reason, ledger.at(ledger.rule.line - 1))
    return PASSED


CHAINS = Family(
    name="chain",
    rules=(
        Rule(
            name="ledger-chain",
            says="Each line of a ledger has the next number and names the SHA-256 of the line "
            "before it.",
            site=_chain,
        ),
        Rule(
            name="ledger-entries",
            says="Each entry means something after those before it: one beginning, spends and "
            "ends of an open reservation of their own run, job, mechanism, unit, adjacency and δ.",
            site=_entries,
        ),
    ),
    needs=("schema",),
)
