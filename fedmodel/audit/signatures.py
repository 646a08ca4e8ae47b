"""Signatures: which key has signed a tree head, and which ledger is named for it."""

from collections.abc import Iterable

from fedmodel import _hazmat
from fedmodel.audit.records import Head, Records, SiteRecords
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested, passed
from fedmodel.errors import ProtocolError

__all__ = ["SIGNATURES", "unsigned"]


def _name_of(key: str, dataset: str) -> str:
    return f"{_hazmat.fingerprint(bytes.fromhex(key))}/{dataset}"


def unsigned(heads: Iterable[Head]) -> Outcome | None:
    """Return why one of some tree heads isn't signed as it says; ``None`` where all are."""
    for each in heads:
        head = each.head
        try:
            head.verify()
        except ProtocolError:
            return failed(
                f"the signature of a tree head of {head.size} entries of ledger {head.ledger:.80} "
                f"isn't that of the key that it names, {head.key[:16]}…",
                each.name,
            )
        if _name_of(head.key, head.ledger.partition("/")[2]) != head.ledger:
            return failed(
                f"a tree head of ledger {head.ledger:.80} is signed by key {head.key[:16]}…, which "
                "that ledger isn't named for",
                each.name,
            )
    return None


def _at_coordinator(records: Records) -> Outcome:
    heads = records.heads.value
    if heads is None:
        return not_tested("there is no heads.json that can be read")
    return unsigned(heads) or passed(f"{len(heads)} tree heads")


def _owner(_: Records, site: SiteRecords) -> Outcome:
    opened = None if site.ledger is None else site.ledger.opened
    if opened is None:
        return not_tested("its ledger has no beginning")
    where = None if site.ledger is None else site.ledger.at(opened)
    if opened.site != site.name:
        return failed(f"it is the ledger of site {opened.site!r}", where)
    if (name := _name_of(opened.key, opened.dataset)) != opened.ledger:
        return failed(f"it is called {opened.ledger:.80}, and its key's name is {name}", where)
    return PASSED


def _own(_: Records, site: SiteRecords) -> Outcome:
    if not site.own:
        return not_tested("the site's own tree heads aren't here")
    return unsigned(site.own) or PASSED


SIGNATURES = Family(
    name="signatures",
    rules=(
        Rule(
            name="heads-signed",
            says="Each tree head at the coordinator is signed by the key that it names, after "
            "which its ledger is named.",
            run=_at_coordinator,
        ),
        Rule(
            name="ledger-owner",
            says="A ledger is of the site that its file is named for, and is named for its key.",
            site=_owner,
        ),
        Rule(
            name="own-head-signed",
            says="Each tree head that a site has kept itself is signed by the key that it names.",
            site=_own,
        ),
    ),
    needs=("schema", "chain"),
)
