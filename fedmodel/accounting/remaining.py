"""The ε that a plan has left: asked before a round or a release, answered by PLD."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from fedmodel.accounting.claims import Claim, claim, epsilon
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.spends import Spend, merge
from fedmodel.errors import BudgetError

__all__ = ["Remaining", "covers", "give_up", "planned_spends", "require_covered"]


def covers(plan: Plan, spends: Iterable[Spend]) -> bool:
    """Return whether spends, together and in any mixture, keep a plan's ε.

    What is part of the plan is: its ε is remembered from the calibration. Anything else, such as
    a round that a crash made necessary twice, is composed and compared.
    """
    schedule = merge(spends)
    whole = planned_spends(plan)
    steps = {(s.rate, s.noise_multiplier): s.steps for s in whole}
    part = all(s.steps <= steps.get((s.rate, s.noise_multiplier), 0) for s in schedule)
    if part and _epsilon(plan, whole) <= plan.epsilon:
        return True
    return _epsilon(plan, schedule) <= plan.epsilon


def require_covered(plan: Plan, spent: Sequence[Spend], held: Sequence[Spend] = ()) -> None:
    """Check spends against a plan's ε.

    Args:
        plan: what is promised.
        spent: everything spent and about to be spent.
        held: what must stay affordable besides.

    Raises:
        BudgetError: when the plan's ε doesn't cover them.
    """
    if not covers(plan, [*spent, *held]):
        raise BudgetError(
            f"these steps would exceed this site's budget of ε = {plan.epsilon:g} at δ = "
            f"{plan.delta:g}. Stop here, or agree on a job with a larger privacy.epsilon"
        )


def give_up(plan: Plan, spent: Sequence[Spend], held: Sequence[Spend]) -> tuple[Spend, ...]:
    """Return which of the held steps to do without, so that a plan's ε covers spent and the rest.

    The fewest, from the end; never the evaluation.

    Args:
        plan: what is promised.
        spent: everything spent and about to be spent.
        held: what is reserved besides, in the order it would be taken.

    Raises:
        BudgetError: when the plan's ε doesn't even cover what is spent and the evaluation.
    """
    steps = [s for s in held if s.kind == "train"]
    kept = [s for s in held if s.kind != "train"]

    def fits(count: int) -> bool:
        return covers(plan, [*spent, *kept, *_first(steps, most - count)])

    most = sum(s.steps for s in steps)
    if fits(0):
        return ()
    require_covered(plan, spent, kept)
    low, high = 0, most  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return tuple(_first(steps[::-1], high))


def _first(spends: Sequence[Spend], count: int) -> list[Spend]:
    """Return the first so many steps."""
    found = []
    for spend in spends:
        if taken := min(spend.steps, count):
            found.append(replace(spend, steps=taken))
            count -= taken
    return found


class Remaining:
    """What a site may still spend of a plan's ε.

    The plan's evaluation is kept in reserve until it is taken: steps of rounds that crashed count,
    and then the last rounds get shorter, not the evaluation.

    Args:
        plan: what is promised; ε, δ and adjacency of the budget are the plan's.
        spent: everything that counts against it so far, from the site's ledger: also steps of
            rounds that crashed, and of other plans on the same rows.
    """

    def __init__(self, plan: Plan, spent: Sequence[Spend] = ()) -> None:
        self.plan = plan
        self._spent = list(spent)

    @property
    def spent(self) -> tuple[Spend, ...]:
        """Everything spent so far."""
        return tuple(self._spent)

    @property
    def reserve(self) -> tuple[Spend, ...]:
        """The plan's evaluation, until one is spent."""
        evaluation = self.plan.evaluation()
        taken = any(s.kind == "evaluate" for s in self._spent)
        return () if evaluation is None or taken else (evaluation,)

    def claim(self) -> Claim:
        """Return the ε of everything spent so far, at the plan's δ."""
        return claim(self._spent, self.plan.delta, self.plan.adjacency)

    def affordable(self, round: int, steps: int) -> int:
        """Return how many of a round's next ``steps`` steps keep the total ε within the plan's.

        Args:
            round: 1, 2, …
            steps: how many the site is asked for, ≥ 0.

        Returns:
            A number from 0 to ``steps``.
        """
        if steps < 1 or self._keeps(round, steps):
            return max(steps, 0)
        low, high = 0, steps  # affordable, not affordable: ε doesn't fall with more steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._keeps(round, middle) else (low, middle)
        return low

    def take_steps(self, round: int, steps: int) -> None:
        """Count steps as spent. Call it before, or together with, writing the ledger.

        Raises:
            BudgetError: when the budget doesn't cover all of them; none is counted then.
        """
        possible = self.affordable(round, steps)
        if possible < steps:
            raise BudgetError(
                f"{steps} more steps would exceed this site's budget of ε = {self.plan.epsilon:g} "
                f"at δ = {self.plan.delta:g}; it covers {possible}. Stop here, or agree on a job "
                "with a larger privacy.epsilon"
            )
        if steps > 0:
            self._spent.append(self.plan.spend(round, steps))

    def affords_evaluation(self) -> bool:
        """Return whether the plan has an evaluation left, and the budget covers it."""
        return bool(self.reserve) and covers(self.plan, [*self._spent, *self.reserve])

    def take_evaluation(self) -> None:
        """Count the evaluation as spent.

        Raises:
            BudgetError: when the plan has none (left), or the budget doesn't cover it.
        """
        if not self.affords_evaluation():
            raise BudgetError(
                "this plan has no private evaluation left that its budget of ε = "
                f"{self.plan.epsilon:g} at δ = {self.plan.delta:g} covers; nothing is released"
            )
        self._spent += self.reserve

    def _keeps(self, round: int, steps: int) -> bool:
        return covers(self.plan, [*self._spent, self.plan.spend(round, steps), *self.reserve])


@lru_cache(maxsize=64)
def planned_spends(plan: Plan) -> tuple[Spend, ...]:
    """Return what a whole plan spends: the same in every round, and long where the noise decays."""
    return merge(plan.spends())


def _epsilon(plan: Plan, schedule: Sequence[Spend]) -> float:
    return epsilon(schedule, plan.delta, "pld", plan.adjacency)
