"""The sites' noised counts → figures that may be published, with their uncertainty."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmodel import tasks
from fedmodel.job import Job
from fedmodel.mechanisms.counts import Counts, noise_std

__all__ = ["Published", "publish"]

# Of the number of rows over its noise. Below, a quotient of the two says more about the noise.
_CLEAR = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the last model does on rows held out at the sites, released under DP.

    Args:
        accuracy: share of right answers, in [0, 1]; ``None`` where the noise swamps it: the noised
            number of rows is below three standard deviations of its noise.
        standard_error: of the accuracy, from the noise alone; the sample's own is not in it.
        rows: noised number of rows, at least 0.
        noise_std: standard deviation of the noise on each of the summed counts.
        sites: how many gave counts.
        failures: node id → why it gave none.
        scores: what else the task makes of the counts, by name.
    """

    accuracy: float | None
    standard_error: float | None
    rows: int
    noise_std: float
    sites: int
    failures: dict[int, str] = field(default_factory=dict)
    scores: dict[str, tasks.Estimate] = field(default_factory=dict)

    @classmethod
    def restored(cls, mapping: Mapping[str, Any]) -> "Published":
        """Return what a checkpoint holds of one, as plain data."""
        failures = {int(node): str(why) for node, why in mapping["failures"].items()}
        scores = {n: tasks.Estimate(**e) for n, e in mapping.get("scores", {}).items()}
        return cls(**{**mapping, "failures": failures, "scores": scores})


def publish(
    counts: Sequence[Counts], job: Job, failures: Mapping[int, str] | None = None
) -> Published:
    """Combine what the sites told. All of it is post-processing: it costs no privacy.

    Args:
        counts: of each site that answered.
        job: says what was counted, and how large the noise is.
        failures: node id → why it gave none.
    """
    task, labels = tasks.of(job.model.task), job.model.labels
    counted = task.counted(labels)
    total = [sum(c.values[k] for c in counts) for k in range(len(counted.names))]
    correct, wrong = total[:2]
    rows, std = correct + wrong, noise_std(job.privacy, counted) * math.sqrt(len(counts))
    accuracy = error = None
    if counts and rows >= _CLEAR * math.sqrt(2) * std:
        accuracy = min(1.0, max(0.0, correct / rows))
        # To first order: the quotient changes by (1 - a)/rows with one count, -a/rows with the
        # other.
        error = std * math.hypot(accuracy, 1 - accuracy) / rows
    return Published(
        accuracy=accuracy,
        standard_error=error,
        rows=max(0, rows),
        noise_std=std,
        sites=len(counts),
        failures=dict(failures or {}),
        scores=dict(task.scores(total, std, labels)) if counts else {},
    )
