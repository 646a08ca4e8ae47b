"""Sums of a head's opening that sites have noised each by itself: weighted by what is in them."""

import numpy as np

from fedmodel.accounting.planning import plan_of
from fedmodel.heads.frame import HeadShape
from fedmodel.heads.means import weighed
from fedmodel.job import Job
from fedmodel.training.staged import opening_scale
from fedmodel.update import Update, Vector

__all__ = ["Weighed", "weighs"]


def weighs(job: Job, round_: int) -> bool:
    """Return whether a round's updates are sums to be weighted, by noised counts of their own."""
    opening = job.train.stage(round_) != "steps"
    return opening and job.privacy.private and not job.privacy.shared


class Weighed:
    """What stands for updates that are sums with noise of their own.

    Args:
        job: of a head that starts from means, its sites keeping their own promise.
    """

    def __init__(self, job: Job) -> None:
        self._unit = np.float32(plan_of(job).expected_batch / opening_scale(job.privacy))
        self._classes = len(job.model.labels)
        self._kept: list[Vector] = []

    def add(self, update: Update) -> None:
        """Add an update; a head's are small, so all are kept."""
        self._kept.append(update.mean().vector)

    def result(self) -> Update:
        """Return what stands for the one or more updates that were added."""
        shape = HeadShape.of(self._kept[0].size, self._classes)
        found = weighed(shape, [vector * self._unit for vector in self._kept])
        return Update.of(found / self._unit)
