"""Promises: to whom, and by which mechanism."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel.job.checks import require

__all__ = ["Privacy", "ProposedPrivacy", "Unit"]

# In float32 a gradient's square is 0 from about 1e-23 on; nobody clips to anything near.
_LEAST_CLIP = 1e-6
_LEAST_DELTA = 1e-12  # that the accountant takes

# Whose presence is hidden.
Unit: TypeAlias = Literal["record", "patient", "site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedPrivacy:
    """What is to be promised to whom. Every number is public, and none follows from a site's rows.

    Args:
        mechanism: ``none``; ``dpsgd``: DP-SGD at each site (arXiv 1607.00133), every site keeping
            the promise by itself; ``distributed``: DP-SGD on the union of all sites' rows, each
            step one secure sum to which every site adds its share of the noise; ``site``: each
            site's whole update is clipped and summed in that way.
        unit: whose presence is hidden: one ``record`` (a row), or one ``patient`` with all rows;
            with ``mechanism=site`` a whole ``site``.
        adjacency: neighbouring datasets differ by adding or removing one unit (``add-remove``), or
            by exchanging one for another (``replace``, which costs more noise at equal ε).
        epsilon: the whole run's ε at each site.
        delta: the δ it holds at; must be below 1/units at every site. ``None``: by the sites'
            published sizes.
        clip: C, the L2 norm each unit's gradient is clipped to; at least 1e-6.
        rate: probability with which a unit takes part in a step, the same at every site; the noise
            is calibrated for it. ``None``: by the batch and the sites' published sizes.
        rows_per_patient: at most so many rows of one patient enter a step, and an evaluation.
        clipping: one norm for all parameters (``flat``), C/√layers for each layer
            (``per-layer``), or a norm that follows a quantile of the norms, found out under DP
            (``adaptive``, arXiv 1905.03871).
        clip_quantile: share of units that adaptive clipping leaves unclipped.
        clip_rate: learning rate of the adaptive norm's logarithm, per step.
        clip_noise: standard deviation of the noise on adaptive clipping's count of units.
        decay: noise multiplier of the last round over that of the first; between them it
            changes geometrically. 1: constant.
        evaluation: when test rows are a site's own: ``noised`` counts after the last round, paid
            for from the same ε, or ``suppressed``.
        evaluation_noise: noise multiplier of that release.
    """

    mechanism: Literal["none", "dpsgd", "distributed", "site"] = "none"
    unit: Unit = "record"
    adjacency: Literal["add-remove", "replace"] = "add-remove"
    epsilon: float = 8.0
    delta: float | None = 1e-5
    clip: float = 1.0
    rate: float | None = None
    rows_per_patient: int = 8
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    clip_quantile: float = 0.5
    clip_rate: float = 0.2
    clip_noise: float = 10.0
    decay: float = 1.0
    evaluation: Literal["noised", "suppressed"] = "noised"
    evaluation_noise: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip", "clip_rate", "clip_noise", "decay", "evaluation_noise"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"privacy.{name} must be > 0, got {value}")
        require(
            self.clip >= _LEAST_CLIP,
            f"privacy.clip must be at least {_LEAST_CLIP:g}, got {self.clip:g}: gradients' norms "
            "are far larger; use one of their size, such as 0.1 to 10",
        )
        for name in ("delta", "clip_quantile"):
            value = getattr(self, name)
            require(
                value is None or 0 < value < 1, f"privacy.{name} must be in (0, 1), got {value}"
            )
        require(
            self.delta is None or self.delta >= _LEAST_DELTA,
            f"privacy.delta must be at least {_LEAST_DELTA:g}, got {self.delta}: below it rounding "
            "errors count for more than what is accounted",
        )
        require(
            self.rate is None or 0 < self.rate <= 1,
            f"privacy.rate must be in (0, 1], got {self.rate}",
        )
        require(
            self.rows_per_patient >= 1,
            f"privacy.rows_per_patient must be at least 1, got {self.rows_per_patient}",
        )
        require(
            (self.unit == "site") == (self.mechanism == "site"),
            "privacy.unit=site and privacy.mechanism=site go together, got "
            f"unit={self.unit} with mechanism={self.mechanism}; use privacy=site",
        )
        if self.shared:
            self._check_shared()

    def _check_shared(self) -> None:
        require(
            self.clipping != "adaptive",
            "privacy.clipping=adaptive releases a count at each site; noise in shares doesn't "
            f"cover it: use flat or per-layer with privacy.mechanism={self.mechanism}",
        )
        if self.mechanism == "site":
            require(
                self.rate in (None, 1.0),
                "with privacy=site the coordinator chooses a round's sites and knows them, so that "
                f"sampling hides nothing: privacy.rate must be 1 or null, got {self.rate}",
            )
            require(
                self.clipping == "flat" and self.evaluation == "suppressed",
                "privacy=site clips a site's whole update by one norm and hides the whole site; it "
                "needs privacy.clipping=flat and privacy.evaluation=suppressed",
            )

    @property
    def private(self) -> bool:
        """Whether any differential privacy is promised."""
        return self.mechanism != "none"

    @property
    def clips_units(self) -> bool:
        """Whether a site clips its records' or patients' gradients, and not just its whole update.

        Then one without a row can take part: what it gives is noise anyhow.
        """
        return self.private and self.unit != "site"

    @property
    def shared(self) -> bool:
        """Whether the sites share the noise, so that only their sum keeps the promise."""
        return self.mechanism in ("distributed", "site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy(ProposedPrivacy):
    """What is promised to whom, complete: see :class:`ProposedPrivacy`.

    Args:
        delta: the δ that ε holds at; like ``rate`` without effect on ``mechanism=none``.
        rate: probability with which a unit takes part in a step, the same at every site.
    """

    delta: float = 1e-5
    rate: float = 1.0
