"""DP-SGD at one site (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1), on Opacus.

Per-example gradients, step scheduling and scaling are Opacus's. Ours: exact Poisson sampling and
noise from the operating system's entropy, norms in float32, examples whose gradient isn't finite
dropped, and empty batches as steps of noise alone.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from fedmodel.errors import PrivacyError
from fedmodel.privacy import clipping, noise, sampling
from fedmodel.privacy.plan import Plan
from fedmodel.seeds import Entropy
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.tasks import example_losses

__all__ = ["PrivateOptimizer", "per_example_gradients", "private_steps"]

# Clipped norms are float32 sums; this keeps their rounding below the bound.
_ROUNDING = 1 - 1e-6


class PrivateOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimiser with noise from ``Entropy`` and clipping that drops bad examples.

    Args:
        optimizer: the optimiser that takes the step.
        plan: clip, noise multiplier and expected batch size, all public.
        entropy: where the noise comes from; there is no seed.
    """

    def __init__(self, optimizer: Optimizer, plan: Plan, entropy: Entropy) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clip,
            expected_batch_size=plan.expected_batch,
            loss_reduction="mean",
        )
        self._entropy = entropy
        self._noise_std = plan.noise_std
        self.dropped = 0

    def clip_and_accumulate(self) -> None:
        """Add ``sum_i g_i * min(1, C / ||g_i||)`` to ``p.summed_grad``.

        The norm is over all parameters and in float32, whatever the gradients' own type. An example
        with an infinite or undefined gradient contributes nothing and is counted in ``dropped``.
        """
        samples = [g.float() for g in self.grad_samples]
        squares = [g.flatten(1).square().sum(1) if g.shape[0] else g.new_zeros(0) for g in samples]
        norms = torch.stack(squares).sum(0).sqrt()
        clip = self.max_grad_norm * _ROUNDING
        factors = torch.from_numpy(clipping.factors(norms.cpu().numpy(), clip)).to(norms.device)
        bad = ~torch.isfinite(norms)
        if bool(bad.any()):
            self.dropped += int(bad.sum())
            samples = [torch.where(bad.view(-1, *[1] * (g.dim() - 1)), 0.0, g) for g in samples]
        for p, g in zip(self.params, samples, strict=True):
            total = torch.einsum("i,i...->...", factors, g)
            p.summed_grad = total if p.summed_grad is None else p.summed_grad + total

    def add_noise(self) -> None:
        """Set ``p.grad`` to the clipped sum plus N(0, (noise multiplier * C)^2) per coordinate."""
        params = self.params
        total = torch.cat([p.summed_grad.flatten() for p in params]).cpu().numpy()
        noised = torch.from_numpy(noise.add_gaussian(self._entropy, total, self._noise_std))
        start = 0
        for p in params:
            part = noised[start : start + p.numel()]
            p.grad = part.view(p.shape).to(device=p.device, dtype=p.dtype)
            start += p.numel()


@contextmanager
def per_example_gradients(module: nn.Module) -> Iterator[None]:
    """Within this context, a backward pass leaves ``p.grad_sample`` of shape ``[B, *p.shape]``."""
    try:
        hooks = GradSampleHooks(module, loss_reduction="sum")
    except NotImplementedError as error:
        raise PrivacyError(
            "a trainable layer keeps running statistics of the batch (such as batch norm), so one "
            "row changes another's gradient; freeze it or use another model"
        ) from error
    try:
        with warnings.catch_warnings():
            # True for a first layer: it has no input to differentiate, and its hook works anyway.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        hooks.cleanup()


def private_steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    optimizer: Optimizer,
    *,
    steps: int,
    physical_batch: int,
    entropy: Entropy,
    on_step: Callable[[], None],
) -> PrivateOptimizer:
    """Take ``steps`` DP-SGD steps.

    Args:
        learner: the network, already holding the round's parameters.
        examples: the site's own rows.
        plan: what was promised; its spend must be on disk before this is called.
        optimizer: over the trainable parameters.
        steps: how many.
        physical_batch: rows in one forward pass.
        entropy: for sampling and noise.
        on_step: called after each step.

    Returns:
        The private optimiser, for its counters.
    """
    private = PrivateOptimizer(optimizer, plan, entropy)
    learner.module.train()
    with per_example_gradients(learner.trained):
        for _ in range(steps):
            rows = sampling.poisson(entropy, len(examples), plan.rate)
            parts = list(examples.chunks(rows, physical_batch))
            if not parts:
                _empty_batch(private)
            for number, part in enumerate(parts, start=1):
                private.zero_grad(set_to_none=True)
                losses = example_losses(learner, examples.batch(part), examples.labels(part))
                torch.autograd.backward(losses.sum())
                _check_rows(private, len(part))
                private.signal_skip_step(do_skip=number < len(parts))
                private.step()
            private.zero_grad(set_to_none=True)
            on_step()
    return private


def _empty_batch(private: PrivateOptimizer) -> None:
    # Poisson sampling drew nobody. The step still happens: leaving it out would tell that.
    private.zero_grad(set_to_none=True)
    for p in private.params:
        p.grad_sample = p.new_zeros((0, *p.shape))
    private.step()


def _check_rows(private: PrivateOptimizer, expected: int) -> None:
    for p in private.params:
        sample = p.grad_sample
        rows = sample.shape[0] if isinstance(sample, Tensor) else -1
        if rows != expected:
            raise PrivacyError(
                "the per-example gradients don't have one row per example in a trainable parameter "
                f"of shape {tuple(p.shape)} (expected one per example, got another number); this "
                "model can't be trained privately with these adapters"
            )
