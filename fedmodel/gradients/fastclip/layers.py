"""Layers that can be clipped in one pass, and how each is made to take notes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip import functions
from fedmodel.gradients.fastclip.notes import Notes
from fedmodel.gradients.fastclip.parts import Direct, Looked, Outer

__all__ = ["forward_of"]

Forward = Callable[..., Any]


def forward_of(module: nn.Module, name: str, notes: Notes) -> Forward:
    """Return the forward pass that replaces a module's own while its units are clipped.

    Args:
        module: with trainable parameters of its own.
        name: for errors.
        notes: that it takes.

    Raises:
        PrivacyError: naming a layer that can't be clipped per unit.
    """
    for kind, maker in _MAKERS:
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return maker(module, name, notes)
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # GPT-2's, weight transposed
        return _conv1d(module, name, notes)
    return _expanded(module, name, notes)


def _trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in module.named_parameters(recurse=False) if p.requires_grad}


def _cast(x: Tensor) -> Tensor:
    """Return what autocast would feed a matrix product with."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.is_floating_point():
        return x.to(torch.get_autocast_dtype(kind))
    return x


def _small(left: Tensor, right: Tensor) -> bool:
    """Whether every row's gradient takes less than what it is computed from (LoRA)."""
    size = left.shape[2] * right.shape[2]
    return 2 * size <= left.shape[1] * (left.shape[2] + right.shape[2])


def _note_outer(notes: Notes, weight: nn.Parameter, left: Tensor, right: Tensor) -> None:
    if left.shape[1] > 1 and _small(left, right):
        grad = torch.bmm(left.float().transpose(1, 2), right.float())
        notes.note(weight, Direct(grad))
    else:
        notes.note(weight, Outer(left, right))


def _note_affine(notes: Notes, name: str, module: nn.Module, transposed: bool) -> functions.Note:
    weight: Any = module.weight
    bias: Any = module.bias

    def note(x: Tensor, gy: Tensor) -> None:
        a, b = notes.by_row(x, name), notes.by_row(gy, name)
        if weight.requires_grad:
            _note_outer(notes, weight, *((a, b) if transposed else (b, a)))
        if bias is not None and bias.requires_grad:
            notes.note(bias, Direct(b.float().sum(1)))

    return note


def _linear(module: Any, name: str, notes: Notes) -> Forward:
    note = _note_affine(notes, name, module, transposed=False)

    def forward(input: Tensor) -> Tensor:
        x = _cast(input)
        bias = None if module.bias is None else module.bias.detach().to(x.dtype)
        weight = module.weight.detach().to(x.dtype)
        return functions.affine(x, notes.anchor, weight, bias, note)

    return forward


def _conv1d(module: Any, name: str, notes: Notes) -> Forward:
    note = _note_affine(notes, name, module, transposed=True)

    def forward(x: Tensor) -> Tensor:
        x = _cast(x)
        weight = module.weight.detach().to(x.dtype).t()
        bias = module.bias.detach().to(x.dtype)
        return functions.affine(x, notes.anchor, weight, bias, note)

    return forward


def _conv2d(module: Any, name: str, notes: Notes) -> Forward:
    if module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise _unsupported(name, module)
    note = _note_affine(notes, name, module, transposed=False)

    def forward(input: Tensor) -> Tensor:
        # A convolution is a linear layer on patches: [B, N, channels · height · width].
        x = _cast(input)
        patches = functional.unfold(
            x, module.kernel_size, module.dilation, module.padding, module.stride
        ).transpose(1, 2)
        bias = None if module.bias is None else module.bias.detach().to(x.dtype)
        weight = module.weight.detach().to(x.dtype).flatten(1)
        out = functions.affine(patches, notes.anchor, weight, bias, note)
        sizes = zip(
            x.shape[2:],
            module.kernel_size,
            module.dilation,
            module.padding,
            module.stride,
            strict=True,
        )
        shape = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in sizes]
        return out.transpose(1, 2).reshape(len(x), -1, *shape)

    return forward


def _layer_norm(module: Any, name: str, notes: Notes) -> Forward:
    weight, bias = module.weight, module.bias

    def note(normal: Tensor, gy: Tensor) -> None:
        b = notes.by_row(gy, name).float()
        if weight is not None and weight.requires_grad:
            a = notes.by_row(normal, name)
            notes.note(weight, Direct(a.mul(b).sum(1)))
        if bias is not None and bias.requires_grad:
            notes.note(bias, Direct(b.sum(1)))

    if len(module.normalized_shape) != 1:
        raise _unsupported(name, module)

    def forward(input: Tensor) -> Tensor:
        x = input.float() if torch.is_autocast_enabled(input.device.type) else input
        w, b = (None if p is None else p.detach() for p in (weight, bias))
        shape = list(module.normalized_shape)
        return functions.layer_norm(x, notes.anchor, shape, w, b, module.eps, note)

    return forward


def _rms_norm(module: Any, name: str, notes: Notes) -> Forward:
    def forward(x: Tensor) -> Tensor:
        notes.check_rows(x, name)
        normal = functional.rms_norm(x, module.normalized_shape, None, module.eps)
        return normal * notes.expanded(module.weight, x.dim(), name)

    return forward


def _embedding(module: Any, name: str, notes: Notes) -> Forward:
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        raise _unsupported(name, module)

    def note(ids: Tensor, gy: Tensor) -> None:
        rows, grad = notes.by_row(ids.unsqueeze(-1), name).squeeze(2), notes.by_row(gy, name)
        if module.padding_idx is not None:
            # As in the layer's own backward pass: its padding row has no gradient.
            grad = grad.masked_fill((rows == module.padding_idx).unsqueeze(2), 0.0)
        notes.note(module.weight, Looked(rows, grad))

    def forward(input: Tensor) -> Tensor:
        return functions.lookup(notes.anchor, input, module.weight.detach(), note)

    return forward


def _expanded(module: nn.Module, name: str, notes: Notes) -> Forward:
    """Give every row its own copy of parameters that a module broadcasts (RMSNorm, class tokens).

    Autograd then makes the rows' gradients. That a module of an unknown class really broadcasts
    is checked, as everything is, by the preflight.
    """
    own = module.forward
    names, leaf = list(_trainable(module)), not any(True for _ in module.children())
    for parameter in _trainable(module).values():
        if parameter.dim() > 1 and parameter.shape[0] != 1:
            raise _unsupported(name, module)

    def forward(*args: Any, **kwargs: Any) -> Any:
        tensors = [t for t in (*args, *kwargs.values()) if isinstance(t, Tensor)]
        dims = tensors[0].dim() if tensors else 2
        if leaf and tensors:
            notes.check_rows(tensors[0], name)
        table: dict[str, Any] = module._parameters
        kept = {n: table[n] for n in names}
        try:
            for n, p in kept.items():
                table[n] = notes.expanded(p, dims, name)
            return own(*args, **kwargs)
        except RuntimeError as error:
            if not leaf or isinstance(error, torch.OutOfMemoryError):
                raise
            raise _unsupported(name, module) from error  # it does more than broadcast
        finally:
            table.update(kept)

    return forward


def _unsupported(name: str, module: nn.Module) -> PrivacyError:
    return PrivacyError(
        f"'{name}' ({type(module).__name__}) can't be clipped per unit in one pass; freeze it "
        "(another train.method, train.frozen or train.lora.target_modules), or try "
        "privacy.engine=hooks"
    )


_MAKERS: tuple[tuple[Any, Callable[[Any, str, Notes], Forward]], ...] = (
    (nn.Linear, _linear),
    (nn.Embedding, _embedding),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _rms_norm),
    (nn.Conv2d, _conv2d),
)
