"""A site's running guard: no step is taken that its budget doesn't cover."""

from collections.abc import Sequence

from fedmodel.errors import BudgetError
from fedmodel.privacy.accounting import Claim, Spend, claim, epsilon
from fedmodel.privacy.plan import Plan

__all__ = ["Budget"]


class Budget:
    """What a site may still spend of a plan's ε.

    Args:
        plan: what is promised; ε and δ of the budget are the plan's.
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

    def claim(self) -> Claim:
        """Return the ε of everything spent so far, at the plan's δ."""
        return claim(self._spent, self.plan.delta)

    def affordable(self, steps: int) -> int:
        """Return how many of the next ``steps`` steps keep the total ε within the plan's.

        Args:
            steps: how many the site is asked for, ≥ 0.

        Returns:
            A number from 0 to ``steps``.
        """
        if steps < 1:
            return 0
        if self._planned(steps) or self._keeps(steps):
            return steps
        low, high = 0, steps  # affordable, not affordable: ε doesn't fall with more steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._keeps(middle) else (low, middle)
        return low

    def take(self, steps: int) -> None:
        """Count steps as spent. Call it before, or together with, writing the ledger.

        Raises:
            BudgetError: when the budget doesn't cover all of them; none is counted then.
        """
        possible = self.affordable(steps)
        if possible < steps:
            raise BudgetError(
                f"{steps} more steps would exceed this site's budget of ε = {self.plan.epsilon:g} "
                f"at δ = {self.plan.delta:g}; it covers {possible}. Stop here, or agree on a job "
                "with a larger privacy.epsilon"
            )
        if steps > 0:
            self._spent.append(self.plan.spend(steps))

    def _planned(self, steps: int) -> bool:
        """Whether all is as planned, so that the plan's own calibration already answers."""
        own = (self.plan.rate, self.plan.noise_multiplier)
        if any((s.rate, s.noise_multiplier) != own for s in self._spent):
            return False
        if sum(s.steps for s in self._spent) + steps > self.plan.steps:
            return False
        # Remembered from the calibration; computed once for a plan that was written by hand.
        return epsilon([self.plan.spend()], self.plan.delta) <= self.plan.epsilon

    def _keeps(self, steps: int) -> bool:
        total = epsilon([*self._spent, self.plan.spend(steps)], self.plan.delta)
        return total <= self.plan.epsilon
