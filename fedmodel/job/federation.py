"""Federation and aggregation: who takes part in a round, and what is done with what they send."""

import math
from dataclasses import dataclass
from typing import Literal

from fedmodel.job.checks import require

__all__ = ["Aggregation", "Federation", "ProposedAggregation", "ProposedFederation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedAggregation:
    """What the coordinator is to do with the mean of the updates.

    Args:
        optimizer: ``fedavg``: the mean (arXiv 1602.05629); ``fedavgm``: momentum over the means
            (arXiv 1909.06335); ``fedadam``: Adam with the mean for a gradient (arXiv 2003.00295),
            as Flower has it, with the correction of its start (arXiv 1412.6980) for round + 1;
            ``fedmedian``: the median of each coordinate (arXiv 1803.01498); ``krum``: the update
            that is nearest to its neighbours (arXiv 1703.02757).
        weights: ``uniform``, or by the number of ``examples``. A private site doesn't tell its
            size, so only ``uniform`` goes with DP. ``auto``: by examples where that is possible.
        lr: server learning rate of ``fedavgm`` and ``fedadam``.
        momentum: of ``fedavgm``.
        beta1: of ``fedadam``.
        beta2: of ``fedadam``.
        tau: adaptivity of ``fedadam``.
        malicious: of ``krum``: so many sites may send anything.
    """

    optimizer: Literal["fedavg", "fedavgm", "fedadam", "fedmedian", "krum"] = "fedavg"
    weights: Literal["auto", "uniform", "examples"] = "uniform"
    lr: float = 1.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    malicious: int = 1

    def __post_init__(self) -> None:
        require(
            self.malicious >= 0, f"aggregation.malicious must be at least 0, got {self.malicious}"
        )
        require(
            not (self.robust and self.weights == "examples"),
            f"aggregation={self.optimizer} counts every site once; use aggregation.weights=uniform",
        )
        require(self.lr > 0, f"aggregation.lr must be > 0, got {self.lr}")
        for name in ("momentum", "beta1", "beta2"):
            value = getattr(self, name)
            require(0 <= value < 1, f"aggregation.{name} must be in [0, 1), got {value}")
        require(self.tau > 0, f"aggregation.tau must be > 0, got {self.tau}")

    @property
    def fewest(self) -> int:
        """How many updates a round needs so that its choice can withstand what it promises to.

        Krum's proof takes more than 2·malicious + 2 of them (arXiv 1703.02757, proposition 1).
        """
        return 2 * self.malicious + 3 if self.optimizer == "krum" else 1

    @property
    def robust(self) -> bool:
        """Whether it withstands some poisoned updates, for which it needs each as it is."""
        return self.optimizer in ("fedmedian", "krum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation(ProposedAggregation):
    """What the coordinator does with the mean of the updates: see :class:`ProposedAggregation`.

    Args:
        weights: ``uniform``, or by the number of ``examples``.
    """

    weights: Literal["uniform", "examples"] = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedFederation:
    """Who is to take part in a round, and when the run stops.

    Args:
        sites: how many sites take part; ``None``: those that there are.
        fraction: share of the sites that is sampled for each round.
        quorum: share of the sampled sites whose updates a round needs.
        below_quorum: ``stop`` the run, or ``skip`` the round (the model stays as it was).
        min_rows: a site that declares fewer rows takes no part.
        patience: stop when the public test loss hasn't improved for so many rounds; needs a
            public test set.
    """

    sites: int | None = None
    fraction: float = 1.0
    quorum: float = 0.5
    below_quorum: Literal["stop", "skip"] = "stop"
    min_rows: int = 16
    patience: int | None = None

    def __post_init__(self) -> None:
        require(
            self.sites is None or self.sites >= 1,
            f"federation.sites must be at least 1, got {self.sites}",
        )
        require(self.min_rows >= 1, f"federation.min_rows must be at least 1, got {self.min_rows}")
        for name in ("fraction", "quorum"):
            value = getattr(self, name)
            require(0 < value <= 1, f"federation.{name} must be in (0, 1], got {value}")
        require(
            self.patience is None or self.patience >= 1,
            f"federation.patience must be at least 1 or null, got {self.patience}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation(ProposedFederation):
    """Who takes part in a round, and when the run stops: see :class:`ProposedFederation`.

    Args:
        sites: how many sites take part.
        test: which rows the model is tested on: ``public`` ones, rows ``held-out`` at each site,
            or ``none``.
    """

    sites: int = 5
    test: Literal["public", "held-out", "none"] = "public"

    @property
    def cohort(self) -> int:
        """How many sites are in a round at most."""
        return max(1, math.ceil(self.fraction * self.sites))
