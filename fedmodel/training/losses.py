"""Losses of examples, each by itself, so that no row enters another's."""

from torch import Tensor

from fedmodel.training.learner import Learner

__all__ = ["example_losses"]


def example_losses(learner: Learner, batch: dict[str, Tensor], targets: Tensor) -> Tensor:
    """Return the loss of every example, float32 ``[B]``: the task's, or what the round asks for.

    Args:
        learner: the network, and the task it is trained for.
        batch: the network's input. It may have rows at its end that only fill it up.
        targets: the other rows' labels as the task encodes them.
    """
    logits = learner.logits(batch)[: len(targets)]
    losses: Tensor = learner.task.losses(logits, targets)
    return losses if learner.asked is None else learner.asked.losses(logits, targets, losses)
