"""Layers whose backward pass notes what their weights' gradients are made of.

Each computes what the layer computes and passes the input's gradient on. The weights are used
detached, so autograd makes no gradient of theirs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

__all__ = ["Note", "affine", "layer_norm", "lookup"]

Note = Callable[[Tensor, Tensor], None]


class _Affine(Function):
    """``x @ weightᵀ + bias``; notes the input and the output's gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, weight: Tensor, bias: Tensor | None, note: Note
    ) -> Tensor:
        """Compute the layer; ``anchor`` needs a gradient, so that backward is called at all."""
        ctx.save_for_backward(x, weight)
        ctx.note = note
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Note ``(x, gy)`` and return the input's gradient."""
        x, weight = ctx.saved_tensors
        ctx.note(x, grads[0])
        gx = grads[0].matmul(weight) if ctx.needs_input_grad[0] else None
        return gx, None, None, None, None


class _LayerNorm(Function):
    """Layer normalisation; notes the normalised input and the output's gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        anchor: Tensor,
        shape: list[int],
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        note: Note,
    ) -> Tensor:
        """Compute the layer; see :class:`_Affine`."""
        y, mean, rstd = torch.native_layer_norm(x, shape, weight, bias, eps)
        ctx.save_for_backward(x, mean, rstd, *(t for t in (weight, bias) if t is not None))
        ctx.has = (weight is not None, bias is not None)
        ctx.shape, ctx.note = shape, note
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Note ``(normalised x, gy)`` and return the input's gradient."""
        gy = grads[0].contiguous()
        x, mean, rstd, *rest = ctx.saved_tensors
        weight = rest.pop(0) if ctx.has[0] else None
        bias = rest.pop(0) if ctx.has[1] else None
        gx = None
        if ctx.needs_input_grad[0]:
            only_x = [True, False, False]
            gx = torch.ops.aten.native_layer_norm_backward(
                gy, x, ctx.shape, mean, rstd, weight, bias, only_x
            )[0]
        ctx.note((x - mean).mul_(rstd), gy)
        return gx, None, None, None, None, None, None


class _Lookup(Function):
    """Rows of a table; notes the output's gradient (the caller knows the row numbers)."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, ids: Tensor, weight: Tensor, note: Note) -> Tensor:
        """Look the rows up; see :class:`_Affine`."""
        ctx.save_for_backward(ids)
        ctx.note = note
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Note ``(ids, gy)``."""
        ctx.note(ctx.saved_tensors[0], grads[0])
        return None, None, None, None


# Function.apply is untyped; these are what it takes and gives.
affine: Callable[[Tensor, Tensor, Tensor, Tensor | None, Note], Tensor] = _Affine.apply
layer_norm: Callable[
    [Tensor, Tensor, list[int], Tensor | None, Tensor | None, float, Note], Tensor
] = _LayerNorm.apply
lookup: Callable[[Tensor, Tensor, Tensor, Note], Tensor] = _Lookup.apply
