"""A job's request to a ledger."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.spends import Adjacency, Spend
from fedmodel.job import Unit
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.entries import Part, ReserveEntry
from fedmodel.ledger.fields import real
from fedmodel.ledger.grounds import Grounds
from fedmodel.ledger.mechanism import Mechanism

__all__ = ["Request", "part_of"]


def part_of(plan: Plan, spend: Spend) -> Part:
    """Return steps of a plan as a ledger writes them: with the plan's mechanism."""
    return Part.of(spend, Mechanism.of(plan, spend.kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a job would spend at a site, and what it promises for that.

    Args:
        unit: whose presence is hidden.
        adjacency: of neighbouring datasets.
        epsilon: ε of all parts together, at ``delta``.
        delta: δ of the promise.
        parts: all steps, in the order they are taken.
    """

    unit: Unit
    adjacency: Adjacency
    epsilon: float
    delta: float
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, plan: Plan) -> "Request":
        """Return what a plan asks for: its rounds in order, equal ones together, its evaluation."""
        steps: Counter[Spend] = Counter()
        for spend in plan.spends():
            steps[replace(spend, steps=1)] += spend.steps
        parts = [part_of(plan, replace(one, steps=count)) for one, count in steps.items()]
        return cls(
            unit=plan.unit,
            adjacency=plan.adjacency,
            epsilon=plan.epsilon,
            delta=plan.delta,
            parts=tuple(parts),
        )

    def charges(self, parts: Iterable[Part] | None = None) -> list[Charge]:
        """Return parts under these terms (all by default) as charges."""
        chosen = self.parts if parts is None else parts
        return [Charge(p.spend(), self.unit, self.adjacency, self.delta) for p in chosen]

    def entry(
        self, *, run: str, job: str, code: str, grounds: Grounds | None = None
    ) -> ReserveEntry:
        """Return what a ledger says of them.

        Args:
            run: name of the run.
            job: SHA-256 (hex) of the job.
            code: which program reserves.
            grounds: on what it rests.
        """
        return ReserveEntry(
            run=run,
            job=job,
            unit=self.unit,
            adjacency=self.adjacency,
            epsilon=real(self.epsilon),
            delta=real(self.delta),
            parts=self.parts,
            code=code,
            grounds=grounds,
        )
