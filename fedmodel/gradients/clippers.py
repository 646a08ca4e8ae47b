"""Clippers: from gradient norms to what each unit's gradient is multiplied with."""

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedmodel.accounting.plan import Plan
from fedmodel.gradients.fastclip.engine import Factors, wide
from fedmodel.job import Privacy
from fedmodel.mechanisms import clipping, noise
from fedmodel.seeds import Entropy

__all__ = ["Adaptive", "Clipper", "Flat", "PerLayer", "make_clipper"]

# A batch's clipped gradients are summed in float32, and a unit more changes how all others in that
# sum round. This keeps below the bound what that does, also where parameters make it large: up to
# 3e-5 was measured, with 16,384 units in passes of 2,048.
_ROUNDING = 1 - 1e-4
# Where the whole step's sum is float32, too: see ``engine.wide``.
_LARGE_ROUNDING = 1 - 2e-3

Squares = dict[nn.Parameter, Tensor]


class Clipper(Protocol):
    """Bounds every unit's contribution to :attr:`clip` in L2 norm over all parameters."""

    clip: float
    dropped: int

    def factors(self, squares: Squares) -> Factors:
        """Return the units' factors, in [0, 1]; 0 where a gradient isn't finite."""

    def end_step(self) -> None:
        """Do what is due once all batches of a step were clipped."""


def _norms(squares: list[Tensor]) -> Tensor:
    return torch.stack(squares).sum(0).sqrt()


class Flat:
    """One norm over all parameters (arXiv 1607.00133)."""

    def __init__(self, clip: float) -> None:
        self.clip = clip
        self.dropped = 0
        self.rounding = _ROUNDING

    def factors(self, squares: Squares) -> Factors:
        """Return min(1, C / norm)."""
        norms = _norms(list(squares.values()))
        self._note(norms)
        return self._factors(norms, self.clip)

    def _factors(self, norms: Tensor, clip: float) -> Tensor:
        found = clipping.factors(norms.cpu().numpy(), clip * self.rounding)
        factors = found.astype(np.float32)
        # Down: tiny factors have few bits, and to the nearest is up to twice as large.
        factors[factors > found] = np.nextafter(factors[factors > found], np.float32(0))
        return torch.from_numpy(factors).to(norms.device)

    def end_step(self) -> None:
        """Do nothing: the norm is constant."""

    def _note(self, norms: Tensor) -> None:
        self.dropped += int((~torch.isfinite(norms)).sum())


class PerLayer(Flat):
    """Every layer to C/√layers, so that all together have norm C at most (arXiv 1710.06963)."""

    def __init__(self, clip: float, module: nn.Module) -> None:
        super().__init__(clip)
        self._layers = [
            own
            for layer in module.modules()
            if (own := [p for p in layer.parameters(recurse=False) if p.requires_grad])
        ]

    def factors(self, squares: Squares) -> Factors:
        """Return each parameter's factors; a gradient that isn't finite anywhere is left out."""
        norms = _norms(list(squares.values()))
        self._note(norms)
        whole = torch.isfinite(norms)
        found: dict[nn.Parameter, Tensor] = {}
        part = self.clip / math.sqrt(len(self._layers))
        for layer in self._layers:
            known = [squares[p] for p in layer if p in squares]
            own = self._factors(_norms(known), part) * whole if known else whole.float()
            found |= dict.fromkeys(layer, own)
        return found


class Adaptive(Flat):
    """One norm that follows a quantile of the units' norms (arXiv 1905.03871, Algorithm 1).

    After each step the number of units below it is released, less half a unit each so that one
    changes it by 1/2, with noise that the plan accounts for; then C ← C·exp(−η(share − quantile)).
    """

    def __init__(
        self, plan: Plan, entropy: Entropy, *, clip: float, quantile: float, rate: float
    ) -> None:
        super().__init__(clip)
        self._plan = plan
        self._entropy = entropy
        self._quantile, self._rate = quantile, rate
        self._count = 0.0

    def _note(self, norms: Tensor) -> None:
        super()._note(norms)
        self._count += float((norms <= self.clip).sum()) - len(norms) / 2

    def end_step(self) -> None:
        """Release the count and move the norm."""
        total = np.array([self._count])
        noised = noise.add_gaussian(self._entropy, total, self._plan.clip_noise)
        share = min(max(float(noised[0]) / self._plan.expected_batch + 0.5, 0.0), 1.0)
        self.clip *= math.exp(-self._rate * (share - self._quantile))
        self._count = 0.0


def make_clipper(
    privacy: Privacy, plan: Plan, module: nn.Module, entropy: Entropy, clip: float | None
) -> Clipper:
    """Return the clipper that a job asks for.

    Args:
        privacy: of the job.
        plan: made of it.
        module: whose layers are clipped.
        entropy: for what adaptive clipping releases.
        clip: where an adaptive norm got to before; ``None``: at the beginning.
    """
    made: Flat
    if privacy.clipping == "per-layer":
        made = PerLayer(plan.clip, module)
    elif privacy.clipping == "adaptive":
        start = plan.clip if clip is None else clip
        made = Adaptive(
            plan, entropy, clip=start, quantile=privacy.clip_quantile, rate=privacy.clip_rate
        )
    else:
        made = Flat(plan.clip)
    trained = [p for p in module.parameters() if p.requires_grad]
    if wide(trained, plan.expected_batch) == torch.float32:
        made.rounding = _LARGE_ROUNDING
    return made
