"""Checks that stay on in every private run: that the promise holds for this network and step.

The thorough one, before the first step, is :mod:`fedmodel.training.preflight`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fedmodel.errors import PrivacyError
from fedmodel.training.learner import Learner

__all__ = ["check_count", "check_parameters", "only_trained_move"]


def check_count(accumulated: int, sampled: int) -> None:
    """Refuse a step in which not exactly the sampled units were added up.

    Raises:
        PrivacyError: without the numbers, which are secret.
    """
    if accumulated != sampled:
        raise PrivacyError(
            "a step added up another number of units than were sampled; nothing of it is released. "
            "Please report it"
        )


def check_parameters(learner: Learner, optimizer: Any) -> None:
    """Refuse an optimiser that doesn't hold exactly the trainable parameters, on one device.

    Adapters that were added after the model was placed, or after the optimiser was made, would
    train without noise or not at all.

    Raises:
        PrivacyError: saying which of it is the case.
    """
    trainable = {
        id(p): (name, p) for name, p in learner.module.named_parameters() if p.requires_grad
    }
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if len(held) != len(set(held)) or set(held) != set(trainable):
        raise PrivacyError(
            f"expected the optimiser to hold each of the {len(trainable)} trainable parameters "
            f"once, it holds {len(held)}; make it after the adapters"
        )
    for name, p in trainable.values():
        if p.device.type != learner.device.type:
            raise PrivacyError(
                f"'{name}' is on {p.device}, the model on {learner.device}; add adapters before "
                "the model is placed"
            )


@contextmanager
def only_trained_move(learner: Learner) -> Iterator[None]:
    """Check that inside this context every trained parameter changes, and nothing else does.

    A frozen tensor's version counts the changes made to it (not those through ``.data``), so that
    nothing is copied. A trained one takes noise in every coordinate, so one that stayed as it was
    took no step. Nor may a module have another tensor now than before.

    Raises:
        PrivacyError: naming the tensor.
    """
    frozen = {n: (t, t._version) for n, t in _tensors(learner) if not t.requires_grad}
    trained = {n: (t, t._version) for n, t in _tensors(learner) if t.requires_grad}
    yield
    now = dict(_tensors(learner))
    for name, (tensor, version) in frozen.items():
        if tensor._version != version or not _same(now.get(name), tensor):
            raise PrivacyError(
                f"'{name}' isn't trained, but changed in a private step; nothing of it is "
                "accounted for. Use a model without running statistics"
            )
    for name, (tensor, version) in trained.items():
        if tensor._version == version or now.get(name) is not tensor:
            raise PrivacyError(f"'{name}' is to be trained, but no step changed it")


def _tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    yield from learner.module.named_parameters()
    yield from learner.module.named_buffers()


def _same(one: Tensor | None, other: Tensor) -> bool:
    return one is other or (one is not None and torch.equal(one, other))
