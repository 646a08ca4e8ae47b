"""The engine: attached to a module for a while, it clips and sums in one backward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip import layers
from fedmodel.gradients.fastclip.groups import Groups
from fedmodel.gradients.fastclip.notes import Notes
from fedmodel.gradients.fastclip.parts import Direct, Grams, Part, Scratch, add, squares

__all__ = ["Factors", "FastClip", "wide"]

_FEW_UNITS = 1024
_WIDE_UP_TO = 5_000_000  # parameters whose sum in float64 is little beside the activations


def wide(parameters: Sequence[nn.Parameter], batch: int = 0) -> torch.dtype:
    """Return the type that clipped gradients are summed in over a step's batches.

    One unit more changes how all sums after it round. In float64 that is nothing. A large model's
    sum stays float32 where steps are small, for its time and memory: with all numbers of all
    gradients alike, the worst there is, it moves by up to 2e-7 of C beyond C for each unit in the
    step. Clipping allows for 10,000, ten times as many as a site's step has in the mean.

    Args:
        parameters: that are trained.
        batch: expected units of a step: public, and never how many there are.
    """
    large = sum(p.numel() for p in parameters) > _WIDE_UP_TO
    return torch.float32 if large and batch <= _FEW_UNITS else torch.float64


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
        batch: expected units of a step (see :func:`wide`).

    Raises:
        PrivacyError: naming a layer that can't be clipped per unit.
    """

    name = "fast"

    def __init__(self, module: nn.Module, batch: int = 0) -> None:
        self._names = {p: n for n, p in module.named_parameters() if p.requires_grad}
        self.parameters = list(self._names)
        self._wide = wide(self.parameters, batch)
        self._scratch = Scratch()
        self._notes = Notes()
        self._groups: Groups | None = None
        self._forwards: list[tuple[nn.Module, Callable[..., object]]] = []
        seen: set[nn.Module] = set()
        for name, layer in module.named_modules():
            own = any(p.requires_grad for p in layer.parameters(recurse=False))
            if own and layer not in seen:
                seen.add(layer)
                self._forwards.append((layer, layers.forward_of(layer, name, self._notes)))

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
            self.begin(0)

    # -- one batch -------------------------------------------------------------------------------

    def begin(self, rows: int) -> None:
        """Forget the last batch; the next forward pass has so many rows."""
        self._notes.clear(rows)
        self._groups = None

    def backward(self, losses: Tensor, groups: Groups) -> None:
        """Run the one backward pass.

        Args:
            losses: of each row, ``[B]``. A unit's gradient is that of the sum of its rows' losses.
            groups: which row belongs to which unit.

        Raises:
            PrivacyError: if a parameter is used outside its layer's forward pass.
        """
        if losses.shape != (self._notes.rows,) or groups.rows != self._notes.rows:
            raise PrivacyError(
                f"expected {self._notes.rows} losses, one per row, got {losses.shape}"
            )
        self._groups = groups
        torch.autograd.backward(losses.sum())
        for parameter, copy in self._notes.copies:
            if copy.grad is not None:
                self._notes.note(
                    parameter, Direct(copy.grad.float().view(self._notes.rows, *parameter.shape))
                )
        self._notes.copies.clear()
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
        return {
            p: squares(p, self._notes.parts[p], grams)
            for p in self.parameters
            if p in self._notes.parts
        }

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
            parts = self._notes.parts.get(p, []) if keep else self._notes.parts.pop(p, [])
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


def _only(part: Part, rows: Tensor) -> Part:
    return type(part)(*(getattr(part, name)[rows] for name in part.__slots__))
