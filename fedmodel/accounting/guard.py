"""A guard in the training loop: no step is taken that the plan doesn't cover."""

from collections.abc import Sequence

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.remaining import Remaining, covers, planned_spends
from fedmodel.accounting.spends import Spend, merge
from fedmodel.errors import BudgetError

__all__ = ["StepGuard"]

# Sums of the same numbers in another order differ by about 1e-16 for each; a step of the longest
# run costs 1e-6 of its ε or more.
_TOLERANCE = 1e-9


class StepGuard:
    """Adds up the Rényi DP of every step and compares it with what the plan as a whole costs.

    :class:`fedmodel.accounting.remaining.Remaining` says how many steps a round may take. This is
    the second line, in the loop itself, for what no budget foresees: a loop that runs too often, a
    counter that was reset, steps with less noise than planned. It costs microseconds: a step's
    RDP is an array, worked out once for each kind of step, and ε of the sum a minimum over it.

    Within what the plan costs in RDP (up to 1e-9 of it) a step is let pass. Beyond that, PLD
    decides, which takes longer: noise is calibrated to 0.1 %, and a round that a crash made
    necessary twice may still fit in. So a step is refused exactly when it exceeds both.

    The plan's evaluation is kept in reserve until it is taken.

    Args:
        plan: what is promised.
        spent: what counts against the plan so far, without what is about to be guarded.
    """

    def __init__(self, plan: Plan, spent: Sequence[Spend] = ()) -> None:
        from fedmodel.accounting import renyi

        self.plan = plan
        self._renyi = renyi
        self._spent = merge(spent)
        self._rdp = renyi.of_schedule(self._spent, plan.adjacency)
        whole = renyi.of_schedule(planned_spends(plan), plan.adjacency)
        # Infinite where RDP has no bound (tiny rates, or hardly any noise): then PLD decides.
        self._limit = renyi.to_epsilon(whole, plan.delta, plan.adjacency)
        self._reserve = Remaining(plan, spent).reserve

    def before_step(self, spend: Spend) -> None:
        """Count a step (or more) that is about to be taken.

        Args:
            spend: what it spends, usually ``plan.spend(round, 1)``.

        Raises:
            BudgetError: when the plan doesn't cover it; it isn't counted then.
        """
        reserve = () if spend.kind == "evaluate" else self._reserve
        adjacency = self.plan.adjacency
        rdp = self._rdp + self._renyi.of_schedule((spend,), adjacency)
        needed = rdp + self._renyi.of_schedule(reserve, adjacency)
        found = self._renyi.to_epsilon(needed, self.plan.delta, adjacency)
        within = found <= self._limit * (1 + _TOLERANCE) < float("inf")
        if not within and not covers(self.plan, [*self._spent, spend, *reserve]):
            raise BudgetError(
                "this step isn't covered by the plan: its ε of "
                f"{self.plan.epsilon:g} at δ = {self.plan.delta:g} is spent (it has "
                f"{self.plan.rounds} rounds of {self.plan.steps} steps). Stop here"
            )
        self._rdp, self._reserve = rdp, reserve
        self._spent = merge([*self._spent, spend])
