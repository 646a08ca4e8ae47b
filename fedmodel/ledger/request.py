"""A job's request to a ledger."""

from collections.abc import Iterable
from dataclasses import dataclass

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.spends import Spend
from fedmodel.ledger.caps import Charge
from fedmodel.ledger.entries import Adjacency, Part, ReserveEntry, Unit

__all__ = ["Request"]


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
        steps: dict[tuple[float, float], int] = {}
        for round_ in range(1, plan.rounds + 1):
            kind = (plan.rate, plan.noise_at(round_))
            steps[kind] = steps.get(kind, 0) + plan.steps
        parts = [Part.of("train", Spend(*kind, count)) for kind, count in steps.items()]
        evaluation = plan.evaluation()
        if evaluation is not None:
            parts.append(Part.of("evaluate", evaluation))
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

    def entry(self, *, run: str, job: str, code: str) -> ReserveEntry:
        """Return what a ledger says of them.

        Args:
            run: name of the run.
            job: SHA-256 (hex) of the job.
            code: which program reserves.
        """
        return ReserveEntry(
            run=run,
            job=job,
            unit=self.unit,
            adjacency=self.adjacency,
            epsilon=repr(float(self.epsilon)),
            delta=repr(float(self.delta)),
            parts=self.parts,
            code=code,
        )
