"""Tree heads of the coordinator's ledger that sites keep: each is of what the ledger is, or was.

A site keeps the last one that it was shown in a run. The coordinator can't take it back: who has
signed for more entries than it shows now, or for others, has rolled its ledger back, or has two.
"""

from dataclasses import replace

from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.signatures import unsigned
from fedmodel.audit.tree_heads import contradiction
from fedmodel.audit.verdicts import PASSED, Outcome, Rule, failed, not_tested, passed

__all__ = ["FORM", "HEAD", "SIGNATURE"]

_NONE = "no tree head of the coordinator's ledger that the site keeps is here"


def _form(_: Records, site: SiteRecords) -> Outcome:
    shown = site.shown
    if shown.wrong is not None:
        return failed(shown.wrong, shown.name)
    return not_tested(_NONE) if shown.name is None else PASSED


def _signed(_: Records, site: SiteRecords) -> Outcome:
    shown = site.shown.value
    return not_tested(_NONE) if shown is None else unsigned([shown]) or PASSED


def _contained(records: Records, site: SiteRecords) -> Outcome:
    shown, ledger = site.shown.value, records.coordinator
    if shown is None or ledger is None or ledger.opened is None:
        return not_tested(_NONE if shown is None else "the coordinator's ledger has no beginning")
    if shown.head.ledger != ledger.opened.ledger:
        return failed(
            f"it keeps a tree head of ledger {shown.head.ledger:.80}, and the coordinator's is "
            f"{ledger.opened.ledger:.80}",
            shown.name,
        )
    wrong = contradiction(ledger, [shown], "the site keeps")
    if wrong is not None:
        return replace(wrong, reason=f"the coordinator's ledger: {wrong.reason}")
    return passed(f"it was shown {shown.head.size} of {len(ledger.entries)} entries")


FORM = (
    Rule(
        name="shown-head-form",
        says="The tree head of the coordinator's ledger that a site keeps of the run is one, in "
        "its canonical form.",
        site=_form,
    ),
)
SIGNATURE = (
    Rule(
        name="shown-head-signed",
        says="The tree head of the coordinator's ledger that a site keeps is signed by the key "
        "that it names, after which that ledger is named.",
        site=_signed,
    ),
)
HEAD = (
    Rule(
        name="shown-head",
        says="The coordinator's ledger has at least the entries of the tree head that a site "
        "keeps, and those have its root (RFC 6962): it wasn't rolled back or rewritten since.",
        site=_contained,
        both=True,
    ),
)
