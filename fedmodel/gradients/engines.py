"""Engines: ways to per-unit gradient norms and clipped sums, all with the same numbers.

``fast`` is ours (:mod:`fedmodel.gradients.fastclip`). ``hooks`` and ``ghost`` are Opacus's: the
first keeps every row's gradient, the second runs backward twice.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleHooksFastGradientClipping,
)
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip import FastClip, Groups
from fedmodel.gradients.fastclip.engine import Factors, wide
from fedmodel.gradients.fastclip.gram import ROUNDING

__all__ = ["Engine", "make_engine"]


class Engine(Protocol):
    """See :class:`fedmodel.gradients.fastclip.FastClip`, which says what each call does."""

    parameters: list[nn.Parameter]
    drops: bool  # whether a factor of 0 keeps a gradient that isn't finite out of the sum

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


class _Naming:
    """Has Opacus's hooks say in which layer they failed."""

    _module: nn.Module

    def capture_activations_hook(self, module: nn.Module, *args: Any) -> None:
        with self._failing(module):
            super().capture_activations_hook(module, *args)  # type: ignore[misc]

    def capture_backprops_hook(self, module: nn.Module, *args: Any, **kwargs: Any) -> None:
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


class _HooksNaming(_Naming, GradSampleHooks):  # type: ignore[misc]
    pass


class _GhostNaming(_Naming, GradSampleHooksFastGradientClipping):  # type: ignore[misc]
    """Opacus's ghost norms, made larger by what rounding may have hidden."""

    def capture_backprops_hook(
        self, module: nn.Module, forward_input: Any, forward_output: Any, **kwargs: Any
    ) -> None:
        gy = forward_output[0].detach()
        # The last use's input; Opacus refuses weights that are used twice.
        kept: Any = getattr(module, "activations", None)
        x = kept[-1][0] if kept else None
        super().capture_backprops_hook(module, forward_input, forward_output, **kwargs)
        if isinstance(module, nn.Linear | nn.Embedding) and x is not None:
            sizes = _sizes(gy)
            inputs = _sizes(x) if isinstance(module, nn.Linear) else _ones(gy)
            _widen(module.weight, 2 * ROUNDING * inputs * sizes)
            if isinstance(module, nn.Linear) and module.bias is not None:
                _widen(module.bias, 2 * ROUNDING * _ones(gy) * sizes)


def _sizes(x: Tensor) -> Tensor:
    """Return Σ_t ‖x_t‖² of each row, float64 ``[B]``."""
    return x.detach().flatten(1).double().square().sum(1)


def _ones(x: Tensor) -> Tensor:
    """Return the number of tokens of each row, float64 ``[B]``."""
    return torch.full((len(x),), x[0].numel() // x.shape[-1] if len(x) else 0, device=x.device)


def _widen(parameter: Tensor, hidden: Tensor) -> None:
    # ‖G‖² = Σ (a_t·a_s)(b_t·b_s) cancels: see fastclip.gram, of which this is the wider bound.
    norms = getattr(parameter, "_norm_sample", None)
    if parameter.requires_grad and isinstance(norms, Tensor) and len(norms) == len(hidden):
        widened = (norms.double().square() + hidden).sqrt()
        parameter._norm_sample = widened  # type: ignore[attr-defined]


class _Opacus:
    """What the two engines of Opacus share."""

    kind: type[GradSampleHooks]
    drops = True

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._wide = wide(self.parameters)
        self._module = module
        self._rows = 0
        self._groups = Groups.records(0, torch.device("cpu"))
        self._hooks: GradSampleHooks | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
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
        self._rows = rows
        for p in self.parameters:
            p.grad = p.grad_sample = p._norm_sample = None  # type: ignore[attr-defined]

    def _total(self, p: nn.Parameter) -> Tensor:
        total: Tensor | None = getattr(p, "summed_grad", None)
        return torch.zeros_like(p, dtype=self._wide) if total is None else total


class Hooks(_Opacus):
    """Every row's gradient of every parameter in memory."""

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
        """Return squared norms, float64 ``[U]``, from sums in float32."""
        return {p: self._samples(p).square().flatten(1).sum(1).double() for p in self.parameters}

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


class Ghost(_Opacus):
    """Norms from a first backward pass, the clipped sum from a second one."""

    kind = _GhostNaming
    drops = False

    def backward(self, losses: Tensor, groups: Groups) -> None:
        """Run the first backward pass, for the norms only."""
        if not groups.single:
            raise PrivacyError("privacy.engine=ghost clips rows only; use privacy.engine=fast")
        self._losses = losses
        torch.autograd.backward(losses.sum(), retain_graph=True)
        for name, p in self._module.named_parameters():
            norms = getattr(p, "_norm_sample", None)
            if p.requires_grad and (not isinstance(norms, Tensor) or len(norms) != self._rows):
                raise PrivacyError(
                    f"'{name}' has no gradient norm for each example, so it can't be clipped per "
                    f"example; use privacy.engine=fast, or {_FREEZE}"
                )
            p.grad = None

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """Return squared norms, float64 ``[U]``."""
        return {p: p._norm_sample.double().square() for p in self.parameters}  # type: ignore[attr-defined]

    def add(self, factors: Factors, *, keep: bool = False) -> None:
        """Run the second backward pass, of the weighted losses, without hooks.

        A unit whose gradient isn't finite must not be in the batch (``drops`` says so).
        """
        if isinstance(factors, dict):
            raise PrivacyError("privacy.engine=ghost clips by one norm for all parameters only")
        if self._hooks is None:
            raise PrivacyError("the engine isn't attached")
        self._hooks.disable_hooks()
        try:
            torch.autograd.backward((self._losses * factors).sum(), retain_graph=keep)
        finally:
            self._hooks.enable_hooks()
        for p in self.parameters:
            if p.grad is not None:
                p.summed_grad = self._total(p).add_(p.grad)  # type: ignore[attr-defined]
            p.grad = None


_ENGINES: dict[str, Callable[[nn.Module], Engine]] = {
    "fast": FastClip,
    "hooks": Hooks,
    "ghost": Ghost,
}


def make_engine(name: str, module: nn.Module) -> Engine:
    """Return the engine of a job's choice for a module's trainable parameters.

    Raises:
        PrivacyError: naming a layer that it can't clip per unit.
    """
    return _ENGINES[name](module)
