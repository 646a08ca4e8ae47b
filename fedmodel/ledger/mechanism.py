"""The mechanism of a spend: what makes its steps private, and whose noise that is."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.spends import Kind
from fedmodel.errors import ConfigError
from fedmodel.job import Unit

__all__ = ["COUNTS", "DPSGD", "Mechanism", "MechanismName", "require_fits"]

MechanismName: TypeAlias = Literal["dpsgd", "distributed", "site", "counts"]

_SHARED = ("distributed", "site")
_OF_KIND: dict[Kind, tuple[MechanismName, ...]] = {
    "train": ("dpsgd", "distributed", "site"),
    "evaluate": ("counts",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """A subsampled Gaussian mechanism, by name.

    A unit takes part in a step with the spend's ``rate``, its contribution is bounded to L2 norm
    ``clip``, and Gaussian noise of standard deviation ``noise_multiplier``·``clip`` is added to
    the sum: by the site alone (``dpsgd``: of gradients; ``counts``: of counts of test rows), or
    by all sites of a secure sum together (``distributed``: of all sites' gradients; ``site``: of
    whole updates), each of which adds 1/√``honest`` of it.

    Args:
        name: which.
        honest: h, sites whose shares make up the noise that is accounted; 1 where it is all the
            site's own.
        survivors: sites at least in such a sum; to who knows k of their shares the noise
            multiplier is √((survivors − k)/honest) times the one written. 1 likewise.

    Raises:
        ConfigError: for numbers that don't go with the name, or with one another.
    """

    name: MechanismName
    honest: int = 1
    survivors: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.honest <= self.survivors:
            raise ConfigError(
                f"a mechanism has 1 ≤ honest ≤ survivors, got {self.honest} and {self.survivors}"
            )
        if self.name not in _SHARED and self.survivors != 1:
            raise ConfigError(
                f"with {self.name} all noise is the site's own: honest and survivors must be 1, "
                f"got {self.honest} and {self.survivors}"
            )

    @property
    def shared(self) -> bool:
        """Whether the noise is made of the shares of many sites."""
        return self.name in _SHARED

    @classmethod
    def of(cls, plan: Plan, kind: Kind) -> "Mechanism":
        """Return the mechanism of a plan's steps of a kind."""
        if kind == "evaluate":
            return COUNTS
        return cls(name=plan.mechanism, honest=plan.honest, survivors=plan.survivors)


DPSGD = Mechanism(name="dpsgd")
COUNTS = Mechanism(name="counts")


def require_fits(mechanism: Mechanism, kind: Kind, unit: Unit) -> None:
    """Check that a mechanism is one for steps of a kind, and hides such a unit.

    Raises:
        ConfigError: when it isn't.
    """
    known = _OF_KIND[kind]
    if mechanism.name not in known:
        raise ConfigError(f"steps to {kind} are by {' or '.join(known)}, got {mechanism.name}")
    if (mechanism.name == "site") != (unit == "site"):
        raise ConfigError(
            f"unit=site and the mechanism site go together, got {unit} and {mechanism.name}"
        )
