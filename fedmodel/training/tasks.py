"""Tasks in training: their loss, per example, so that no row enters another's."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy

from fedmodel.training.learner import Learner

__all__ = ["TASK_LOSSES", "example_losses"]


def _classification(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels, reduction="none")


# Names a job may ask for → loss of every example, float32 [B].
TASK_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sequence-classification": _classification,
}


def example_losses(learner: Learner, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Return the loss of every example, float32 ``[B]``."""
    return TASK_LOSSES[learner.task](learner.logits(batch), labels)
