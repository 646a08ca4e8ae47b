"""Checks that a privacy promise would really hold for this network."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmodel.errors import PrivacyError
from fedmodel.seeds import Seed
from fedmodel.training.dpsgd import per_example_gradients
from fedmodel.training.examples import Examples
from fedmodel.training.learner import NUDGE, Learner
from fedmodel.training.tasks import example_losses

__all__ = ["preflight"]

# Of a parameter's own largest gradient, and of the largest of all parameters: what rounding may do
# to a parameter whose true gradient is zero (measured: below 1e-6, and below 2e-3 in bf16).
_TOLERANCE = {"float32": (1e-3, 1e-5), "bf16": (5e-2, 1e-2)}


def preflight(learner: Learner, examples: Examples) -> None:
    """Compare per-example gradients with one example at a time, on a few real rows.

    Libraries can get per-example gradients wrong without an error (a shared layer, an input without
    a batch dimension), and then clipping bounds nothing. So before the first private step: three
    rows in a batch against the same rows alone by plain autograd, for every trainable parameter.
    The weights are nudged first, since adapters start at zero and would hide mistakes.

    A job in bf16 is checked in float32 too, where rounding can't hide a mistake.

    Raises:
        PrivacyError: naming the parameter, if any differs by more than 0.1 % (5 % in bf16).
    """
    if learner.preflight_passed or len(examples) == 0:
        return
    _refuse_running_statistics(learner)
    rows = _pick(examples)
    examples.batch(rows)  # runs frozen layers now: that would undo the settings made below
    before, precision = learner.flatten(), learner.precision
    try:
        nudge = Seed(0).child("preflight").numpy().standard_normal(before.size) * NUDGE
        learner.load_vector((before + nudge).astype(np.float32))
        _dropout_off(learner)
        checks: tuple[Literal["float32"], Literal["float32", "bf16"]] = ("float32", precision)
        for learner.precision in dict.fromkeys(checks):
            batched = _batched(learner, examples, rows)
            for i, row in enumerate(rows):
                _compare(learner, batched, i, _alone(learner, examples, row))
    finally:
        learner.precision = precision
        learner.module.zero_grad(set_to_none=True)
        learner.load_vector(before)
    # One row alone can't show that rows mix; then the next site's rows are checked too.
    learner.preflight_passed = len(rows) > 1


def _refuse_running_statistics(learner: Learner) -> None:
    # Also in frozen layers: in training they mix the rows of a batch.
    for name, module in learner.module.named_modules():
        if getattr(module, "track_running_stats", False):
            raise PrivacyError(
                f"'{name}' keeps statistics of the batch ({type(module).__name__}), so one row "
                "changes another's gradient; use a model without batch normalisation"
            )


def _pick(examples: Examples) -> NDArray[np.int64]:
    order = np.argsort(examples.lengths, kind="stable")
    # The shortest, one in the middle and the longest: two lengths wherever there are two.
    return np.unique(order[[0, len(order) // 2, len(order) - 1]])


def _dropout_off(learner: Learner) -> None:
    # Attention draws its dropout in a function, asking its own `training`, so switching off the
    # Dropout modules isn't enough; Opacus's hooks on a layer ask that layer's.
    for module in learner.module.modules():
        module.training = any(p.requires_grad for p in module.parameters(recurse=False))


def _batched(learner: Learner, examples: Examples, rows: NDArray[np.int64]) -> dict[str, Tensor]:
    names = dict(learner.module.named_parameters())
    with per_example_gradients(learner.trained):
        try:
            losses = example_losses(learner, examples.batch(rows), examples.labels(rows))
            torch.autograd.backward(losses.sum())
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise PrivacyError(
                f"per-example gradients fail for this model ({type(error).__name__}); "
                "choose another train.method (head and lora work for most models)"
            ) from error
        found = {
            name: sample.detach().float().clone()
            for name, p in names.items()
            if p.requires_grad and isinstance(sample := getattr(p, "grad_sample", None), Tensor)
        }
    learner.module.zero_grad(set_to_none=True)
    for name, p in names.items():
        if p.requires_grad and (name not in found or found[name].shape[0] != len(rows)):
            raise PrivacyError(
                f"'{name}' has no gradient row for each example, so it can't be clipped per "
                "example; freeze it (another train.method or train.lora.target_modules)"
            )
    return found


def _alone(learner: Learner, examples: Examples, row: int) -> dict[str, Tensor]:
    one = np.array([row])
    losses = example_losses(learner, examples.batch(one), examples.labels(one))
    torch.autograd.backward(losses.sum())
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().float().clone()
        for name, p in learner.module.named_parameters()
        if p.requires_grad
    }
    learner.module.zero_grad(set_to_none=True)
    return grads


def _compare(
    learner: Learner, batched: dict[str, Tensor], i: int, alone: dict[str, Tensor]
) -> None:
    relative, absolute = _TOLERANCE[learner.precision]
    scale = max(float(g.abs().max()) for g in alone.values()) or 1.0
    for name, expected in alone.items():
        error = float((batched[name][i] - expected).abs().max())
        if not error <= relative * float(expected.abs().max()) + absolute * scale:
            raise PrivacyError(
                f"the per-example gradient of '{name}' is wrong for this model (relative error "
                f"above {relative:g} against one example at a time), so clipping would not bound a "
                "row; freeze it (another train.method or train.lora.target_modules)"
            )
