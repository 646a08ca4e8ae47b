"""Caps: what a site allows to be spent on a dataset in all, and on one run.

A total isn't a sum of ε: it is the ε of everything together, composed by the accountant. Which one
depends on whom it is about:

* **Record.** Every spend counts. A spend that protects patients bounds what all rows of a patient
  do, so one row more or less changes one patient's contribution: it isn't added or removed but
  exchanged, which costs up to twice the distance. So as soon as such a spend counts, the total is
  taken for exchanging (``replace``). So it is with a spend that protects sites: it bounds what all
  rows of this one do.
* **Patient.** A spend that protects records says nothing about a patient with many rows. Where
  one counts there is no total for patients, and with a cap for them such a job is refused. A spend
  that protects sites counts as exchanged.
* **Site.** Only spends that protect sites say something about a whole site. A site's own caps are
  about its records or patients.

For all, the total is taken for ``replace`` when any counted spend promises that, and at the
smallest δ of the counted spends unless the cap names one.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedmodel._text import show_epsilon
from fedmodel.accounting.claims import MIN_DELTA, claim, epsilon
from fedmodel.accounting.spends import Adjacency, Spend
from fedmodel.errors import BudgetError, ConfigError, PrivacyError
from fedmodel.job import Unit

__all__ = ["Basis", "CapUnit", "Caps", "Charge", "Total", "total", "without"]

CapUnit = Literal["record", "patient"]

_SIZE = {"record": 0, "patient": 1, "site": 2}  # each is made up of those before it


@dataclass(frozen=True, slots=True)
class Charge:
    """A spend and the promise it was made under.

    Args:
        spend: the steps.
        unit: whose presence they hide.
        adjacency: of neighbouring datasets.
        delta: δ of the promise.
    """

    spend: Spend
    unit: Unit
    adjacency: Adjacency
    delta: float


@dataclass(frozen=True, slots=True)
class Basis:
    """What a total is about: ε against whom, and at which δ."""

    unit: Unit
    adjacency: Adjacency
    delta: float

    @classmethod
    def of(cls, charges: Sequence[Charge], unit: Unit, delta: float | None = None) -> "Basis":
        """Return the basis on which some charges can be totalled for a unit (see the module).

        Args:
            charges: at least one, unless a δ is given.
            unit: whom the total is about.
            delta: δ of it; the smallest of the charges by default.

        Raises:
            PrivacyError: when some charge protects less than such a unit.
        """
        less = next((c.unit for c in charges if _SIZE[c.unit] < _SIZE[unit]), None)
        if less is not None:
            raise PrivacyError(
                f"steps that protect {less}s say nothing about {unit}s, so no ε for {unit}s can "
                "be told of these"
            )
        exchanged = any(c.adjacency == "replace" or c.unit != unit for c in charges)
        least = min((c.delta for c in charges), default=1.0) if delta is None else delta
        return cls(unit, "replace" if exchanged else "add-remove", least)

    def __str__(self) -> str:
        return f"{self.unit}, {self.adjacency}, δ = {self.delta:g}"


@dataclass(frozen=True, slots=True)
class Total:
    """An ε and what it is about."""

    epsilon: float
    basis: Basis


def without(charges: Sequence[Charge], less: Sequence[Charge]) -> list[Charge]:
    """Return charges less the steps of others among them."""
    off: Counter[tuple[object, ...]] = Counter()
    for charge in less:
        off[_kind(charge)] += charge.spend.steps
    kept = []
    for charge in charges:
        taken = min(off[_kind(charge)], charge.spend.steps)
        off[_kind(charge)] -= taken
        if taken < charge.spend.steps:
            kept.append(
                replace(charge, spend=replace(charge.spend, steps=charge.spend.steps - taken))
            )
    return kept


def _kind(charge: Charge) -> tuple[object, ...]:
    spend = charge.spend
    numbers = (spend.rate, spend.noise_multiplier)
    return (spend.kind, *numbers, charge.unit, charge.adjacency, charge.delta)


def total(charges: Sequence[Charge], unit: Unit, delta: float | None = None) -> Total:
    """Return the ε of all charges together for a unit (see the module).

    Raises:
        PrivacyError: when there is none for this unit, or the accountants contradict each other.
    """
    basis = Basis.of(charges, unit, delta)
    return Total(_epsilon(charges, basis), basis)


def _epsilon(charges: Sequence[Charge], basis: Basis) -> float:
    if not charges:
        return 0.0
    return claim([c.spend for c in charges], basis.delta, basis.adjacency).epsilon


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """A site's limits for one dataset. They outrank every job.

    Args:
        epsilon: of everything that is ever spent on the dataset; ``None``: no limit.
        delta: δ it holds at; ``None``: the smallest δ of all that counts.
        run_epsilon: of one run; ``None``: no limit but its job's.
        unit: whom the limits are about.
    """

    epsilon: float | None = None
    delta: float | None = None
    run_epsilon: float | None = None
    unit: CapUnit = "record"

    def __str__(self) -> str:
        """Return the caps that are set, for people."""
        found = {"budget.epsilon": self.epsilon, "budget.run_epsilon": self.run_epsilon}
        named = [f"{key} = {value:g}" for key, value in found.items() if value is not None]
        return f"{', '.join(named) or 'no cap'} (of a {self.unit})"

    def __post_init__(self) -> None:
        for name in ("epsilon", "run_epsilon"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"budget.{name} must be > 0 or null, got {value}")
        if self.delta is not None and not MIN_DELTA <= self.delta < 1:
            raise ConfigError(
                f"budget.delta must be in [{MIN_DELTA:g}, 1) or null, got {self.delta}"
            )

    def check(
        self,
        *,
        spent: Sequence[Charge],
        held: Sequence[Charge],
        new: Sequence[Charge],
        run: Sequence[Charge] = (),
    ) -> None:
        """Check that something new stays within the caps.

        Args:
            spent: all that is spent on the dataset.
            held: all that is reserved on it and not spent yet.
            new: what is asked for; empty where a run goes on with what it holds.
            run: the part of ``spent`` and ``held`` that is the asking run's.

        Raises:
            BudgetError: with the numbers, when it doesn't.
        """
        if self.unit == "patient":
            self._check_unit(spent, held, new)
        self._check(self.epsilon, "budget.epsilon", spent, held, new)
        self._check(self.run_epsilon, "budget.run_epsilon", run, (), new)

    def _check_unit(
        self, spent: Sequence[Charge], held: Sequence[Charge], new: Sequence[Charge]
    ) -> None:
        if any(c.unit == "record" for c in new):
            raise BudgetError(
                "this site's budget is about patients (budget.unit=patient), and the job protects "
                "records: what it spends says nothing about a patient with several rows. Agree on "
                "privacy=patient, or let the operator set budget.unit=record"
            )
        if any(c.unit == "record" for c in (*spent, *held)):
            error = BudgetError(
                "this site's budget is about patients (budget.unit=patient), but its ledger holds "
                "steps that protect records only, so no ε for its patients can be told. Let the "
                "operator set budget.unit=record"
            )
            error.told = _told("budget.unit")
            raise error

    def _check(
        self,
        cap: float | None,
        key: str,
        spent: Sequence[Charge],
        held: Sequence[Charge],
        new: Sequence[Charge],
    ) -> None:
        together = [*spent, *held, *new]
        if cap is None or not together:
            return
        basis = Basis.of(together, self.unit, self.delta)
        # PLD alone is an upper bound, and quicker than both; RDP is asked where it says no.
        if epsilon([c.spend for c in together], basis.delta, "pld", basis.adjacency) <= cap:
            return
        cost = _epsilon(together, basis)
        if cost <= cap:
            return
        asked = f", {show_epsilon(cost)} with what is asked for" if new else ""
        error = BudgetError(
            f"this would exceed {key} = {cap:g} of this site ({basis}): "
            f"ε = {show_epsilon(_epsilon(spent, basis))} is spent, "
            f"{show_epsilon(_epsilon([*spent, *held], basis))} with what is reserved{asked}. "
            "Agree on a job with a smaller privacy.epsilon, or let the operator raise the cap"
        )
        error.told = _told(key)
        raise error


def _told(key: str) -> str:
    """Return what others are told of a refusal: no figure of the ledger."""
    return (
        f"this would exceed {key} of this site; agree on a job with a smaller privacy.epsilon, or "
        "ask the site's operator"
    )
