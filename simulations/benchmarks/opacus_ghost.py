"""Opacus's ghost clipping, to compare with: norms in one backward pass, the sum in another.

It isn't an engine of the product: its second pass rounds otherwise than the first, so where
parameters amplify rounding a row may add more than its share.
"""

import torch
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
    GradSampleHooksFastGradientClipping,
)
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.engines import Naming, OpacusEngine
from fedmodel.gradients.fastclip import Groups
from fedmodel.gradients.fastclip.engine import Factors

__all__ = ["Ghost"]


class _GhostNaming(Naming, GradSampleHooksFastGradientClipping):  # type: ignore[misc]
    pass


class Ghost(OpacusEngine):
    """Norms from a first backward pass, the clipped sum from a second one."""

    kind = _GhostNaming

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
                    "example; use privacy.engine=fast"
                )
            p.grad = None

    def squares(self) -> dict[nn.Parameter, Tensor]:
        """Return squared norms, float64 ``[U]``."""
        return {p: p._norm_sample.double().square() for p in self.parameters}  # type: ignore[attr-defined]

    def add(self, factors: Factors, *, keep: bool = False) -> None:
        """Run the second backward pass, of the weighted losses, without hooks.

        A unit whose gradient isn't finite must not be in the batch.
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
