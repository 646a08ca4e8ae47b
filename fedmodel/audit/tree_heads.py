"""Tree heads: whether each ledger is the one that was signed for, or has only grown since."""

from collections.abc import Iterable, Iterator

from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.reading import LedgerReading
from fedmodel.audit.records import Head, Records, SiteRecords
from fedmodel.audit.signatures import unsigned
from fedmodel.audit.verdicts import (
    PASSED,
    Family,
    Outcome,
    Rule,
    failed,
    inconclusive,
    not_tested,
    passed,
)

__all__ = ["TREE_HEADS", "contradiction"]


def _of(heads: Iterable[Head], ledger: LedgerReading) -> list[Head]:
    opened = ledger.opened
    return [each for each in heads if opened is not None and each.head.ledger == opened.ledger]


def contradiction(
    ledger: LedgerReading | CoordinatorReading, heads: Iterable[Head], seen_by: str
) -> Outcome | None:
    """Return how a ledger contradicts a head that was signed for it.

    Args:
        ledger: as it was read.
        heads: of it.
        seen_by: who has them, for the message.
    """
    count = len(ledger.entries)
    for each in heads:
        head = each.head
        told = f"{seen_by} a tree head of {head.size} entries, signed at {head.time}"
        if head.size > count:
            return failed(
                f"it has {count} entries, and {told}: it was rolled back, or its end was cut off",
                each.name,
            )
        if ledger.tree.root(head.size).hex() != head.root:
            return failed(
                f"{told}, and these aren't its first {head.size} entries: it was rewritten",
                each.name,
            )
        if head.size == count and head.last != ledger.last:
            return failed(f"{told}, which names another line for its last", each.name)
    return None


def _one(records: Records) -> Outcome:
    """Look for two heads of one ledger and size that differ: nobody signs both by mistake."""
    known: dict[tuple[str, int], Head] = {}
    own = [each for site in records.sites.values() for each in site.own]
    for each in (*(records.heads.value or ()), *own, *_of_coordinator(records)):
        head = each.head
        other = known.setdefault((head.ledger, head.size), each)
        if other.head.root != head.root:
            return failed(
                f"two tree heads of {head.size} entries of ledger {head.ledger:.80} are signed, in "
                f"{other.name} and in {each.name}, and differ: its owner has told two stories",
                each.name,
            )
    return passed(f"{len(known)} tree heads") if known else not_tested("there is no tree head")


def _of_coordinator(records: Records) -> Iterator[Head]:
    """Yield the heads of the coordinator's ledger that it has signed: its own, and at sites.

    What isn't signed is told elsewhere, and mustn't accuse anybody of two stories.
    """
    found = [records.own, *(site.shown for site in records.sites.values())]
    for each in (each.value for each in found):
        if each is not None and unsigned([each]) is None:
            yield each


def _own(_: Records, site: SiteRecords) -> Outcome:
    if site.ledger is None or not (heads := _of(site.own, site.ledger)):
        return not_tested("the site's own tree heads aren't here")
    return contradiction(site.ledger, heads, "the site has kept") or PASSED


def _at_coordinator(records: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None or ledger.opened is None:
        return not_tested("its ledger has no beginning")
    if records.heads.value is None:
        return not_tested("there is no heads.json that can be read")
    heads = records.heads_of.get(ledger.opened.ledger, [])
    if not heads:
        if ledger.of_run(records.run).spends:
            return inconclusive(
                "the coordinator has no tree head of it, though the site has spent on the run: it "
                "never answered, or its head was taken out; the coordinator's own copy would tell",
                records.heads.name,
            )
        return not_tested("the coordinator has no tree head of it, and the run spent nothing here")
    if (why := records.outdated(ledger)) is not None:
        heads = [each for each in heads if each.head.size <= len(ledger.entries)]
        return contradiction(ledger, heads, "the coordinator has kept") or inconclusive(why)
    newest = max(each.head.size for each in heads)
    seen = passed(f"the coordinator has seen {newest} of its {len(ledger.entries)} entries")
    return contradiction(ledger, heads, "the coordinator has kept") or seen


def _all_here(records: Records) -> Outcome:
    here = {ledger.opened.ledger for _, ledger in records.with_ledgers() if ledger.opened}
    gone = sorted(set(records.heads_of) - here)
    if records.heads.value is None:
        return not_tested("there is no heads.json that can be read")
    if (why := records.without_ledgers) is not None:
        return not_tested(why)
    if not gone:
        return PASSED
    which = f"{gone[0]:.80}" + (f" and {len(gone) - 1} others" if gone[1:] else "")
    if records.manifest.config.get("state") is not None:
        return not_tested(
            f"the coordinator knows of ledger {which}, which isn't here: of another run over the "
            "same state, or taken out; the state folder would tell",
            records.heads.name,
        )
    return failed(f"the coordinator knows of ledger {which}, which isn't here", records.heads.name)


def _told(records: Records) -> Outcome:
    summary = records.summary.value
    told = {} if summary is None else {n: s.ledger for n, s in summary.privacy.sites.items()}
    known = {(each.head.size, each.head.root) for each in records.heads.value or ()}
    found = [(name, ledger) for name, ledger in told.items() if ledger is not None]
    for name, ledger in found:
        if (ledger.entries, ledger.root) not in known:
            return failed(
                f"the summary says that the ledger of site {name!r} had {ledger.entries} entries, "
                "and the coordinator has kept no such tree head",
                "summary.json",
            )
    if not found:
        return not_tested("the summary doesn't tell where ledgers stood")
    return passed(f"{len(found)} tree heads")


TREE_HEADS = Family(
    name="tree heads",
    rules=(
        Rule(
            name="one-head",
            says="No two signed tree heads of one ledger and one size differ (equivocation).",
            run=_one,
        ),
        Rule(
            name="own-head",
            says="A ledger has at least the entries that the site itself has signed for, and "
            "those have the root of that tree head (RFC 6962).",
            site=_own,
        ),
        Rule(
            name="coordinator-head",
            says="A ledger has at least the entries of its newest tree head at the coordinator, "
            "and those have its root: it wasn't rolled back or rewritten since.",
            site=_at_coordinator,
        ),
        Rule(
            name="heads-told",
            says="Where the summary tells how many entries a site's ledger had, and their root, "
            "the coordinator has kept that tree head.",
            run=_told,
        ),
        Rule(
            name="heads-have-ledgers",
            says="Each ledger that the coordinator knows of is in the folder.",
            run=_all_here,
            ledgers=True,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster"),
    run_needs=("signatures", "tree heads"),
)
