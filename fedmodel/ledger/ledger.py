"""A site's ledger of one dataset: reserve, spend, give back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, RefusedError
from fedmodel.ledger.book import Book, Reservation
from fedmodel.ledger.caps import Caps, Charge, without
from fedmodel.ledger.entries import (
    AbortEntry,
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OutcomeEntry,
    Part,
    RepeatEntry,
    SpendEntry,
    TornEntry,
)
from fedmodel.ledger.fields import real
from fedmodel.ledger.form import Form
from fedmodel.ledger.grounds import Grounds
from fedmodel.ledger.journal import Journal, utc_now
from fedmodel.ledger.lines import decode, encode
from fedmodel.ledger.owner import SiteOwner
from fedmodel.ledger.request import Request
from fedmodel.ledger.signed import SignedJournal
from fedmodel.ledger.site_line import NOWHERE, Begun
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.seeds import Entropy

__all__ = ["Ledger", "Snapshot"]

_FORM = Form(encode=encode, decode=decode, torn=TornEntry.of, book=Book)

Within = Callable[[Sequence[Spend], Sequence[Spend]], Sequence[Spend]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A ledger at one moment, checked line by line.

    Args:
        text: the file's whole lines: a copy to keep elsewhere.
        book: what they add up to.
    """

    text: bytes
    book: Book


class Ledger:
    """A ledger in one file. Anybody may read it; its :class:`Owner` writes.

    Args:
        path: of the file; the first writer makes it and its folder.
        owner: who writes; ``None`` to read only.
        caps: what may be spent in all.
        entropy: of the nonces.
        clock: tells the time.
    """

    def __init__(
        self,
        path: Path | str,
        owner: SiteOwner | None = None,
        caps: Caps | None = None,
        *,
        entropy: Entropy | None = None,
        clock: Callable[[], str] = utc_now,
    ) -> None:
        self.path = Path(path)
        self.owner = owner
        self.caps = caps or Caps()
        self._journal = Journal(self.path, _FORM, entropy, clock)
        self._signed = SignedJournal(self._journal, owner, clock)

    # -- reading ---------------------------------------------------------------------------------

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries after checking every line and the chain.

        A file that doesn't exist is a ledger nothing was spent in.

        Raises:
            LedgerError: naming the first line that isn't as it should be.
            RollbackError: when it lacks entries that it once had.
        """
        with self._signed.reading():
            return tuple(self._journal.entries)

    def spends(self, run: str | None = None, job: str | None = None) -> list[Spend]:
        """Return what was spent, for the accountant: all, or of one run or job (SHA-256)."""
        return [e.spend() for r in self.book().of(run, job) for e in r.spent]

    def book(self) -> Book:
        """Return what the entries add up to. It isn't yours to change."""
        with self._signed.reading():
            return self._journal.book

    def text(self) -> bytes:
        """Return the file's whole lines, checked: a copy to keep elsewhere."""
        with self._signed.reading():
            return self._journal.text

    def snapshot(self) -> Snapshot:
        """Return text and book of the same moment: the file is read and its chain checked once."""
        with self._signed.reading():
            return Snapshot(self._journal.text, self._journal.book)

    def reservation(self, run: str, job: str) -> Reservation | None:
        """Return a run's open reservation."""
        with self._signed.reading():
            return self._journal.book.open_one(run, job)

    def check_extends(self, head: TreeHead) -> None:
        """Check that the ledger is the one that a head was signed for, or has grown from it.

        Args:
            head: from whoever kept it.

        Raises:
            ProtocolError: when the head isn't of this ledger, or isn't signed by its key.
            RollbackError: when the ledger is older than the head or was rewritten since.
        """
        with self._signed.reading():
            self._journal.check_extends(head)

    def prove(self, size: int) -> list[str]:
        """Return the proof that the ledger begins with its first ``size`` entries (hex).

        :meth:`fedmodel.ledger.tree_head.TreeHead.check_follows` checks it, without seeing an entry.

        Raises:
            RollbackError: when it never had so many.
        """
        return self._signed.prove(size)

    def head(self) -> TreeHead:
        """Return the signed head of the ledger as it is now.

        Raises:
            ConfigError: for a ledger that was opened without its owner.
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        return self._signed.head()

    # -- writing ---------------------------------------------------------------------------------

    def note_dataset(self, found: DatasetEntry) -> DatasetEntry:
        """Write down which rows a run finds (see :mod:`fedmodel.ledger.commitment`)."""
        encode(found)
        with self._signed.writing() as writer:
            return writer.append(found)

    def reserve(
        self, terms: Request, *, run: str, job: str, code: str, grounds: Grounds | None = None
    ) -> Reservation:
        """Hold what a job may spend, before it starts; return once that is on disk.

        A run that has an open reservation for the job goes on with it: it was interrupted. One
        that has ended keeps what it spent and holds what is left of its parts.

        Args:
            terms: what the job would spend.
            run: name of the run.
            job: SHA-256 (hex) of the job.
            code: which program reserves.
            grounds: on what it rests; a site in a run always says.

        Returns:
            The reservation.

        Raises:
            BudgetError: with the numbers, when it would exceed a cap, or what is spent and held
                does already.
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        entry = terms.entry(run=run, job=job, code=code, grounds=grounds)
        encode(entry)  # all that can be wrong with it, before the file is touched
        with self._signed.writing() as writer:
            book = self._journal.book
            if (going_on := book.open_one(run, job)) is not None:
                self._check_caps(run, ())  # the operator may have lowered them since
                return going_on
            parts = tuple(book.unspent(terms.parts, run, job))
            self._check_caps(run, terms.charges(parts))
            written = writer.append(replace(entry, parts=parts))
            return book.reservations[written.seq]

    def spend(
        self,
        part: Part,
        *,
        run: str,
        job: str,
        round: int,
        clip: float,
        within: Within | None = None,
        start: Begun = NOWHERE,
    ) -> SpendEntry:
        """Write down that steps are spent; return once that is on disk.

        When this raises, draw no noise: whether the spend is on disk is then unknown, and if it
        is, it counts.

        Args:
            part: the steps.
            run: name of the run; it has reserved.
            job: SHA-256 (hex) of the job.
            round: of the run, ≥ 0. Spending on it again makes it another attempt.
            clip: C.
            within: asked when the steps go beyond the reservation (a round that a crash made
                necessary again), with all that the run has spent, these steps included, and what
                it would still hold. It returns what of that to give up, so that the job's own ε
                covers the rest, or raises BudgetError.
            start: where the steps start from.

        Returns:
            The entry as written.

        Raises:
            BudgetError: when the steps go beyond the reservation, and a cap or the job says no.
            RefusedError: when the run holds no reservation (any more).
            LedgerError: when the ledger can't be read, isn't valid or can't be written.
        """
        with self._signed.writing() as writer:
            book = self._journal.book
            held = _drawn_on(book, run, job)
            given_up = self._check_beyond(held, part, within)
            entry = SpendEntry(
                reservation=held.entry.seq,
                run=run,
                job=job,
                kind=part.kind,
                mechanism=part.mechanism,
                round=round,
                attempt=1 + book.attempts(run, job, part.kind, round),
                rate=part.rate,
                noise_multiplier=part.noise_multiplier,
                steps=part.steps,
                clip=real(clip),
                unit=held.entry.unit,
                adjacency=held.entry.adjacency,
                delta=held.entry.delta,
                given_up=given_up,
                model=start.model,
                coordinator_entries=start.entries,
                coordinator_root=start.root,
            )
            return writer.append(entry)

    def repeat(self, *, run: str, job: str, round: int, start: Begun = NOWHERE) -> RepeatEntry:
        """Write down another attempt of a round of noise in shares; return once that is on disk.

        Args:
            run: name of the run; it has spent the round.
            job: SHA-256 (hex) of the job.
            round: of the run.
            start: where its step starts from.

        Returns:
            The entry as written.

        Raises:
            RefusedError: when the run holds no reservation (any more).
            LedgerError: when the round wasn't spent, the ledger can't be read, isn't valid or
                can't be written.
        """
        with self._signed.writing() as writer:
            book = self._journal.book
            entry = RepeatEntry(
                reservation=_drawn_on(book, run, job).entry.seq,
                run=run,
                job=job,
                round=round,
                attempt=1 + book.attempts(run, job, "train", round),
                model=start.model,
                coordinator_entries=start.entries,
                coordinator_root=start.root,
            )
            return writer.append(entry)

    def note_outcome(self, outcome: OutcomeEntry) -> OutcomeEntry:
        """Write down what came of steps, before anything of it leaves; return once that is on disk.

        Args:
            outcome: of an earlier entry that has none.

        Returns:
            The entry as written; of one whose very outcome is there already, that one.

        Raises:
            LedgerError: when the ledger can't be read, isn't valid or can't be written, the
                outcome is of no such entry, or something else has come of that already.
        """
        encode(outcome)
        with self._signed.writing() as writer:
            for known in self._journal.book.outcomes.of(outcome.of):
                if known.manifest == outcome.manifest:
                    known.require_same(outcome)
                    return known
            return writer.append(outcome)

    def give_back(
        self, run: str, job: str, *, failed: bool = False, start: Begun = NOWHERE
    ) -> None:
        """Give back what a run hasn't spent, because it has ended; a second time does nothing.

        Args:
            run: name of the run.
            job: SHA-256 (hex) of the job.
            failed: it didn't come to its end.
            start: where the coordinator's ledger stood then.
        """
        with self._signed.writing() as writer:
            held = self._journal.book.open_one(run, job)
            if held is not None:
                end = AbortEntry if failed else GiveBackEntry
                writer.append(
                    end(
                        reservation=held.entry.seq,
                        run=run,
                        job=job,
                        by="site",
                        coordinator_entries=start.entries,
                        coordinator_root=start.root,
                    )
                )

    def give_back_run(self, run: str) -> list[Reservation]:
        """Give back, as the operator, what all jobs of a run hold; return their reservations.

        A run that is still going on can spend nothing more then.
        """
        with self._signed.writing() as writer:
            held = self._journal.book.open_ones(run)
            for each in held:
                seq, job = each.entry.seq, each.entry.job
                writer.append(GiveBackEntry(reservation=seq, run=run, job=job, by="operator"))
            return held

    # -- inside the lock -------------------------------------------------------------------------

    def _check_caps(self, run: str, new: Sequence[Charge], less: Sequence[Charge] = ()) -> None:
        book = self._journal.book
        spent, held = book.charges()
        ours = without([charge for some in book.charges(run) for charge in some], less)
        self.caps.check(spent=spent, held=without(held, less), new=new, run=ours)

    def _check_beyond(
        self, held: Reservation, part: Part, within: Within | None
    ) -> tuple[Part, ...]:
        """Ask job and caps about steps that weren't reserved; return what is given up for them."""
        spend = part.spend()
        beyond = spend.steps - held.left(spend)
        if beyond <= 0:
            return ()
        if within is None:
            raise BudgetError(
                f"{spend.steps} steps go {beyond} beyond what this run has reserved; take fewer"
            )
        book, run, job = self._journal.book, held.entry.run, held.entry.job
        before = [s for r in book.of(run, job) for s in r.done()]
        given_up = tuple(within([*before, spend], held.held(but=spend)))
        more = [held.charge(replace(spend, steps=beyond))]
        self._check_caps(run, more, [held.charge(s) for s in given_up])
        return tuple(Part.of(s, held.mechanism(s.kind) or part.mechanism) for s in given_up)


def _drawn_on(book: Book, run: str, job: str) -> Reservation:
    held = book.open_one(run, job)
    if held is None:
        raise RefusedError(
            "the run holds no reservation in this site's ledger: it was given back, or never made. "
            "Nothing may be spent; continue the run with resume=true to reserve anew"
        )
    return held
