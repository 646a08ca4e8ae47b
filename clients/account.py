"""What a private session spends: asked of the plan, on disk in the ledger, then drawn."""

from dataclasses import replace

from clients.site import Site
from fedmodel.errors import BudgetError, ProtocolError
from fedmodel.privacy.accounting import Spend
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.entries import SpendEntry
from fedmodel.privacy.guard import StepGuard
from fedmodel.privacy.ledger import Ledger
from fedmodel.privacy.plan import Plan

__all__ = ["Account"]

_EVALUATION = 0  # the round that the evaluation is written down under


class Account:
    """A site's account in one job.

    Args:
        plan: what is promised.
        site: whose ledger it is.
        job_sha256: names the job.
    """

    def __init__(self, plan: Plan, site: Site, job_sha256: str) -> None:
        self._plan = plan
        self._site = site
        self._job = job_sha256
        self._ledger = Ledger(site.ledger)

    def spend_round(self, round_: int, steps: int) -> tuple[int, StepGuard]:
        """Write a round's steps to the ledger.

        Args:
            round_: of the run, from 1.
            steps: how many the job asks for.

        Returns:
            How many may be taken, at least 1, and the guard to ask before each of them.

        Raises:
            BudgetError: if no step is left, or the evaluation was taken: it is the last thing.
        """
        ours = self._ours()
        if any(entry.round == _EVALUATION for entry in ours):
            raise BudgetError(
                "this site has evaluated the job's last model; it takes no further step in it"
            )
        spent = [entry.spend() for entry in ours]
        possible = Budget(self._plan, spent).affordable(round_, steps)
        if possible == 0:
            raise BudgetError(
                f"this site's budget for the job (ε = {self._plan.epsilon:g}) is spent; "
                "it takes no further step"
            )
        self._write(self._plan.spend(round_, possible), round_, ours)
        return possible, StepGuard(self._plan, spent)

    def spend_evaluation(self, round_: int) -> None:
        """Write the evaluation to the ledger: the plan pays for one.

        Args:
            round_: the last one that was played.

        Raises:
            ProtocolError: if the site could still train in another round.
            BudgetError: if it was taken before, or the budget doesn't cover it.
        """
        ours = self._ours()
        if any(entry.round == _EVALUATION for entry in ours):
            raise BudgetError(
                "the job's plan pays for one evaluation, and this site's ledger has it already; "
                "go on without this site's"
            )
        budget = Budget(self._plan, [entry.spend() for entry in ours])
        if round_ < self._plan.rounds and budget.affordable(round_ + 1, 1):
            raise ProtocolError(
                f"the evaluation comes after round {self._plan.rounds}, the job's last, or when "
                f"budgets are spent; this order came after round {round_}"
            )
        budget.take_evaluation()
        self._write(budget.spent[-1], _EVALUATION, ours)

    def _ours(self) -> list[SpendEntry]:
        found = (e for e in self._ledger.entries() if isinstance(e, SpendEntry))
        return [entry for entry in found if entry.job == self._job]

    def _write(self, spend: Spend, round_: int, ours: list[SpendEntry]) -> None:
        run = self._site.run
        self._ledger.spend(
            # Only its rate and noise are written, and they are this round's.
            replace(
                self._plan, rate=spend.rate, noise_multiplier=spend.noise_multiplier, decay=1.0
            ),
            spend.steps,
            run=run,
            job=self._job,
            site=self._site.name,
            round=round_,
            # A crash makes the coordinator ask for the same round again.
            attempt=1 + sum(entry.run == run and entry.round == round_ for entry in ours),
        )
