"""What a schedule of noisy steps costs in ε, and which noise a target ε needs.

A schedule is a sequence of :class:`Spend`: so many steps of the Poisson-sampled Gaussian mechanism
(arXiv 1607.00133) at one sampling rate and one noise multiplier. All ε here hold for the add-remove
relation. The numbers come from ``dp_accounting``:

* ``pld``: privacy loss distributions composed by FFT after the pessimistic "connect the dots"
  rounding to a grid (arXiv 2207.04380). An upper bound that is nearly tight; this is what noise is
  calibrated with.
* ``rdp``: Rényi DP (arXiv 1702.07476, 1908.10530) with the conversion of arXiv 2004.00010,
  Proposition 12. An upper bound too, usually 7-20 % larger, by a quite different way.

The Gaussian-DP approximation (a central limit) isn't offered: it can lie below the truth.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from fedmodel.errors import PrivacyError

__all__ = ["Accountant", "Claim", "Spend", "claim", "epsilon", "spends_of"]

Accountant = Literal["pld", "rdp"]

MIN_NOISE, MAX_NOISE = 0.05, 1e6
MIN_DELTA = 1e-12  # dp_accounting drops tails of 1e-15 and its FFT rounds at about 1e-16
_GRIDS = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
_SINGLE_POINTS, _TOTAL_POINTS = 5e4, 8e6


@dataclass(frozen=True, slots=True)
class Spend:
    """Steps of one kind: what a budget is spent on.

    Args:
        rate: probability with which each unit takes part in a step, in (0, 1].
        noise_multiplier: standard deviation of the noise on the sum, in units of the clip norm.
        steps: how many, at least 1.

    Raises:
        PrivacyError: when a value has no meaning or is outside what the accountants cover; no
            noise at all is one such case.
    """

    rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise PrivacyError(f"the sampling rate must be in (0, 1], got {self.rate}")
        if not MIN_NOISE <= self.noise_multiplier <= MAX_NOISE:
            raise PrivacyError(
                f"the noise multiplier must be in [{MIN_NOISE}, {MAX_NOISE:g}], "
                f"got {self.noise_multiplier}; outside it no ε is accounted"
            )
        if self.steps < 1:
            raise PrivacyError(f"a spend is at least 1 step, got {self.steps}")

    def event(self) -> Any:
        """Return the ``dp_accounting`` event: Gaussian, Poisson-sampled, ``steps`` times."""
        import dp_accounting as dp

        gaussian = dp.GaussianDpEvent(self.noise_multiplier)
        return dp.SelfComposedDpEvent(dp.PoissonSampledDpEvent(self.rate, gaussian), self.steps)


@dataclass(frozen=True, slots=True)
class Claim:
    """An ε that holds, and the two bounds it is the smaller of."""

    epsilon: float
    pld: float
    rdp: float


def epsilon(spends: Iterable[Spend], delta: float, accountant: Accountant = "pld") -> float:
    """Return an ε for which the whole schedule is (ε, δ)-DP under add-remove.

    The order of spends has no influence, nor how steps of one kind are split among them: a run
    that stops in between and goes on costs to the last bit what an unbroken one costs.

    Args:
        spends: the schedule; may mix rates and noise multipliers. Empty costs 0.
        delta: δ, in [1e-12, 1).
        accountant: ``pld`` or ``rdp`` (see the module).

    Returns:
        ε in nats, ≥ 0; ``inf`` when the accountant finds no bound.

    Raises:
        PrivacyError: for a δ or an accountant that isn't covered.
    """
    if not MIN_DELTA <= delta < 1:
        raise PrivacyError(f"delta must be in [{MIN_DELTA:g}, 1), got {delta}")
    if accountant not in ("pld", "rdp"):
        raise PrivacyError(f"accountant must be pld or rdp, got {accountant!r}")
    schedule = _merge(spends)
    if not schedule:
        return 0.0
    return (_pld if accountant == "pld" else _rdp)(schedule, float(delta))


def claim(spends: Iterable[Spend], delta: float) -> Claim:
    """Return the smaller of the PLD and the RDP bound, after checking one against the other.

    Both are upper bounds, so either may be the larger: RDP usually is, by any factor, and PLD is
    where many tiny steps are each rounded to its grid. What can't be is an upper bound below a
    lower one. So both are held against what the best threshold test on the sum of all outputs
    achieves, computed without either accountant (:func:`least`).

    Args:
        spends: the schedule.
        delta: δ, in [1e-12, 1).

    Raises:
        PrivacyError: when the bounds contradict one another, or δ isn't covered.
    """
    schedule = _merge(spends)
    pld, rdp = epsilon(schedule, delta), epsilon(schedule, delta, "rdp")
    known = max((least(spend, delta) for spend in schedule), default=0.0)
    if min(pld, rdp) < known * (1 - 1e-6) - 1e-9:
        raise PrivacyError(
            f"the accountants can't be right: they say ε ≤ {pld:.6g} (PLD) and ε ≤ {rdp:.6g} "
            f"(RDP), but a test shows ε ≥ {known:.6g}; no ε is claimed for this schedule, please "
            "report it"
        )
    return Claim(min(pld, rdp), pld, rdp)


def least(spend: Spend, delta: float) -> float:
    """Return an ε that no true claim about a spend can be below: its ε is at least this.

    The unit at stake adds C·B to the sum of n steps, B being Binomial(n, rate), and the noise is
    N(0, n·(σC)²). Whoever sees only that sum and guesses "present" above t is right with
    P(t) and wrong with Q(t), and (ε, δ)-DP demands P(t) ≤ exp(ε)·Q(t) + δ for every t (Wasserman
    & Zhou 2010; arXiv 1311.0776, Theorem 2.1). With rate 1 or one step it is the exact ε.

    Args:
        spend: steps of one kind.
        delta: δ, in (0, 1).

    Returns:
        ε in nats, ≥ 0.
    """
    import numpy as np
    from scipy.special import log_ndtr, ndtr  # type: ignore[import-untyped]
    from scipy.stats import binom  # type: ignore[import-untyped]

    n, std = spend.steps, spend.noise_multiplier * math.sqrt(spend.steps)
    reach = 10 * math.sqrt(n * spend.rate * (1 - spend.rate)) + 10
    mean = n * spend.rate
    count = np.arange(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    t = np.linspace(-9 * std, count[-1] + 9 * std, 2001)[:, None]
    right = (ndtr((count - t) / std) * binom.pmf(count, n, spend.rate)).sum(axis=1)
    useful = right > delta * (1 + 1e-3)
    best = np.log(right[useful] - delta) - log_ndtr(-t[useful, 0] / std)
    return max(0.0, float(best.max(initial=0.0)))


def spends_of(event: Any) -> tuple[Spend, ...]:
    """Return the schedule that a ``dp_accounting`` event describes.

    Args:
        event: Poisson-sampled Gaussians, Gaussians and (self-)compositions of them.

    Raises:
        PrivacyError: for any other event: what isn't known isn't guessed.
    """
    return _merge(_walk(event, 1))


def _walk(event: Any, count: int) -> Iterator[Spend]:
    import dp_accounting as dp

    if isinstance(event, dp.SelfComposedDpEvent):
        yield from _walk(event.event, count * event.count)
    elif isinstance(event, dp.ComposedDpEvent):
        for part in event.events:
            yield from _walk(part, count)
    elif isinstance(event, dp.GaussianDpEvent):
        yield Spend(1.0, event.noise_multiplier, count)
    elif isinstance(event, dp.PoissonSampledDpEvent) and isinstance(
        event.event, dp.GaussianDpEvent
    ):
        yield Spend(event.sampling_probability, event.event.noise_multiplier, count)
    elif not isinstance(event, dp.NoOpDpEvent):
        raise PrivacyError(
            "expected Poisson-sampled Gaussian events and their compositions, got "
            f"{type(event).__name__}; no ε is claimed for it"
        )


def _merge(spends: Iterable[Spend]) -> tuple[Spend, ...]:
    """Return one spend per kind of step, sorted, so that equal schedules are equal values."""
    steps: dict[tuple[float, float], int] = {}
    for spend in spends:
        kind = (float(spend.rate), float(spend.noise_multiplier))
        steps[kind] = steps.get(kind, 0) + spend.steps
    return tuple(Spend(*kind, count) for kind, count in sorted(steps.items()))


def grid(schedule: Sequence[Spend]) -> float:
    """Return the distance of the grid points that privacy losses are rounded to.

    Any grid gives a valid bound; a fine one costs time, a coarse one tightness. Rounding a loss to
    its two neighbours on a grid of step h adds a variance of about h·min(s, h), s being the
    loss's standard deviation in one step, which is at most 1/σ and about q·√(exp(1/σ²) − 1)
    (arXiv 1911.11607, section 3). The coarsest grid is taken that keeps the sum below 1 % of
    the variance of the whole (in effect ε is 0.1-0.2 % high): 1e-3 for most jobs, where it is ten
    times faster than the usual 1e-4, down to 1e-5 for tiny steps, where 1e-4 would be 100 % high.
    """
    kinds = [_kind(spend) for spend in schedule]
    losses = [(n, _loss_std(rate, i)) for n, rate, i in kinds]
    variance = sum(n * std**2 for n, std in losses)
    fine = (h for h in _GRIDS if sum(n * h * min(h, std) for n, std in losses) <= variance / 100)
    step = next(fine, _GRIDS[-1])
    # Points cost time one by one in a single step and memory in the sum: coarser is still valid.
    single = max(_log_odds(rate, i**2 / 2 + 10 * i) for _, rate, i in kinds)
    mean = sum(n * rate * i**2 / 2 for n, rate, i in kinds)
    span = mean + 20 * math.sqrt(variance) + single
    return max(step, single / _SINGLE_POINTS, span / _TOTAL_POINTS)


def _kind(spend: Spend) -> tuple[int, float, float]:
    """Return a spend's steps, rate and 1/σ, as they are composed.

    Without sampling, n Gaussian steps are one Gaussian step of σ/√n: nothing to convolve.
    """
    if spend.rate == 1:
        return 1, 1.0, math.sqrt(spend.steps) / spend.noise_multiplier
    return spend.steps, spend.rate, 1 / spend.noise_multiplier


def _loss_std(rate: float, inverse: float) -> float:
    sampled = rate * math.sqrt(math.expm1(min(inverse**2, 500)))
    return min(inverse, sampled)


def _log_odds(rate: float, loss: float) -> float:
    """Return the privacy loss of a sampled step where the unsampled one's is ``loss`` ≥ 0."""
    if loss > 500:  # exp would overflow
        return loss + math.log(rate)
    return math.log1p(rate * math.expm1(loss))


@lru_cache(maxsize=512)
def _pld(schedule: tuple[Spend, ...], delta: float) -> float:
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = grid(schedule)
    total = None
    for spend in schedule:
        count, rate, inverse = _kind(spend)
        part = pld.from_gaussian_mechanism(
            1 / inverse, sampling_prob=rate, value_discretization_interval=step
        )
        part = part if count == 1 else part.self_compose(count)
        total = part if total is None else total.compose(part)
    return 0.0 if total is None else max(0.0, float(total.get_epsilon_for_delta(delta)))


@lru_cache(maxsize=512)
def _rdp(schedule: tuple[Spend, ...], delta: float) -> float:
    from dp_accounting import rdp

    # The default orders end where ε below about 0.1 needs larger ones.
    orders = (*rdp.rdp_privacy_accountant.DEFAULT_RDP_ORDERS, 96, 192, 384, 768, 2048)
    accountant = rdp.RdpAccountant(orders)
    with _logged() as messages:
        for spend in schedule:
            accountant.compose(spend.event())
        found = float(accountant.get_epsilon(delta))
    # A divergence that came out below 0 is read as ε = 0 there; rounding errors prove nothing.
    return math.inf if any("Negative" in message for message in messages) else found


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Catch dp_accounting's warnings; orders that it leaves out only make the bound larger."""
    messages: list[str] = []

    def catch(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("absl")
    logger.addFilter(catch)
    try:
        yield messages
    finally:
        logger.removeFilter(catch)
