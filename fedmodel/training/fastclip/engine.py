"""The engine: attached to a module for a while, it clips and sums in one backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.training.fastclip import layers
from fedmodel.training.fastclip.groups import Groups
from fedmodel.training.fastclip.parts import Direct, Grams, Part, Scratch, add, squares

__all__ = ["Factors", "FastClip", "wide"]

_WIDE_UP_TO = 5_000_000  # parameters whose sum in float64 is little beside the activations


def wide(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    """Return the type that clipped gradients are summed in over a step's batches.

    One unit more changes how all sums after it round. In float64 that is nothing. A large model's
    sum stays float32, for its memory: measured with every gradient alike, the worst there is, the
    sum then moves by up to 1.5e-4 of C beyond C with 4,096 units in a step.
    """
    return torch.float64 if sum(p.numel() for p in parameters) <= _WIDE_UP_TO else torch.float32


# What a unit's gradient is multiplied with, float32 [U]: for all parameters, or for each.
Factors = Tensor | dict[nn.Parameter, Tensor]


class FastClip:
    """Per-unit gradient norms and clipped sums of a module's trainable parameters.

    The module stays what it is: no parameter is renamed or wrapped; only the ``forward`` of layers
    with trainable parameters is replaced, on the instances, and put back when done::

        engine = FastClip(module)
        with engine.attached():
            engine.begin(len(rows))
            engine.backward(losses, Groups.records(len(rows), device))
            norms = sum(engine.squares().values()).sqrt()
            engine.add(factors)            # Σ_u factors[u] · gradient of unit u → p.summed_grad

    Args:
        module: what to attach to.

    Raises:
        PrivacyError: naming a layer that can't be clipped per unit.
    """

    drops = True

    def __init__(self, module: nn.Module) -> None:
        self._names = {p: n for n, p in module.named_parameters() if p.requires_grad}
        self.parameters = list(self._names)
        self.anchor = torch.zeros((), requires_grad=True)
        self._wide = wide(self.parameters)
        self._scratch = Scratch()
        self._rows = 0
        self._groups: Groups | None = None
        self._parts: dict[nn.Parameter, list[Part]] = {}
        self._copies: list[tuple[nn.Parameter, Tensor]] = []
        self._forwards: list[tuple[nn.Module, Callable[..., object]]] = []
        seen: set[nn.Module] = set()
        for name, layer in module.named_modules():
            own = any(p.requires_grad for p in layer.parameters(recurse=False))
            if own and layer not in seen:
                seen.add(layer)
                self._forwards.append((layer, layers.forward_of(layer, name, self)))

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within this context the module's layers take notes."""
        before = [layer.__dict__.get("forward") for layer, _ in self._forwards]
        try:
            for layer, forward in self._forwards:
                layer.forward = forward
            yield
        finally:
            for (layer, _), own in zip(self._forwards, before, strict=True):
                if own is None:
                    layer.__dict__.pop("forward", None)
                else:
                    layer.forward = own
            self.clear()

    # -- one batch -------------------------------------------------------------------------------

    def begin(self, rows: int) -> None:
        """Forget the last batch; the next forward pass has so many rows."""
        self.clear()
        self._rows = rows

    def clear(self) -> None:
        """Forget the last batch."""
        self._parts.clear()
        self._copies.clear()
        self._groups = None

    def backward(self, losses: Tensor, groups: Groups) -> None:
        """Run the one backward pass.

        Args:
            losses: of each row, ``[B]``. A unit's gradient is that of the sum of its rows' losses.
            groups: which row belongs to which unit.

        Raises:
            PrivacyError: if a parameter is used outside its layer's forward pass.
        """
        if losses.shape != (self._rows,) or groups.rows != self._rows:
            raise PrivacyError(f"expected {self._rows} losses, one per row, got {losses.shape}")
        self._groups = groups
        torch.autograd.backward(losses.sum())
        for parameter, copy in self._copies:
            if copy.grad is not None:
                self.note(parameter, Direct(copy.grad.float().view(self._rows, *parameter.shape)))
        self._copies.clear()
        outside = [name for p, name in self._names.items() if p.grad is not None]
        if outside:
            raise PrivacyError(
                f"'{outside[0]}' is used outside the layer that holds it, so its per-unit gradient "
                "is unknown; freeze it (another train.method or train.frozen)"
            )

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """Return every parameter's squared gradient norm per unit, float64 ``[U]``, ≥ the true one.

        They are larger than the true ones by what rounding may have hidden: below 0.1 %.
        """
        grams = Grams(self._known())
        return {p: squares(p, self._parts[p], grams) for p in self.parameters if p in self._parts}

    def add(self, factors: Factors, *, keep: bool = False) -> None:
        """Add every unit's gradient times its factor to ``p.summed_grad``.

        A unit with factor 0 adds nothing, even if its gradient is infinite or undefined.

        Args:
            factors: float32 ``[U]``, for all parameters or for each.
            keep: whether the notes are needed once more.
        """
        groups = self._known()
        for p in self.parameters:
            total: Any = getattr(p, "summed_grad", None)
            apart = total is None or self._wide != torch.float32
            batch = torch.zeros_like(p, dtype=torch.float32) if apart else total
            own = groups.spread(factors[p] if isinstance(factors, dict) else factors)
            used = own != 0
            parts = self._parts.get(p, []) if keep else self._parts.pop(p, [])
            if not bool(used.all()):
                own, parts = own[used], [_only(part, used) for part in parts]
            for part in parts:
                add(p, part, own, batch, self._scratch)
            if self._wide != torch.float32:
                batch = batch.to(self._wide) if total is None else total.add_(batch)
            p.summed_grad = batch  # type: ignore[attr-defined]

    def _known(self) -> Groups:
        if self._groups is None:
            raise PrivacyError("there was no backward pass to take gradients from")
        return self._groups

    # -- for the layers --------------------------------------------------------------------------

    def note(self, parameter: nn.Parameter, part: Part) -> None:
        """Keep a part of a parameter's gradient."""
        self._parts.setdefault(parameter, []).append(part)

    def by_row(self, x: Tensor, name: str) -> Tensor:
        """Return a layer's input or output gradient as ``[B, T, D]``.

        Raises:
            PrivacyError: if it has no dimension of rows: nobody knows then whose it is.
        """
        x = x.detach()
        if x.dim() >= 2 and x.shape[0] == self._rows:
            return x.reshape(self._rows, -1, x.shape[-1])
        if x.dim() == 2 and self._rows and x.shape[0] % self._rows == 0:
            return x.view(self._rows, -1, x.shape[-1])  # tokens of all rows in one dimension
        raise self._nobodys(x, name)

    def check_rows(self, x: Tensor, name: str) -> None:
        """Refuse an input without a dimension of rows, for layers that need it to be the first."""
        if x.dim() < 2 or x.shape[0] != self._rows:
            raise self._nobodys(x, name)

    def _nobodys(self, x: Tensor, name: str) -> PrivacyError:
        return PrivacyError(
            f"'{name}' works on what belongs to no single row (expected {self._rows} rows, got "
            f"shape {list(x.shape)}), so its per-unit gradient is unknown; freeze it (another "
            "train.method, train.frozen or train.lora.target_modules)"
        )

    def expanded(self, parameter: nn.Parameter, dims: int, name: str) -> Tensor:
        """Return a copy of a parameter for every row, which broadcasts against ``dims`` dimensions.

        Returns:
            ``[B, 1, …, *shape]`` of a vector, ``[B, …]`` of a parameter ``[1, …]``.
        """
        p = parameter.detach()
        shape = (1,) * max(dims - p.dim(), 1) + tuple(p.shape) if p.dim() == 1 else tuple(p.shape)
        copy = p.view(shape).expand(self._rows, *shape[1:]).contiguous().requires_grad_()
        self._copies.append((parameter, copy))
        return copy


def _only(part: Part, rows: Tensor) -> Part:
    return type(part)(*(getattr(part, name)[rows] for name in part.__slots__))
