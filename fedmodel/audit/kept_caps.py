"""Caps: whether what a site had reserved and spent was within its caps when a run reserved."""

from collections.abc import Iterator, Sequence

from fedmodel import config
from fedmodel.audit.reading import LedgerReading
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import Family, Outcome, Rule, failed, not_tested, passed
from fedmodel.errors import BudgetError, ConfigError, PrivacyError
from fedmodel.ledger import Book
from fedmodel.ledger.caps import Caps

__all__ = ["CAPS", "book_at", "caps_of"]

_KEYS = ("epsilon", "delta", "run_epsilon", "unit")


def caps_of(records: Records) -> Caps | str:
    """Return the caps that a simulation's sites had, or why they can't be told."""
    if records.served:
        return "a site's own caps aren't in this folder"
    try:
        caps = _in_manifest(records)
    except ConfigError as error:
        return f"the manifest's caps can't be read: {error}"
    if caps is None:
        return "the manifest has no caps"
    if caps.epsilon is None and caps.run_epsilon is None:
        return "no cap was set"
    return caps


def _in_manifest(records: Records) -> Caps | None:
    asked = records.manifest.config.get("budget")
    if not isinstance(asked, dict):
        return None
    return config.build(Caps, {key: asked[key] for key in _KEYS if key in asked}, "budget")


def _readable(records: Records) -> Outcome:
    if records.served:
        return not_tested("each site's caps are its own, and stand in its ledger")
    try:
        caps = _in_manifest(records)
    except ConfigError as error:
        return failed(f"the manifest's caps can't be read: {error}", "manifest.json")
    return not_tested("the manifest has no caps") if caps is None else passed(str(caps))


def _kept(records: Records, site: SiteRecords) -> Outcome:
    ledger, told, limited = site.ledger, caps_of(records), []
    if ledger is None or not (reservations := ledger.of_run(records.run).reservations):
        return not_tested("the run has reserved nothing here")
    books = books_at(ledger, [held.entry.seq for held in reservations])
    for held, book in zip(reservations, books, strict=True):
        grounds = held.entry.grounds
        in_force = [] if grounds is None else [grounds.caps.caps()]
        in_force += [] if isinstance(told, str) else [told]
        for caps in in_force:
            if caps.epsilon is None and caps.run_epsilon is None:
                continue
            limited.append(str(caps))
            try:
                _check(caps, book, records.run)
            except (BudgetError, PrivacyError) as error:
                return failed(f"as the run reserved: {error}", ledger.at(held.entry))
    if not limited:
        own = records.served and all(e.entry.grounds is not None for e in reservations)
        return not_tested(told if isinstance(told, str) and not own else "no cap was set")
    return passed("; ".join(dict.fromkeys(limited)))


def _check(caps: Caps, book: Book, run: str) -> None:
    spent, held = book.charges()
    ours = [charge for some in book.charges(run) for charge in some]
    caps.check(spent=spent, held=held, new=(), run=ours)


def books_at(ledger: LedgerReading, seqs: Sequence[int]) -> Iterator[Book]:
    """Yield what a ledger added up to once each of some entries was there.

    It is one book, which goes on to be counted: each entry once.

    Args:
        ledger: as it was read.
        seqs: of the entries, rising.
    """
    book, at = Book(), 0
    for seq in seqs:
        for entry in ledger.entries[at : seq + 1]:
            book.count(entry)
        at = max(at, seq + 1)
        yield book


def book_at(ledger: LedgerReading, seq: int) -> Book:
    """Return what a ledger added up to once an entry was there."""
    return next(books_at(ledger, [seq]))


CAPS = Family(
    name="caps",
    rules=(
        Rule(
            name="caps-kept",
            says="As the run reserved, all that a site had spent and held was within the caps that "
            "its reservation names, and, of a simulated site, within those of the manifest. Those "
            "can be read.",
            run=_readable,
            site=_kept,
        ),
    ),
    needs=(
        *("schema", "chain", "signatures", "roster", "tree heads"),
        *("completeness", "job", "plan"),
    ),
)
