"""Checks that stay on in every private run: that the promise holds for this network and step.

The thorough one, before the first step, is :mod:`fedmodel.training.preflight`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.training.learner import Learner

__all__ = ["check_count", "check_held", "check_parameters", "nothing_moves", "only_trained_move"]

_Versions = dict[str, tuple[Tensor, int]]


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
    held = [p for group in optimizer.param_groups for p in group["params"]]
    check_held(learner, held, "optimiser")


def check_held(learner: Learner, held: Sequence[nn.Parameter], holder: str) -> None:
    """Refuse other parameters than the trainable ones, each once, on the learner's device.

    Args:
        learner: whose parameters are meant.
        held: what the optimiser or the engine works on.
        holder: which of them, for the message.

    Raises:
        PrivacyError: saying which of it is the case.
    """
    trainable = {
        id(p): (name, p) for name, p in learner.module.named_parameters() if p.requires_grad
    }
    ids = [id(p) for p in held]
    if len(ids) != len(set(ids)) or set(ids) != set(trainable):
        raise PrivacyError(
            f"expected the {holder} to hold each of the {len(trainable)} trainable parameters "
            f"once, it holds {len(ids)}; make it after the adapters"
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
    frozen, trained = _versions(learner)
    yield
    _check_still(
        learner,
        frozen,
        "isn't trained, but changed in a private step; nothing of it is accounted for. Use a model "
        "without running statistics",
    )
    now = dict(_tensors(learner))
    for name, (tensor, version) in trained.items():
        if tensor._version == version or now.get(name) is not tensor:
            raise PrivacyError(f"'{name}' is to be trained, but no step changed it")


@contextmanager
def nothing_moves(learner: Learner) -> Iterator[None]:
    """Check that inside this context no tensor of the network changes, trained or frozen.

    For a site that sums gradients and leaves the step to others: a tensor that changed would carry
    what no noise hides into the next sum. Changes through ``.data`` aren't seen, as in
    :func:`only_trained_move`.

    Raises:
        PrivacyError: naming the tensor.
    """
    frozen, trained = _versions(learner)
    yield
    _check_still(
        learner,
        frozen | trained,
        "changed while gradients were summed, which takes no step; nothing of it is released. Use "
        "a model without running statistics",
    )


def _versions(learner: Learner) -> tuple[_Versions, _Versions]:
    """Return the frozen tensors and the trained ones, by name, with the changes made so far."""
    known = {n: (t, t._version) for n, t in _tensors(learner)}
    trained = {n: noted for n, noted in known.items() if noted[0].requires_grad}
    return {n: noted for n, noted in known.items() if n not in trained}, trained


def _check_still(learner: Learner, before: _Versions, problem: str) -> None:
    now = dict(_tensors(learner))
    for name, (tensor, version) in before.items():
        if tensor._version != version or not _same(now.get(name), tensor):
            raise PrivacyError(f"'{name}' {problem}")


def _tensors(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    yield from learner.module.named_parameters()
    yield from learner.module.named_buffers()


def _same(one: Tensor | None, other: Tensor) -> bool:
    if one is other:
        return True
    # What is summed for a trained tensor would be looked for at another one.
    return one is not None and not other.requires_grad and torch.equal(one, other)
