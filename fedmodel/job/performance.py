"""Performance: what only a machine cares for. It changes time and memory, not what is meant."""

from dataclasses import dataclass
from typing import Literal

from fedmodel.job.checks import require
from fedmodel.job.privacy import Privacy, ProposedPrivacy

__all__ = ["Performance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """How a machine does its part. A researcher proposes it, and each site decides for itself.

    It isn't part of the job and not of its hash: a hospital with a small GPU lowers its physical
    batch without making it another job. Results agree up to rounding; with ``model.dropout`` above
    0 other masks are drawn for other physical batches.

    Args:
        physical_batch: rows in one forward pass.
        engine: how per-unit gradients are clipped: ``fast`` (one backward pass), or Opacus's
            ``hooks``. The results agree; only time and memory differ.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    physical_batch: int = 32
    engine: Literal["fast", "hooks"] = "fast"
    gradient_checkpointing: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        require(
            self.engine in ("fast", "hooks"),
            f"privacy.engine={self.engine} isn't there (ghost was: what its second pass rounds "
            "otherwise isn't clipped); use privacy.engine=fast",
        )
        require(
            self.physical_batch >= 1,
            f"train.physical_batch must be at least 1, got {self.physical_batch}",
        )

    def check(self, privacy: ProposedPrivacy | Privacy) -> None:
        """Check that a promise can be kept in this way.

        Raises:
            ConfigError: naming the engine that does it.
        """
        require(
            not (privacy.private and self.gradient_checkpointing and self.engine != "fast"),
            f"train.gradient_checkpointing goes with privacy.engine=fast, not with {self.engine}",
        )
