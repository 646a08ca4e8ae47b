"""Spends of a budget: so many steps of the Poisson-sampled Gaussian mechanism."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from fedmodel.errors import PrivacyError

__all__ = [
    "MAX_NOISE",
    "MIN_NOISE",
    "Adjacency",
    "Kind",
    "Spend",
    "merge",
    "spends_of",
    "without_one",
]

Adjacency = Literal["add-remove", "replace"]
Kind = Literal["train", "evaluate"]

MIN_NOISE, MAX_NOISE = 0.05, 1e6


@dataclass(frozen=True, slots=True)
class Spend:
    """Equal steps. It describes what is done; an adjacency says against whom it is counted.

    Only Poisson sampling is amplified. Batches that are shuffled, of fixed size or chosen in any
    other way are steps at rate 1 here, however small they are (arXiv 2403.17673, 2411.10614).

    Args:
        rate: probability with which each unit takes part in a step, independently, in (0, 1].
        noise_multiplier: standard deviation of the noise on the sum, over the largest L2 norm of
            one unit's contribution; the same number under both adjacencies.
        steps: how many, at least 1.
        kind: what they are taken for. ε doesn't depend on it; what may be given up, what is kept
            in reserve and whose noise it is does.

    Raises:
        PrivacyError: when a value has no meaning or is outside what the accountants cover; no
            noise at all is one such case.
    """

    rate: float
    noise_multiplier: float
    steps: int
    kind: Kind = "train"

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


def merge(spends: Iterable[Spend]) -> tuple[Spend, ...]:
    """Return a schedule as accountants take it: equal ones are equal values.

    Steps of the same numbers are one spend, sorted. What they were taken for is put aside, so that
    it can't make a difference to ε: ask the spends themselves for it, never the merged ones.
    """
    steps: dict[tuple[float, float], int] = {}
    for spend in spends:
        numbers = (float(spend.rate), float(spend.noise_multiplier))
        steps[numbers] = steps.get(numbers, 0) + int(spend.steps)
    return tuple(Spend(*numbers, count) for numbers, count in sorted(steps.items()))


def without_one(spends: Iterable[Spend], step: Spend) -> list[Spend]:
    """Return spends less one step, which is among them.

    Args:
        spends: in any order.
        step: of one step; of which kind, at which rate and with which noise.

    Raises:
        PrivacyError: when it isn't among them.
    """
    kept = list(spends)
    for place, spend in enumerate(kept):
        if replace(spend, steps=1) == step:
            kept[place : place + 1] = (
                [] if spend.steps == 1 else [replace(spend, steps=spend.steps - 1)]
            )
            return kept
    raise PrivacyError("no such step was spent")


def spends_of(event: Any) -> tuple[Spend, ...]:
    """Return the schedule that a ``dp_accounting`` event describes.

    Args:
        event: Poisson-sampled Gaussians, Gaussians and (self-)compositions of them.

    Raises:
        PrivacyError: for any other event: what isn't known isn't guessed. That includes sampling
            without replacement, for which Poisson's amplification doesn't hold.
    """
    return merge(_walk(event, 1))


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
