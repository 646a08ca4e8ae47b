"""Account of a private run: reserved at the join, on disk in the ledger, then drawn."""

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from clients.policy import Charges
from clients.site import Site
from clients.witness import Witness
from fedmodel._paths import source_digest
from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.remaining import Remaining, give_up
from fedmodel.accounting.spends import Spend, without_one
from fedmodel.errors import BudgetError, FedmodelError
from fedmodel.ledger import (
    Grounds,
    Ledger,
    OutcomeEntry,
    Part,
    Request,
    SpendEntry,
    part_of,
)
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.fields import real
from fedmodel.ledger.outcomes import Charged
from fedmodel.ledger.site_line import NOWHERE, Begun
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.wire import Leave, Offer

__all__ = ["Account", "leave"]

logger = logging.getLogger(__name__)

_EVALUATION = 0  # the round that the evaluation is written down under


class Account:
    """A site's account in one job: nothing is spent from it before :meth:`reserve`.

    Args:
        plan: what is promised.
        site: whose ledger it is.
        offer: of the run and job.

    Raises:
        LedgerError: when the site's key can't be read or written.
    """

    def __init__(self, plan: Plan, site: Site, offer: Offer) -> None:
        self._plan = plan
        self._site = site
        self._run = offer.run
        self._job = offer.job.sha256
        self._ledger = site.open_ledger()
        self._request = Request.of(plan)
        self._offered: list[TreeHead] = []
        self._charged: Charged | None = None  # what was charged last, and has made nothing yet
        self._made: tuple[int, tuple[str, ...]] = (0, ())  # seq of what has, and its clip norms

    def charges(self) -> Charges:
        """Return what the job would be charged on the site's dataset, beside what is already.

        Raises:
            RollbackError: when the ledger is older than the site's own tree head.
            LedgerError: when the ledger can't be read, or isn't valid.
        """
        book, run = self._ledger.book(), self._run
        spent, held = book.charges()
        new: list[Charge] = []
        if book.open_one(run, self._job) is None:
            new = self._request.charges(book.unspent(self._request.parts, run, self._job))
        ours = [charge for some in book.charges(run) for charge in some]
        return Charges(spent=spent, held=held, new=new, run=ours, dataset=self._site.dataset)

    def reserve(self, grounds: Grounds, known: Sequence[TreeHead] = ()) -> None:
        """Reserve what the job may spend; what was asked before is asked again under the lock.

        Args:
            grounds: on what it rests.
            known: tree heads of the site's ledgers that the coordinator has kept.

        Raises:
            BudgetError: with the numbers, when the job would exceed a cap of the site.
            RollbackError: when the ledger is older than a tree head, its own or the coordinator's.
            LedgerError: when the ledger can't be read or written, or isn't valid.
            DataError: when some of the rows are part of another dataset of the site.
        """
        site = self._site
        self._offered = _own(self._ledger, known)
        for head in self._offered:
            self._ledger.check_extends(head)
        site.state.note_rows(self._ledger, *site.columns())
        self._ledger.reserve(
            self._request,
            run=self._run,
            job=self._job,
            code=f"fedmodel {version('fedmodel')} {source_digest()}",
            grounds=grounds,
        )

    def standing(self, entries: int | None = None) -> Standing:
        """Return the ledger's signed head, with the proof that it extends an older one.

        Args:
            entries: how many the older one has; ``None``: of the newest head offered at the join.

        Raises:
            RollbackError: when the ledger never had so many.
        """
        if entries is None:
            entries = max((head.size for head in self._offered), default=0)
        return Standing(head=self._ledger.head(), proof=tuple(self._ledger.prove(entries)))

    def witnessed(self) -> Begun:
        """Return what of the coordinator's ledger the run's entries here say that was shown.

        Raises:
            LedgerError: when the ledger can't be read.
        """
        book = self._ledger.book()
        charged = book.outcomes.charged_in(self._run)
        last = max(charged, key=lambda entry: entry.coordinator_entries, default=None)
        if last is None:
            return NOWHERE
        return Begun(entries=last.coordinator_entries, root=last.coordinator_root)

    def check_known(self, entries: int) -> None:
        """Check that the ledger has as many entries as the coordinator knows of.

        Raises:
            RollbackError: when it hasn't.
        """
        self._ledger.prove(entries)

    def spend_round(
        self, round_: int, steps: int, clip: float, start: Begun
    ) -> tuple[int, StepGuard]:
        """Write a round's steps to the ledger.

        Args:
            round_: of the run, from 1.
            steps: how many the job asks for.
            clip: C that the round starts from.
            start: where they start from.

        Returns:
            How many may be taken, at least 1, and the guard to ask before each of them.

        Raises:
            BudgetError: if no step is left, or the evaluation was taken: it is the last thing.
            RefusedError: if the run's reservation was given back.
        """
        self._check_unevaluated()
        spent = self._spent()
        possible = Remaining(self._plan, spent).affordable(round_, steps)
        if possible == 0:
            raise BudgetError(
                f"this site's budget for the job (ε = {self._plan.epsilon:g}) is spent; "
                "it takes no further step"
            )
        part = part_of(self._plan, self._plan.spend(round_, possible))
        self._spend(part, round_, clip, start)
        return possible, StepGuard(self._plan, spent)

    def payments(self, round_: int) -> int:
        """Return how many times the ledger has a round as spent on; repeats cost nothing.

        Raises:
            LedgerError: when it can't be read.
        """
        reservations = self._ledger.book().of(self._run, self._job)
        spent = (entry for reservation in reservations for entry in reservation.spent)
        return sum((entry.kind, entry.round) == ("train", round_) for entry in spent)

    def repeat_round(self, round_: int, start: Begun) -> StepGuard:
        """Write another attempt of a round to the ledger, of which at most one is ever opened.

        Args:
            round_: of the run; :meth:`spend_round` has written one step of it, by noise in shares.
            start: where its step starts from.

        Returns:
            The guard to ask before the step. It costs what the first attempt did, and once.

        Raises:
            BudgetError: if the evaluation was taken: it is the last thing.
            LedgerError: if the round wasn't spent.
            RefusedError: if the run's reservation was given back.
        """
        self._check_unevaluated()
        self._charged = self._ledger.repeat(run=self._run, job=self._job, round=round_, start=start)
        return StepGuard(self._plan, without_one(self._spent(), self._plan.spend(round_, 1)))

    def spend_evaluation(self, norm: float, start: Begun) -> None:
        """Write the evaluation to the ledger: the plan pays for one, and it is the last thing.

        When it comes is the coordinator's affair: others' budgets may have ended the run early.

        Args:
            norm: the largest L2 norm of what one unit adds to the counts.
            start: of which parameters they are.

        Raises:
            BudgetError: if it was taken before, the plan has none, or the budget doesn't cover it.
            RefusedError: if the run's reservation was given back.
        """
        if self._evaluated():
            raise BudgetError(
                "the job's plan pays for one evaluation, and this site's ledger has it already; "
                "go on without this site's"
            )
        remaining = Remaining(self._plan, self._spent())
        remaining.take_evaluation()
        self._spend(part_of(self._plan, remaining.spent[-1]), _EVALUATION, norm, start)

    # -- what came of it -------------------------------------------------------------------------

    def made(self, clips: Sequence[float] = ()) -> None:
        """Take note that the steps just charged have made something that is kept.

        It will leave, now or when it is asked for again; so they haven't failed, whatever happens.

        Args:
            clips: the clip norm after each step, where it adapts.
        """
        if self._charged is not None:
            self._made = self._charged.seq, tuple(map(real, clips))
        self._charged = None

    def given(self, round_: int, model: str, update: str, manifest: str = "") -> None:
        """Write down that a round's update leaves, unless that stands there already.

        Args:
            round_: of the run.
            model: SHA-256 (hex) of the parameters that it started from.
            update: SHA-256 (hex) of what leaves.
            manifest: SHA-256 (hex) of the manifest of the attempt that it is masked for.

        Raises:
            LedgerError: when it can't be written; nothing may leave then.
        """
        book = self._ledger.book()
        charged = book.outcomes.last_charged(self._run, self._job, round_, model)
        if charged is not None:
            self._note(charged, update, manifest)

    def counted(self, counts: str) -> None:
        """Write down that the counts just charged leave.

        Args:
            counts: SHA-256 (hex) of them.

        Raises:
            LedgerError: when it can't be written; nothing may leave then.
        """
        if self._charged is not None:
            self._note(self._charged, counts)

    def failed(self) -> None:
        """Write down that nothing came of what was just charged; nothing where it did.

        What can't be written is only logged: there is another error to tell of.
        """
        charged, self._charged = self._charged, None
        if charged is None:
            return
        try:
            self._ledger.note_outcome(_outcome(charged, result="failed"))
        except FedmodelError as error:
            logger.warning("site %s: that nothing came of its steps: %s", self._site.name, error)

    def _note(self, charged: Charged, update: str, manifest: str = "") -> None:
        steps = charged.steps if isinstance(charged, SpendEntry) else 1
        seq, clips = self._made
        self._ledger.note_outcome(
            _outcome(
                charged,
                update=update,
                manifest=manifest,
                steps=steps,
                clips=clips if seq == charged.seq else (),
            )
        )
        self._charged = None

    # -- what was spent --------------------------------------------------------------------------

    def _spent(self) -> list[Spend]:
        """Return what this run has spent in the job, equal steps taken together."""
        book = self._ledger.book()
        return [spend for r in book.of(self._run, self._job) for spend in r.done()]

    def _check_unevaluated(self) -> None:
        if self._evaluated():
            raise BudgetError(
                "this site has evaluated the job's last model; it takes no further step in it"
            )

    def _evaluated(self) -> bool:
        book = self._ledger.book()
        return book.attempts(self._run, self._job, "evaluate", _EVALUATION) > 0

    def _spend(self, part: Part, round_: int, clip: float, start: Begun) -> None:
        def within(spent: Sequence[Spend], held: Sequence[Spend]) -> Sequence[Spend]:
            return give_up(self._plan, spent, held)

        self._charged = self._ledger.spend(
            part,
            run=self._run,
            job=self._job,
            round=round_,
            clip=clip,
            within=within,
            start=start,
        )


def leave(site: Site, end: Leave) -> Standing | None:
    """Give back what a run hasn't spent: it has ended. A run that holds nothing changes nothing.

    Args:
        site: whose ledger it is.
        end: what the coordinator says of the run.

    Returns:
        Where the ledger stands then; ``None`` when there was nothing to give back.
    """
    if not site.has_ledger:
        return None
    ledger = site.open_ledger()
    if ledger.reservation(end.run, end.job_sha256) is None:
        return None
    ledger.give_back(end.run, end.job_sha256, failed=end.failed, start=_shown(site, end))
    return Standing(head=ledger.head(), proof=tuple(ledger.prove(end.entries)))


def _shown(site: Site, end: Leave) -> Begun:
    """Return what was shown last: what is held is given back also to who shows another ledger."""
    try:
        witness = Witness(site, end.run)
        if end.shown is not None:
            witness.take(end.shown)
    except FedmodelError as error:
        logger.warning("site %s: at the end of run %s: %s", site.name, end.run, error)
        return NOWHERE
    return witness.begun()


def _own(ledger: Ledger, known: Sequence[TreeHead]) -> list[TreeHead]:
    name = ledger.owner.ledger if ledger.owner is not None else None
    return [head for head in known if head.ledger == name]


def _outcome(charged: Charged, **came: Any) -> OutcomeEntry:
    """Return an outcome of what was charged."""
    usual: dict[str, Any] = {"result": "given", "update": "", "manifest": "", "steps": 0}
    return OutcomeEntry(
        of=charged.seq,
        run=charged.run,
        job=charged.job,
        kind=charged.kind if isinstance(charged, SpendEntry) else "train",
        round=charged.round,
        attempt=charged.attempt,
        **(usual | came),
    )
