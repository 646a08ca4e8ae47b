"""Engines: ways to per-unit gradient norms and clipped sums, all with the same numbers.

``fast`` is ours (:mod:`fedmodel.gradients.fastclip`), ``hooks`` is Opacus's, which keeps every
row's gradient. An engine that runs backward twice, once for the norms and once for the sum, has no
place here: what the second pass rounds otherwise than the first isn't clipped.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleHooks
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip import FastClip, Groups
from fedmodel.gradients.fastclip.engine import Factors, wide

__all__ = ["Engine", "Naming", "OpacusEngine", "make_engine"]


class Engine(Protocol):
    """See :class:`fedmodel.gradients.fastclip.FastClip`, which says what each call does."""

    name: str
    parameters: list[nn.Parameter]

    def attached(self) -> AbstractContextManager[None]:
        """Within this context the module's layers take notes."""

    def begin(self, rows: int) -> None:
        """Forget the last batch; the next forward pass has so many rows."""

    def backward(self, losses: Tensor, groups: Groups) -> None:
        """Run the backward pass of the rows' losses."""

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """Return every parameter's squared gradient norm per unit, float64 ``[U]``."""

    def add(self, factors: Factors, *, keep: bool = False) -> None:
        """Add every unit's gradient times its factor to ``p.summed_grad``."""


_FREEZE = "freeze it (another train.method, train.frozen or train.lora.target_modules)"


class Naming:
    """Has Opacus's hooks say in which layer they failed."""

    _module: nn.Module

    def capture_activations_hook(self, module: nn.Module, *args: Any) -> None:
        """Keep a layer's input."""
        with self._failing(module):
            super().capture_activations_hook(module, *args)  # type: ignore[misc]

    def capture_backprops_hook(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Make a layer's gradients per row."""
        with self._failing(module):
            super().capture_backprops_hook(module, *args, **kwargs)  # type: ignore[misc]

    @contextmanager
    def _failing(self, module: nn.Module) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            name = next(n for n, m in self._module.named_modules() if m is module)
            raise PrivacyError(
                f"Opacus can't clip '{name}' ({type(module).__name__}) per example "
                f"({type(error).__name__}); use privacy.engine=fast, or {_FREEZE}"
            ) from error


class _HooksNaming(Naming, GradSampleHooks):  # type: ignore[misc]
    pass


class OpacusEngine:
    """What engines on Opacus's hooks share."""

    name: str
    kind: type[GradSampleHooks]

    def __init__(self, module: nn.Module, batch: int = 0) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._wide = wide(self.parameters, batch)
        self._module = module
        self._rows = 0
        self._groups = Groups.records(0, torch.device("cpu"))
        self._hooks: GradSampleHooks | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Within this context the module's layers have hooks."""
        try:
            self._hooks = self.kind(self._module, loss_reduction="sum")
        except NotImplementedError as error:
            raise PrivacyError(
                f"Opacus can't clip '{self._buffered()}' per example: it keeps more than weights, "
                f"such as running statistics; use another model, or {_FREEZE}"
            ) from error
        try:
            with warnings.catch_warnings():
                # True for a first layer: it has no input to differentiate; its hook works anyway.
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                yield
        finally:
            self._hooks.cleanup()
            self._hooks = None
            for module in self._module.modules():
                # What a failed pass left behind would be taken for a later batch's.
                for name in ("activations", "max_batch_len"):
                    module.__dict__.pop(name, None)

    def _buffered(self) -> str:
        names: list[str] = [
            name
            for name, layer in self._module.named_modules()
            if any(p.requires_grad for p in layer.parameters(recurse=False))
            and any(True for _ in layer.buffers())
        ]
        return names[0]

    def begin(self, rows: int) -> None:
        """Forget the last batch; the next forward pass has so many rows."""
        self._rows = rows
        for p in self.parameters:
            p.grad = p.grad_sample = p._norm_sample = None  # type: ignore[attr-defined]

    def _total(self, p: nn.Parameter) -> Tensor:
        total: Tensor | None = getattr(p, "summed_grad", None)
        return torch.zeros_like(p, dtype=self._wide) if total is None else total


class Hooks(OpacusEngine):
    """Every row's gradient of every parameter in memory."""

    name = "hooks"
    kind = _HooksNaming

    def backward(self, losses: Tensor, groups: Groups) -> None:
        """Run one backward pass; check that every parameter has a gradient row for each row."""
        self._groups = groups
        torch.autograd.backward(losses.sum())
        for name, p in self._module.named_parameters():
            sample = getattr(p, "grad_sample", None)
            if p.requires_grad and (not isinstance(sample, Tensor) or len(sample) != self._rows):
                raise PrivacyError(
                    f"'{name}' has no gradient row for each example, so it can't be clipped per "
                    f"example; use privacy.engine=fast, or {_FREEZE}"
                )

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """Return squared norms, float64 ``[U]``: in float32 the square of 1e-23 is 0."""
        norm = torch.linalg.vector_norm
        return {
            p: norm(self._samples(p).flatten(1), dim=1, dtype=torch.float64).square()
            for p in self.parameters
        }

    def add(self, factors: Factors, *, keep: bool = False) -> None:
        """Add the weighted gradients; a factor of 0 leaves a unit out."""
        for p in self.parameters:
            own = factors[p] if isinstance(factors, dict) else factors
            used = own != 0
            part = torch.einsum("i,i...->...", own[used], self._samples(p)[used])
            p.summed_grad = self._total(p).add_(part)  # type: ignore[attr-defined]
            if not keep:
                p.grad_sample = None  # type: ignore[attr-defined]

    def _samples(self, p: nn.Parameter) -> Tensor:
        return self._groups.sum(p.grad_sample.float())  # type: ignore[attr-defined]


_ENGINES: dict[str, Callable[[nn.Module, int], Engine]] = {
    "fast": FastClip,
    "hooks": Hooks,
}


def make_engine(name: str, module: nn.Module, batch: int = 0) -> Engine:
    """Return the engine of a job's choice for a module's trainable parameters.

    Args:
        name: of the engine.
        module: whose gradients it clips.
        batch: expected units of a step (see :func:`fedmodel.gradients.fastclip.engine.wide`).

    Raises:
        PrivacyError: naming a layer that it can't clip per unit.
    """
    return _ENGINES[name](module, batch)
