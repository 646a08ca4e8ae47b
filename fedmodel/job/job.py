"""The job: all its parts together."""

from dataclasses import dataclass, field
from typing import Any, Literal

from fedmodel import config
from fedmodel.job.checks import require
from fedmodel.job.federation import Aggregation, Federation
from fedmodel.job.privacy import Privacy
from fedmodel.job.secagg import SecAgg
from fedmodel.job.train import Model, Train
from fedmodel.seeds import Seed

__all__ = ["Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One federated run. See the parts for what each means."""

    format: Literal["fedmodel.job/1"] = "fedmodel.job/1"
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    privacy: Privacy = field(default_factory=Privacy)
    secagg: SecAgg = field(default_factory=SecAgg)
    aggregation: Aggregation = field(default_factory=Aggregation)
    federation: Federation = field(default_factory=Federation)
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**53, f"seed must be in [0, 2**53), got {self.seed}")
        require(
            not (self.privacy.private and self.aggregation.weights == "examples"),
            "aggregation.weights=examples tells every site's number of rows, which DP promises to "
            "hide; use aggregation.weights=uniform with privacy.mechanism="
            f"{self.privacy.mechanism}",
        )
        require(
            not (
                self.privacy.private
                and self.train.gradient_checkpointing
                and self.privacy.engine != "fast"
            ),
            "train.gradient_checkpointing goes with privacy.engine=fast, not with "
            f"{self.privacy.engine}",
        )
        require(
            self.privacy.private or self.train.optimizer != "adamw-bc",
            "train.optimizer=adamw-bc corrects for the noise of DP, and this job has none; use "
            "train.optimizer=adamw",
        )
        require(
            self.train.optimizer != "adamw-bc" or self.privacy.mechanism != "site",
            "train.optimizer=adamw-bc corrects for noise in a site's own steps, and with "
            "privacy=site there is none; use train.optimizer=adamw",
        )
        require(
            self.secagg.on or not self.privacy.shared,
            f"privacy.mechanism={self.privacy.mechanism} spreads the noise over the sites, so that "
            "one site's update alone has too little; it needs secagg=on, got "
            f"secagg={self.secagg.mode}",
        )
        require(
            not (self.secagg.on and self.aggregation.robust),
            f"aggregation={self.aggregation.optimizer} needs every site's update as it is, and "
            "with secagg=on the coordinator sees their sum only; use aggregation=fedavg, fedavgm "
            "or fedadam, or secagg=off or secagg=seal",
        )
        if self.privacy.mechanism == "distributed":
            self._check_distributed()

    def _check_distributed(self) -> None:
        require(
            self.train.steps == 1,
            "with privacy=distributed every optimiser step is one secure sum, so train.steps must "
            f"be 1, got {self.train.steps}: use train.rounds={self.total_steps} train.steps=1. "
            "Several local steps per sum are FedAvg: privacy=record secagg=on, where each site "
            "keeps its own ε and secure sums add protection from the coordinator, but no ε",
        )
        require(
            self.train.optimizer == "sgd"
            and self.train.momentum == 0
            and self.train.optimizer_state == "reset",
            "with privacy=distributed the coordinator takes the optimiser's step: use "
            "train.optimizer=sgd train.momentum=0 train.optimizer_state=reset, and "
            "aggregation=fedavg (SGD), fedavgm (momentum) or fedadam (Adam)",
        )

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the job's canonical JSON: its name."""
        return config.digest(self)

    @property
    def total_steps(self) -> int:
        """Optimiser steps a site takes in a whole run: what its noise is calibrated for."""
        return self.train.rounds * self.train.steps

    @property
    def releases_evaluation(self) -> bool:
        """Whether each site is asked once, after the last round, for noised counts of its own."""
        noised = self.privacy.private and self.privacy.evaluation == "noised"
        return noised and self.federation.test == "held-out"

    @property
    def root_seed(self) -> Seed:
        """Root of the reproducible randomness (never of noise)."""
        return Seed(self.seed)

    def to_json(self) -> bytes:
        """Return the canonical JSON that travels and is hashed."""
        return config.canonical(self)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "Job":
        """Build and check a job from a plain mapping (see :func:`fedmodel.config.build`)."""
        return config.build(cls, mapping)
