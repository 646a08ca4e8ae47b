"""The coordinator's steps on a head that starts from means.

In each round it gets the mean of what the sites gave, as in any other job. By the round's stage
(:meth:`fedmodel.job.Train.stage`) it is a mean, class sums, or a step's gradient; all of what is
done with it here is post-processing.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.accounting.plan import Plan
from fedmodel.errors import RunFolderError
from fedmodel.heads.frame import BIAS, Frame, HeadShape
from fedmodel.heads.means import Centre, Sums, centred, head_of
from fedmodel.job import Job
from fedmodel.training.staged import opening_scale
from fedmodel.update import Vector

__all__ = ["HeadOptimizer"]

# What all steps' noise together may do to a row's logits: standard deviation, at a vector of
# length 1. From there on smaller steps do better than noisier ones.
_MOST_NOISE = 0.33
_STATE = ("error", "spread", "rows")


@dataclass(frozen=True, slots=True)
class _Known:
    """What rounds have released, beside the head: all of it is in a checkpoint."""

    error: float = 0.0
    spread: float = 1.0
    rows: float = 0.0  # units that a site has in a sum, in the mean; 0: nobody has counted


class HeadOptimizer:
    """Makes a head of means, and goes on from there.

    Args:
        job: that starts from means.
        plan: of the job; ``None`` without privacy.
        names: embeddings of the classes' names, float64 ``[K, width]``; ``None``: not known.
    """

    def __init__(self, job: Job, plan: Plan | None, names: NDArray[np.float64] | None) -> None:
        self._job, self._plan, self._names = job, plan, names
        self._known = _Known()

    def step(
        self, round_: int, vector: NDArray[np.float32], mean: NDArray[np.float32], sites: int
    ) -> Vector:
        """Return the new head from the old one and what a round brought in.

        Args:
            round_: of the run.
            vector: the head that sites were sent, float32.
            mean: the mean of what they gave: changes in the round's frame, at a rate of 1.
            sites: how many gave something.
        """
        stage = self._job.train.stage(round_)
        shape = HeadShape.of(vector.size, len(self._job.model.labels))
        frame = Frame.of(shape, vector)
        if stage == "steps":
            rows, biases = frame.framed(shape, vector)
            more, biased = self._gradient_step(shape, round_, mean, sites)
            return frame.plain(shape, rows + more, biases + biased)
        opening = opening_scale(self._job.privacy)
        told = mean.astype(np.float64) * (self._units(sites) / opening)
        sums = Sums.of(shape, told, self._noise(round_, sites) / opening)
        if stage == "mean":
            centre = centred(sums)
            zeros = np.zeros((shape.classes, shape.width))
            made = centre.frame.plain(shape, zeros, np.zeros(shape.classes))
        else:
            known = self._known
            before = Centre(frame=frame, error=known.error, spread=known.spread)
            centre, rows, biases = head_of(sums, before if vector.any() else None, self._names)
            made = centre.frame.plain(shape, rows, biases)
        counted = max(float(sums.counts.sum()) / sites, 1.0)
        self._known = _Known(centre.error, centre.spread, counted)
        return made

    def _units(self, sites: int) -> float:
        """Return what a mean over sites is to be multiplied by to be a sum over units."""
        return 1.0 if self._plan is None else float(self._plan.expected_batch * sites)

    def _noise(self, round_: int, sites: int) -> float:
        """Return the standard deviation of the noise on each coordinate of a sum over sites."""
        if self._plan is None:
            return 0.0
        return self._plan.share_std(round_) * math.sqrt(sites)

    def _gradient_step(
        self, shape: HeadShape, round_: int, mean: NDArray[np.float32], sites: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return by what a step changes rows and biases; that of plain sites is taken already."""
        rows, biases = shape.parts(mean)
        if self._plan is None:
            return rows, biases
        down = self._units(sites) / self._counted(sites) * self.rate(round_, sites)
        # Biases stay what the counts have made them: on their few numbers noise weighs more, and
        # what moves them is how common classes are, at the cost of the rare ones.
        return down * BIAS * rows, np.zeros(shape.classes)

    def _counted(self, sites: int) -> float:
        """Return how many units are in a sum over sites: as counted, or as expected."""
        return self._known.rows * sites or self._units(sites)

    def rate(self, round_: int, sites: int) -> float:
        """Return the learning rate of a step, over the gradient of the mean loss of all units.

        ``train.head_lr``, or less where the noise of all steps would then move logits by more than
        is good for them (:data:`_MOST_NOISE`).
        """
        noise = self._noise(round_, sites) / self._counted(sites)
        steps = max(self._job.train.rounds - 2, 1)
        most = _MOST_NOISE / (noise * math.sqrt(steps)) if noise > 0 else math.inf
        return min(self._job.train.head_lr, most)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what rounds have released beside the head, as named arrays."""
        return {name: np.array([getattr(self._known, name)]) for name in _STATE}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Set what :meth:`state` gave.

        Raises:
            RunFolderError: when it isn't that.
        """
        try:
            values = {name: float(state[name][0]) for name in _STATE}
            if not all(math.isfinite(value) and value >= 0 for value in values.values()):
                raise ValueError("not a finite number")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"the checkpoint doesn't hold what a head's means have left ({error}); the run "
                "folder was changed"
            ) from error
        self._known = _Known(**values)
