"""Account of a private run: reserved at the join, on disk in the ledger, then drawn."""

from collections.abc import Sequence
from importlib.metadata import version

from clients.policy import Charges
from clients.site import Site
from fedmodel._paths import source_digest
from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.remaining import Remaining, give_up
from fedmodel.accounting.spends import Spend, without_one
from fedmodel.errors import BudgetError
from fedmodel.ledger import Ledger, Part, Request, part_of
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.wire import Leave, Offer

__all__ = ["Account", "leave"]

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

    def reserve(self, known: Sequence[TreeHead] = ()) -> None:
        """Reserve what the job may spend; what was asked before is asked again under the lock.

        Args:
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

    def check_known(self, entries: int) -> None:
        """Check that the ledger has as many entries as the coordinator knows of.

        Raises:
            RollbackError: when it hasn't.
        """
        self._ledger.prove(entries)

    def spend_round(self, round_: int, steps: int, clip: float) -> tuple[int, StepGuard]:
        """Write a round's steps to the ledger.

        Args:
            round_: of the run, from 1.
            steps: how many the job asks for.
            clip: C that the round starts from.

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
        self._spend(part, round_, clip)
        return possible, StepGuard(self._plan, spent)

    def payments(self, round_: int) -> int:
        """Return how many times the ledger has a round as spent on; repeats cost nothing.

        Raises:
            LedgerError: when it can't be read.
        """
        reservations = self._ledger.book().of(self._run, self._job)
        spent = (entry for reservation in reservations for entry in reservation.spent)
        return sum((entry.kind, entry.round) == ("train", round_) for entry in spent)

    def repeat_round(self, round_: int) -> StepGuard:
        """Write another attempt of a round to the ledger, of which at most one is ever opened.

        Args:
            round_: of the run; :meth:`spend_round` has written one step of it, by noise in shares.

        Returns:
            The guard to ask before the step. It costs what the first attempt did, and once.

        Raises:
            BudgetError: if the evaluation was taken: it is the last thing.
            LedgerError: if the round wasn't spent.
            RefusedError: if the run's reservation was given back.
        """
        self._check_unevaluated()
        self._ledger.repeat(run=self._run, job=self._job, round=round_)
        return StepGuard(self._plan, without_one(self._spent(), self._plan.spend(round_, 1)))

    def spend_evaluation(self, norm: float) -> None:
        """Write the evaluation to the ledger: the plan pays for one, and it is the last thing.

        When it comes is the coordinator's affair: others' budgets may have ended the run early.

        Args:
            norm: the largest L2 norm of what one unit adds to the counts.

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
        self._spend(part_of(self._plan, remaining.spent[-1]), _EVALUATION, norm)

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

    def _spend(self, part: Part, round_: int, clip: float) -> None:
        def within(spent: Sequence[Spend], held: Sequence[Spend]) -> Sequence[Spend]:
            return give_up(self._plan, spent, held)

        self._ledger.spend(
            part, run=self._run, job=self._job, round=round_, clip=clip, within=within
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
    ledger.give_back(end.run, end.job_sha256, failed=end.failed)
    return Standing(head=ledger.head(), proof=tuple(ledger.prove(end.entries)))


def _own(ledger: Ledger, known: Sequence[TreeHead]) -> list[TreeHead]:
    name = ledger.owner.ledger if ledger.owner is not None else None
    return [head for head in known if head.ledger == name]
