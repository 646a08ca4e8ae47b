"""Norms of sums of outer products, from Gram matrices ("ghost norms", arXiv 2009.03106).

The gradient of a linear layer's weight for one unit is G = Σ_t b_t a_tᵀ over its T tokens, with
the layer's inputs a_t and output gradients b_t. Its norm needs no G:
‖G‖² = Σ_{t,s} (a_t·a_s)(b_t·b_s). Both Gram matrices are symmetric, so blocks above the diagonal
count twice and those below are never computed: 3/4 of the work at one split, 5/8 in the limit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["ROUNDING", "Gram", "gram", "inner", "lost"]

_SPLIT_ABOVE = 32  # smaller blocks cost more in calls than they save
_MAX_SPLITS = 2

ROUNDING = 64 * 2.0**-24
"""Rounding of a float32 inner product, as a share of ‖x‖‖y‖; norms are made larger by it.

Random numbers reach a tenth of it. The worst are sums of equal numbers, which all round the same
way: 50 units in the last place for any length, since matrix products add up in blocks.
"""

_TINY = 2.0**-126  # a float32 number below it may be taken for 0, and so may a product
_LEAST = 2.0**-53  # in traces and norms for each token: see ``inner``


def lost(x: Tensor, squares: Tensor) -> Tensor:
    """Return a bound on what underflow hides of an inner product with these vectors.

    Without it a gradient of 1e-23 in every coordinate has a norm of 0, and a job with a tiny clip
    norm would add it up as it is. Of what is exactly 0 nothing is hidden.

    Args:
        x: float32 ``[…, D]``.
        squares: of their lengths, as computed, ``[…]``.

    Returns:
        float64 ``[…]``: 2·D·2**-126, or 0.
    """
    return _some(x, squares).double() * (2 * x.shape[-1] * _TINY)


def _some(x: Tensor, squares: Tensor) -> Tensor:
    """Return where not all is 0."""
    some = squares > 0
    return some if bool(some.all()) else x.abs().flatten(squares.dim()).sum(-1) > 0


@dataclass(frozen=True, slots=True)
class Gram:
    """What ``x xᵀ`` holds on and above its diagonal, for every unit.

    Args:
        blocks: how often each counts, and its entries ``[U, …]``.
        trace: at least Σ_t ‖x_t‖² but for rounding, float64 ``[U]``: underflow hides nothing of it.
        norm: at least the Frobenius norm of ``x xᵀ``, likewise.
    """

    blocks: list[tuple[float, Tensor]]
    trace: Tensor
    norm: Tensor


def gram(x: Tensor) -> Gram:
    """Return the Gram matrices of every unit's tokens.

    Args:
        x: float32 ``[U, T, D]``, contiguous.
    """
    if x.shape[1] == 1:  # float64 costs little here, and nothing underflows in it
        wide = x[:, 0].double()
        trace = torch.linalg.vecdot(wide, wide)
        return Gram([(1.0, trace.unsqueeze(1))], trace, trace)
    blocks, trace = _blocks(x)
    square = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for weight, entries in blocks:
        square += weight * _dot(entries, entries)
    least = _some(x, trace).double() * (x.shape[1] * _LEAST)
    return Gram(blocks, trace + least, square.sqrt() + least)


def inner(first: Gram, second: Gram) -> Tensor:
    """Return a bound on ``‖Σ_t b_t a_tᵀ‖²`` of every unit, float64 ``[U]``, tight to rounding.

    An entry of A is wrong by at most ROUNDING·‖a_t‖‖a_s‖, which moves the result by at most
    ROUNDING·Σ_{t,s}‖a_t‖‖a_s‖|B_{t,s}| ≤ ROUNDING·tr(A)‖B‖, and an entry of B likewise.

    With u = 2**-126, underflow hides up to 2Du of an entry of A, which moves the result by at most
    2Du·Σ_{t,s}|B_{t,s}| ≤ 2DuT‖B‖, and up to 2T²u of the sum over t and s. As traces and norms
    have T·2**-53 in them, ROUNDING allows for both: T·2**-71·‖B‖ and T²·2**-123 (and D < 2**50).
    """
    total = ROUNDING * (first.trace * second.norm + second.trace * first.norm)
    for (weight, a), (_, b) in zip(first.blocks, second.blocks, strict=True):
        total += weight * _dot(a, b)
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # Unlike a matrix product, this adds in pairs: its rounding hardly grows with the length.
    product: Tensor = torch.linalg.vecdot(a, b)
    return product.double()


def _blocks(x: Tensor) -> tuple[list[tuple[float, Tensor]], Tensor]:
    """Return the blocks and Σ_t ‖x_t‖², float64 ``[U]``."""
    units, tokens, width = x.shape
    found: list[tuple[float, Tensor]] = []
    trace = torch.zeros(units, dtype=torch.float64, device=x.device)
    pieces = 1
    if tokens % 2 and tokens > _SPLIT_ABOVE:
        # The last token against all before it, and against itself.
        last = x[:, -1:]
        itself = torch.linalg.vecdot(last, last)
        found.append((2.0, torch.bmm(last, x[:, :-1].transpose(1, 2)).flatten(1)))
        found.append((1.0, itself))
        trace += itself[:, 0]
        x = x[:, :-1].contiguous()
        tokens -= 1
    for _ in range(_MAX_SPLITS):
        size = tokens // pieces
        if size % 2 or size <= _SPLIT_ABOVE:
            break
        halves = x.view(units * pieces, 2, size // 2, width)
        cross = torch.bmm(halves[:, 0], halves[:, 1].transpose(1, 2))
        found.append((2.0, cross.view(units, -1)))
        pieces *= 2
    y = x.view(units * pieces, tokens // pieces, width)
    square = torch.bmm(y, y.transpose(1, 2))
    found.append((1.0, square.view(units, -1)))
    trace += square.diagonal(dim1=1, dim2=2).reshape(units, tokens).double().sum(1)
    return found, trace
