"""One frozen object that says what is promised, and yields the event it is accounted by."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from fedmodel import job
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.privacy.accounting import Spend
from fedmodel.privacy.calibration import calibrate

__all__ = ["DeltaError", "Plan", "make_plan"]


class DeltaError(PrivacyError):
    """δ is too large for a site. ``rows`` is its size: private, so not in the message."""

    def __init__(self, delta: float, rows: int) -> None:
        super().__init__(
            f"privacy.delta={delta:g} must be below 1/rows of this site: from there on it allows "
            "one row to be published as it is; lower privacy.delta, or take part with more rows"
        )
        self.rows = rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one site promises for a whole run, and how the promise is kept.

    Guarantee: when each of at most ``steps`` steps takes every unit independently with probability
    ``rate``, clips its contribution to L2 norm ``clip``, sums, and adds Gaussian noise of standard
    deviation :attr:`noise_std` to every coordinate of the sum, then the steps together are
    (``epsilon``, ``delta``)-DP for the unit and the adjacency named. Sharp edges: clip per unit and
    not per batch; sample by :func:`fedmodel.privacy.sampling.poisson` and don't shuffle; an empty
    batch still takes noise and counts; divide by ``expected_batch``, never by the realised size.

    A plan stays at its site: ``rate`` and ``noise_multiplier`` follow from the site's size.

    Args:
        unit: whose presence is hidden.
        adjacency: neighbouring datasets differ by adding or removing one unit.
        mechanism: ``dpsgd`` (arXiv 1607.00133).
        clip: C, the L2 norm of one unit's contribution.
        noise_multiplier: standard deviation of the noise on the sum, over C.
        rate: probability with which a unit takes part in a step, in (0, 1].
        steps: of the whole run.
        delta: δ of the promise.
        epsilon: ε of the promise.
        expected_batch: public divisor of the noised sum.

    Raises:
        ConfigError: when a value isn't usable.
        PrivacyError: for a rate or a noise multiplier that can't be accounted.
    """

    unit: Literal["record"]
    adjacency: Literal["add-remove"]
    mechanism: Literal["dpsgd"]
    clip: float
    noise_multiplier: float
    rate: float
    steps: int
    delta: float
    epsilon: float
    expected_batch: int

    def __post_init__(self) -> None:
        for name, known in (
            ("unit", "record"),
            ("adjacency", "add-remove"),
            ("mechanism", "dpsgd"),
        ):
            if getattr(self, name) != known:
                raise ConfigError(f"plan.{name} must be {known}, got {getattr(self, name)!r}")
        for name in ("clip", "epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"plan.{name} must be finite and > 0, got {getattr(self, name)}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"plan.delta must be in (0, 1), got {self.delta}")
        for name in ("steps", "expected_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"plan.{name} must be at least 1, got {getattr(self, name)}")
        self.spend()

    @property
    def sensitivity(self) -> float:
        """L2 distance between the clipped sums of two neighbouring datasets (add-remove): C."""
        return self.clip

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each coordinate of the sum: σ·C.

        Neither the realised batch nor the size of the dataset enters.
        """
        return self.noise_multiplier * self.sensitivity

    def spend(self, steps: int | None = None) -> Spend:
        """Return what so many steps spend (all of them by default)."""
        return Spend(self.rate, self.noise_multiplier, self.steps if steps is None else steps)

    def event(self, steps: int | None = None) -> Any:
        """Return the ``dp_accounting`` event of so many steps (all of them by default)."""
        return self.spend(steps).event()


def make_plan(privacy: job.Privacy, *, rows: int, batch_size: int, steps: int) -> Plan:
    """Return one site's plan, its noise calibrated so that all steps together keep ε.

    The rate is batch_size/rows, at most 1, and from then on a constant of the run: as everywhere
    in the literature, neighbouring datasets are compared at the same rate. The divisor is the
    batch size, also where the site has fewer rows, so that it tells nothing about them.

    Args:
        privacy: the job's promise; its mechanism must be private.
        rows: units at this site, ≥ 1. Private.
        batch_size: expected units in a step, ≥ 1. Public.
        steps: of the whole run, ≥ 1. Public.

    Raises:
        ConfigError: for a job without privacy, or a count below 1.
        DeltaError: when δ ≥ 1/rows.
        PrivacyError: when no noise keeps the promise.
    """
    if not privacy.private:
        raise ConfigError("privacy.mechanism=none has no plan; choose privacy=record")
    if rows < 1:
        raise ConfigError("a private site needs at least 1 row")
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if privacy.delta * rows >= 1:
        raise DeltaError(privacy.delta, rows)
    rate = min(1.0, batch_size / rows)
    return Plan(
        unit=privacy.unit,
        adjacency=privacy.adjacency,
        mechanism="dpsgd",
        clip=privacy.clip,
        noise_multiplier=calibrate(privacy.epsilon, privacy.delta, rate, steps),
        rate=rate,
        steps=steps,
        delta=privacy.delta,
        epsilon=privacy.epsilon,
        expected_batch=batch_size,
    )
