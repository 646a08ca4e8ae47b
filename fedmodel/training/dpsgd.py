"""DP-SGD at one site (Abadi et al. 2016, arXiv 1607.00133, Algorithm 1), on Opacus's optimiser.

Scheduling and scaling of steps are Opacus's. Ours: exact Poisson sampling of units and noise from
the operating system's entropy, one-pass clipping, norms in float32 or better, units whose gradient
isn't finite dropped, and empty batches as steps of noise alone.
"""

from dataclasses import dataclass

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping
from torch import Tensor, nn
from torch.optim import Optimizer

from fedmodel.accounting.plan import Plan
from fedmodel.errors import PrivacyError
from fedmodel.gradients.clippers import Clipper, make_clipper
from fedmodel.gradients.engines import Engine, make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.gradients.fastclip.engine import Factors
from fedmodel.gradients.units import Batch
from fedmodel.job import Privacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.training import guards
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.round import Round

__all__ = ["Private", "PrivateOptimizer", "accumulate", "backward", "private_steps", "sum_sample"]


class PrivateOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus's optimiser with noise from ``Entropy`` on sums that an engine has clipped.

    Args:
        optimizer: the optimiser that takes the step.
        plan: noise and expected batch size, all public.
        round_: of the run; the noise may have a schedule.
        clipper: whose current norm scales the noise.
        entropy: where the noise comes from; there is no seed.
    """

    def __init__(
        self, optimizer: Optimizer, plan: Plan, round_: int, clipper: Clipper, entropy: Entropy
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.gradient_noise_multiplier(round_),
            max_grad_norm=plan.clip,
            expected_batch_size=plan.expected_batch,
            loss_reduction="mean",
        )
        self._plan, self._round = plan, round_
        self._clipper, self._entropy = clipper, entropy

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each coordinate of the clipped sum."""
        return self._plan.noise_std(self._round, self._clipper.clip)

    def accumulate(self) -> None:
        """Do nothing: the engines add to ``p.summed_grad`` themselves."""

    def add_noise(self) -> None:
        """Set ``p.grad`` to the clipped sum plus N(0, std²) per coordinate.

        A parameter that no unit reached (nobody was drawn) gets noise alone.
        """
        std = self.noise_std
        for p in self.params:
            total = p.summed_grad
            if total is None:
                total = torch.zeros_like(p, dtype=torch.float32)
            noise.add_gaussian_(self._entropy, total, std)
            p.grad, p.summed_grad = total.to(p.dtype), None
        # AdamW with bias correction takes the noise's share off its second moment.
        self.original_optimizer.noise_variance = (std / self.expected_batch_size) ** 2


@dataclass(frozen=True, slots=True)
class Private:
    """What private steps leave behind at the site.

    Args:
        dropped: units left out because their gradient wasn't finite. Secret.
        clips: the norm after each step; where it adapts it is released.
    """

    dropped: int
    clips: tuple[float, ...]


def private_steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    privacy: Privacy,
    optimizer: Optimizer,
    round_: Round,
    *,
    steps: int,
    clip: float | None = None,
) -> Private:
    """Take ``steps`` DP-SGD steps.

    Args:
        learner: the network, already holding the round's parameters.
        examples: the site's own rows.
        plan: what was promised; its spend must be on disk before this is called.
        privacy: of the job, for the choice of clipping.
        optimizer: over the trainable parameters.
        round_: which round it is, on which machine.
        steps: how many.
        clip: where an adaptive norm got to in the rounds before.

    Raises:
        PrivacyError: if a guard finds that the promise would not hold.
    """
    performance, entropy = round_.performance, round_.entropy
    engine = make_engine(performance.engine, learner.trained, plan.expected_batch)
    clipper = make_clipper(privacy, plan, learner.trained, entropy, clip)
    private = PrivateOptimizer(optimizer, plan, round_.number, clipper, entropy)
    guards.check_parameters(learner, private)
    learner.module.train()
    clips = []
    with engine.attached(), guards.only_trained_move(learner):
        for _ in range(steps):
            round_.before_step(plan.spend(round_.number, 1))
            private.zero_grad(set_to_none=True)
            sum_sample(
                learner,
                examples,
                plan,
                engine,
                clipper,
                physical_batch=performance.physical_batch,
                entropy=entropy,
            )
            private.step()
            clipper.end_step()
            clips.append(clipper.clip)
            round_.on_step()
        private.zero_grad(set_to_none=True)
    return Private(clipper.dropped, tuple(clips))


def sum_sample(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    engine: Engine,
    clipper: Clipper,
    *,
    physical_batch: int,
    entropy: Entropy,
) -> None:
    """Add one Poisson sample's clipped gradients to ``p.summed_grad``: a step without its noise.

    Args:
        learner: the network, in training mode.
        examples: the site's own rows.
        plan: says the sampling rate, and how many of a patient's rows enter.
        engine: attached to the learner.
        clipper: bounds each unit.
        physical_batch: rows in one forward pass.
        entropy: for sampling.

    Raises:
        PrivacyError: if other units than those sampled were added up.
    """
    drawn = sampling.poisson(entropy, len(examples.units), plan.rate)
    limit = plan.rows_per_patient
    shapes = learner.steady.shapes(engine.name, physical_batch)
    seen = 0
    for batch in examples.units.batches(drawn, limit, entropy, shapes):
        accumulate(learner, examples, batch, engine, clipper)
        seen += batch.count
    guards.check_count(seen, len(drawn))


def accumulate(
    learner: Learner, examples: Examples, batch: Batch, engine: Engine, clipper: Clipper
) -> None:
    """Add a batch's clipped gradients to ``p.summed_grad``.

    A row whose gradient isn't finite contributes nothing, and isn't an error: it may not be told
    of.

    Args:
        learner: the network, in training mode.
        examples: whose rows they are.
        batch: whole units, and how many rows of weight 0 fill the pass up.
        engine: attached to the learner.
        clipper: bounds each unit.

    Raises:
        PrivacyError: if the batch's units aren't numbered as they must be.
    """
    _, squares = backward(learner, examples, batch, engine)
    factors = clipper.factors({p: found[: batch.count] for p, found in squares.items()})
    engine.add(_filled(factors, squares, batch) if batch.size > len(batch.rows) else factors)


def backward(
    learner: Learner, examples: Examples, batch: Batch, engine: Engine
) -> tuple[Tensor, dict[nn.Parameter, Tensor]]:
    """Run a batch's forward and backward pass.

    Args:
        learner: the network, in training mode.
        examples: whose rows they are.
        batch: whole units, and how many rows of weight 0 fill the pass up.
        engine: attached to the learner.

    Returns:
        The rows' losses, ``[B]``, and every parameter's squared gradient norms per unit; after the
        batch's own come those of what fills up.

    Raises:
        PrivacyError: if the batch's units aren't numbered as they must be.
    """
    idle = batch.size - len(batch.rows)
    # What fills up is units of as many rows as the others: a unit's rows are added up by blocks,
    # and how many there are of those decides how they round.
    each = max(1, len(batch.rows) // max(batch.count, 1))
    fill = batch.count + torch.arange(idle) // each
    groups = Groups(torch.cat([torch.from_numpy(batch.unit), fill]).to(learner.device))
    if groups.count != batch.count - (-idle // each):
        raise PrivacyError("a batch's units aren't numbered from 0 without gaps")
    engine.begin(batch.size)
    inputs = examples.batch(batch.rows, batch.width, batch.size)
    losses = example_losses(learner, inputs, examples.labels(batch.rows))
    # A unit's loss is the mean of its rows'; what fills up has none.
    filled = torch.cat([losses, losses.new_zeros(idle)])
    engine.backward(filled / groups.spread(groups.sizes), groups)
    return losses.detach(), engine.squares()


def _filled(factors: Factors, squares: dict[nn.Parameter, Tensor], batch: Batch) -> Factors:
    """Return factors for what fills a batch up, too: its gradient is 0, or it is left out."""
    # Left out only where it isn't 0 (an activation was infinite): leaving out copies all others.
    last = torch.stack([found[batch.count :] for found in squares.values()]).sum(0) == 0
    if isinstance(factors, dict):
        return {p: torch.cat([own, last.to(own.dtype)]) for p, own in factors.items()}
    return torch.cat([factors, last.to(factors.dtype)])
