"""Parts of one parameter's gradient, as a batch's backward pass noted them.

A parameter that is used several times (tied weights, a layer that is called twice) has several
parts, and the norm of a unit's gradient is that of their sum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmodel.gradients.fastclip.gram import ROUNDING, Gram, gram, inner, lost
from fedmodel.gradients.fastclip.groups import Groups

__all__ = ["Direct", "Grams", "Looked", "Outer", "Part", "Scratch", "add", "squares"]


@dataclass(frozen=True, slots=True)
class Direct:
    """The gradient of every row itself: float32 ``[B, *shape]``. For what is small."""

    grad: Tensor


@dataclass(frozen=True, slots=True)
class Outer:
    """Σ_t b_t a_tᵀ of every row: ``left`` b ``[B, T, P]``, ``right`` a ``[B, T, D]``."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True, slots=True)
class Looked:
    """Row ``ids[i, t]`` of a table gets ``grad[i, t]``: ``[B, T]`` and ``[B, T, D]``."""

    ids: Tensor
    grad: Tensor


Part = Direct | Outer | Looked


class Grams:
    """Gram matrices by tensor: query, key and value read the same input."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self._kept: dict[tuple[int, tuple[int, ...], tuple[int, ...]], tuple[Tensor, Gram]] = {}

    def of(self, x: Tensor) -> Gram:
        """Return the Gram matrices of every unit's tokens."""
        key = (x.data_ptr(), tuple(x.shape), tuple(x.stride()))
        if key not in self._kept:
            # The tensor is kept too: its memory may not be another's while the key stands for it.
            self._kept[key] = (x, gram(self.groups.join(x.float()).contiguous()))
        return self._kept[key][1]


def squares(parameter: nn.Parameter, parts: list[Part], grams: Grams) -> Tensor:
    """Return the squared norm of every unit's gradient of a parameter, float64 ``[U]``."""
    if any(isinstance(part, Direct) for part in parts):
        total = grams.groups.sum(_direct(parameter, parts))
        return total.flatten(1).double().square().sum(1)
    outer = _joined([part for part in parts if isinstance(part, Outer)])
    looked = _looked([part for part in parts if isinstance(part, Looked)])
    found = torch.zeros(grams.groups.count, dtype=torch.float64, device=parameter.device)
    if outer is not None:
        found = found + inner(grams.of(outer.left), grams.of(outer.right))
    if looked is not None:
        found = found + _table_squares(looked, grams.groups)
    if outer is not None and looked is not None:
        found = found + 2 * _cross(outer, looked, grams.groups)
    return found.clamp_(min=0)


class Scratch:
    """Memory that is used again for every layer: fresh memory costs more than the product in it."""

    def __init__(self) -> None:
        self._kept = torch.empty(0)

    def product(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return ``x * weights``, valid until the next call."""
        if self._kept.numel() < x.numel() or self._kept.device != x.device:
            self._kept = torch.empty(x.numel(), device=x.device)
        return torch.mul(x, weights, out=self._kept[: x.numel()].view(x.shape))


def add(
    parameter: nn.Parameter, part: Part, factors: Tensor, total: Tensor, scratch: Scratch
) -> None:
    """Add ``Σ_i factors[i] · gradient of row i`` to ``total`` of the parameter's shape.

    Args:
        parameter: whose part it is.
        part: as noted.
        factors: float32 ``[B]``.
        total: float32, changed in place.
        scratch: memory to work in.
    """
    if isinstance(part, Direct):
        flat = part.grad.flatten(1)
        total.view(-1).addmv_(flat.t(), factors)
        return
    weights = factors.view(-1, 1, 1)
    if isinstance(part, Looked):
        rows = scratch.product(part.grad, weights).flatten(0, 1)
        total.index_add_(0, part.ids.reshape(-1), rows)
        return
    left, right = part.left.float(), part.right.float()
    if left.shape[2] <= right.shape[2]:
        left = scratch.product(left, weights)
    else:
        right = scratch.product(right, weights)
    matrix = total.view(left.shape[2], right.shape[2])
    matrix.addmm_(left.flatten(0, 1).t(), right.flatten(0, 1))


def _joined(parts: list[Outer]) -> Outer | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return Outer(torch.cat([p.left for p in parts], 1), torch.cat([p.right for p in parts], 1))


def _looked(parts: list[Looked]) -> Looked | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return Looked(torch.cat([p.ids for p in parts], 1), torch.cat([p.grad for p in parts], 1))


def _table_squares(part: Looked, groups: Groups) -> Tensor:
    # A unit's gradient of a table's row is the sum over the unit's tokens that read it.
    rows = int(part.ids.max()) + 1 if part.ids.numel() else 1
    keys = (groups.unit.view(-1, 1) * rows + part.ids).reshape(-1)
    found, place, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    grad = part.grad.float().flatten(0, 1)
    sums = grad.new_zeros(len(found), grad.shape[1]).index_add_(0, place, grad)
    lengths = _lengths(grad)
    sizes = lengths.new_zeros(len(found)).index_add_(0, place, lengths)
    # A sum of n numbers one after another is wrong by at most n - 1 roundings of all of them.
    hidden = (ROUNDING + counts * 2.0**-23) * sizes.square()
    norms: Tensor = _lengths(sums).square() + hidden
    return norms.new_zeros(groups.count).index_add_(0, found // rows, norms)


def _cross(outer: Outer, looked: Looked, groups: Groups) -> Tensor:
    """Return a bound on ⟨Σ_s l_s r_sᵀ, Σ_t e(id_t) g_tᵀ⟩ = Σ_{s,t} l_s[id_t] (r_s·g_t)."""
    left, right = groups.join(outer.left.float()), groups.join(outer.right.float())
    grad, ids = groups.join(looked.grad.float()), groups.join(looked.ids.unsqueeze(2)).squeeze(2)
    products = torch.bmm(right, grad.transpose(1, 2)).double()
    at = left.gather(2, ids.unsqueeze(1).expand(-1, left.shape[1], -1))
    largest = _lengths(right).unsqueeze(2) * _lengths(grad).unsqueeze(1)
    off = ROUNDING * largest + lost(grad, torch.linalg.vecdot(grad, grad)).unsqueeze(1)
    return (products * at + off * at.abs()).flatten(1).sum(1)


def _lengths(x: Tensor) -> Tensor:
    # In float32 the square of 1e-23 is 0.
    found: Tensor = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float64)
    return found


def _direct(parameter: nn.Parameter, parts: list[Part]) -> Tensor:
    """Return the gradient of every row, ``[B, *shape]``, whatever it was noted as."""
    total: Tensor | None = None
    for part in parts:
        if isinstance(part, Direct):
            grad = part.grad.view(-1, *parameter.shape)
        elif isinstance(part, Outer):
            grad = torch.bmm(part.left.float().transpose(1, 2), part.right.float())
            grad = grad.view(-1, *parameter.shape)
        else:
            grad = torch.zeros(len(part.ids), *parameter.shape, device=part.grad.device)
            index = part.ids.unsqueeze(2).expand(-1, -1, grad.shape[2])
            grad.scatter_add_(1, index, part.grad.float())
        total = grad if total is None else total + grad
    if total is None:
        raise ValueError("a parameter without parts has no gradient")
    return total
