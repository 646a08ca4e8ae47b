"""Claims: the ε of a schedule of noisy steps.

A schedule is a sequence of :class:`Spend`: so many steps of the Poisson-sampled Gaussian mechanism
(arXiv 1607.00133) at one sampling rate and one noise multiplier. It may mix any of them: rounds of
a schedule, jobs, an evaluation, steps of rounds that crashed. The same steps cost more against
neighbours that exchange one unit (``replace``) than against those that add or remove one. The
numbers come from ``dp_accounting``:

* ``pld``: privacy loss distributions (:mod:`fedmodel.accounting.pld`). An upper bound that is
  nearly tight; this is what noise is calibrated with.
* ``rdp``: Rényi DP (:mod:`fedmodel.accounting.renyi`). An upper bound too, usually 7-20 % larger
  (for ``replace`` 10-80 %), by a quite different way.

The Gaussian-DP approximation (a central limit) isn't offered: it can lie below the truth.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from fedmodel.accounting.lower_bound import least
from fedmodel.accounting.spends import MAX_NOISE, MIN_NOISE, Adjacency, Spend, merge, spends_of
from fedmodel.errors import PrivacyError

__all__ = [
    "MAX_NOISE",
    "MIN_DELTA",
    "MIN_NOISE",
    "Accountant",
    "Adjacency",
    "Claim",
    "Spend",
    "claim",
    "epsilon",
    "least",
    "spends_of",
]

Accountant = Literal["pld", "rdp"]

MIN_DELTA = 1e-12  # tails of 1e-15 are dropped, and an FFT rounds at about 1e-15 for each step


@dataclass(frozen=True, slots=True)
class Claim:
    """An ε that holds, and the two bounds it is the smaller of."""

    epsilon: float
    pld: float
    rdp: float


def epsilon(
    spends: Iterable[Spend],
    delta: float,
    accountant: Accountant = "pld",
    adjacency: Adjacency = "add-remove",
) -> float:
    """Return an ε for which the whole schedule is (ε, δ)-DP.

    The order of spends has no influence, nor how steps of one kind are split among them: a run
    that stops in between and goes on costs to the last bit what an unbroken one costs.

    Args:
        spends: the schedule; may mix rates and noise multipliers. Empty costs 0.
        delta: δ, in [1e-12, 1).
        accountant: ``pld`` or ``rdp`` (see the module).
        adjacency: of neighbouring datasets.

    Returns:
        ε in nats, ≥ 0; ``inf`` when the accountant finds no bound. ``pld`` finds none where δ is
        below its rounding errors, 1.3e-15 for each step.

    Raises:
        PrivacyError: for a δ, an accountant or an adjacency that isn't covered.
    """
    if not MIN_DELTA <= delta < 1:
        raise PrivacyError(f"delta must be in [{MIN_DELTA:g}, 1), got {delta}")
    for name, value, known in (
        ("accountant", accountant, get_args(Accountant)),
        ("adjacency", adjacency, get_args(Adjacency)),
    ):
        if value not in known:
            raise PrivacyError(f"{name} must be {' or '.join(known)}, got {value!r}")
    schedule = merge(spends)
    if not schedule:
        return 0.0
    from fedmodel.accounting import pld as losses
    from fedmodel.accounting import renyi

    by = losses.epsilon if accountant == "pld" else renyi.epsilon
    return by(schedule, float(delta), adjacency)


def claim(spends: Iterable[Spend], delta: float, adjacency: Adjacency = "add-remove") -> Claim:
    """Return the smaller of the PLD and the RDP bound, after checking one against the other.

    Both are upper bounds, so either may be the larger: RDP usually is, by any factor, and PLD is
    where many tiny steps are each rounded to its grid. What can't be is an upper bound below a
    lower one. So both are held against what the best threshold test on the sum of all outputs
    achieves, computed without either accountant (:func:`least`).

    Args:
        spends: the schedule.
        delta: δ, in [1e-12, 1).
        adjacency: of neighbouring datasets.

    Raises:
        PrivacyError: when the bounds contradict one another, or a value isn't covered.
    """
    schedule = merge(spends)
    pld = epsilon(schedule, delta, "pld", adjacency)
    rdp = epsilon(schedule, delta, "rdp", adjacency)
    known = max((least(spend, delta, adjacency) for spend in schedule), default=0.0)
    if min(pld, rdp) < known * (1 - 1e-6) - 1e-9:
        raise PrivacyError(
            f"the accountants can't be right: they say ε ≤ {pld:.6g} (PLD) and ε ≤ {rdp:.6g} "
            f"(RDP), but a test shows ε ≥ {known:.6g}; no ε is claimed for this schedule, please "
            "report it"
        )
    return Claim(min(pld, rdp), pld, rdp)
