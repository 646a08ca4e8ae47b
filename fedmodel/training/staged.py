"""Stages of a head that starts from means: what a round asks of a site, as a loss of the head.

What is summed in a stage is a gradient like any other: each unit's is clipped, the sum is noised,
in shares or at the site, and charged. Only the loss differs, and with it what the sum is:

    mean          −z₀              the vectors themselves, and how many there are
    class-sums    −z_y             each class's vectors around the mean, and how many it has
    steps         cross-entropy    a step from the head so far

where z are the head's logits of a vector in the round's frame (:mod:`fedmodel.heads`).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fedmodel.errors import ProtocolError
from fedmodel.heads.frame import BIAS, Frame, HeadShape
from fedmodel.job import Job, Privacy, Stage, Train
from fedmodel.training.learner import Learner
from fedmodel.update import Vector

__all__ = ["Asked", "check_head", "opening_scale", "site_train", "staged"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a round asks of the head.

    Args:
        stage: which loss.
        centre: of the frame, float32 ``[width]``.
        factor: by which vectors around it are multiplied.
        scale: by which the loss is.
    """

    stage: Stage
    centre: Tensor
    factor: float
    scale: float

    def features(self, features: Tensor) -> Tensor:
        """Return vectors as the round's head reads them, ``[B, width]``."""
        return (features - self.centre) * self.factor

    def losses(self, logits: Tensor, targets: Tensor, entropies: Tensor) -> Tensor:
        """Return each row's loss, ``[B]``.

        Args:
            logits: ``[B, K]``.
            targets: int64 ``[B]``.
            entropies: the cross-entropies, ``[B]``.
        """
        if self.stage == "steps":
            return entropies * self.scale
        if self.stage == "mean":
            return logits[:, 0] * -self.scale
        return logits.gather(1, targets[:, None])[:, 0] * -self.scale

    def told(self, loss: float) -> float | None:
        """Return the mean cross-entropy that a mean of :meth:`losses` stands for, if it does."""
        return loss / self.scale if self.stage == "steps" else None


def opening_scale(privacy: Privacy) -> float:
    """Return the L2 norm of what a row of length 1 gives to a sum of the opening, over 1.

    So that clipping leaves it as it is, and it fills what is clipped to.
    """
    return privacy.clip / math.hypot(1.0, BIAS) if privacy.private else 1.0


def site_train(job: Job, round_: int) -> Train:
    """Return how a site trains in a round: where the coordinator steps, by a rate of 1.

    Without privacy sites take their own steps after the opening, at a rate that falls to 0 in equal
    parts: at one that stays, the head swings from round to round.
    """
    train = job.train
    if train.start == "zero":
        return train
    if train.stage(round_) == "steps" and not job.privacy.private:
        left = (train.rounds - round_ + 1) / (train.rounds - 2)
        return replace(train, head_lr=train.head_lr * left)
    return replace(train, head_lr=1.0)


def check_head(job: Job, vector: Vector) -> tuple[Frame, Vector]:
    """Return the frame of a head that a round starts from, and the head as it stands in that.

    Args:
        job: that starts from means.
        vector: the round's parameters, float32 ``[trainable]``.

    Raises:
        ProtocolError: when they aren't a head with a frame.
    """
    shape = HeadShape.of(vector.size, len(job.model.labels))
    frame = Frame.of(shape, vector)
    with np.errstate(over="ignore", invalid="ignore"):
        own = shape.vector(*frame.framed(shape, vector))
    if not np.isfinite(own).all():
        raise ProtocolError("the head's numbers are too large for its frame; its sender made them")
    return frame, own


@contextmanager
def staged(learner: Learner, job: Job, round_: int, vector: Vector) -> Iterator[Vector]:
    """Set a round's parameters, and what it asks for, for as long as this context lasts.

    Args:
        learner: the network.
        job: what was agreed.
        round_: of the run.
        vector: the round's parameters, float32 ``[trainable]``.

    Yields:
        The parameters that are set: those of the round's frame, where the job has any.

    Raises:
        ProtocolError: when they aren't a head with a frame, and the round needs one.
    """
    if job.train.start == "zero":
        learner.load_vector(vector)
        yield vector
        return
    stage, (frame, own) = job.train.stage(round_), check_head(job, vector)
    if learner.asked is not None:
        raise ProtocolError("another round of this network is under way")
    learner.load_vector(own)
    centre = torch.from_numpy(frame.centre.astype("float32")).to(learner.device)
    opening = 1.0 if stage == "steps" else opening_scale(job.privacy)
    learner.asked = Asked(stage, centre, frame.scale / BIAS, BIAS * opening)
    try:
        yield own
    finally:
        learner.asked = None
