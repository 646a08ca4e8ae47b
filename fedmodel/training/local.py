"""One site's part of a round: a few optimiser steps on its own rows, as an update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from fedmodel.accounting.plan import Plan
from fedmodel.errors import DivergedError, PrivacyError
from fedmodel.job import Job, Stage, Train
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import optim
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.round import Round, Start
from fedmodel.training.staged import site_train, staged
from fedmodel.update import Vector

__all__ = ["Result", "gradient", "shuffled", "train"]

_ENOUGH = 5  # numbers that aren't all zero by chance, but for 1e-17


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a round of local training leaves at the site.

    Args:
        change: parameters after minus before, float32 ``[trainable]``.
        loss: mean training loss, ``None`` when private (it would be a release of its own), and of
            a round that takes no step.
        optimizer: with its state, for those who keep it.
        clips: an adaptive clip norm after each step; none without one.
    """

    change: Vector
    loss: float | None
    optimizer: Optimizer
    clips: tuple[float, ...] = ()

    @property
    def clip(self) -> float | None:
        """Where an adaptive clip norm got to, ``None`` without one."""
        return self.clips[-1] if self.clips else None


def shuffled(seed: Seed, rows: int, batch: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Yield ``steps`` batches of row numbers, each epoch in a new random order.

    >>> sorted(int(i) for part in shuffled(Seed(0), 4, 2, 2) for i in part)
    [0, 1, 2, 3]
    """
    generator = seed.numpy()
    order: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, generator.permutation(rows)])
        yield order[:batch]
        order = order[batch:]


def train(
    learner: Learner,
    examples: Examples,
    job: Job,
    start: Start,
    round_: Round,
    *,
    steps: int,
    plan: Plan | None,
    seed: Seed,
) -> Result:
    """Train for ``steps`` steps.

    Args:
        learner: the network.
        examples: the site's rows.
        job: what was agreed.
        start: parameters, and what is kept from the rounds before.
        round_: which round it is, on which machine.
        steps: optimiser steps.
        plan: the privacy plan, or ``None`` without privacy. Its spend must already be on disk.
        seed: order of batches and dropout without privacy, for this site and round.

    Raises:
        DivergedError: if training without privacy diverges to NaN or infinity.
    """
    stage = job.train.stage(round_.number)
    optimizer = optim.make(learner.module, site_train(job, round_.number))
    if start.state is not None:
        optim.load_state(optimizer, start.state)
    loss: float | None = None
    clips: tuple[float, ...] = ()
    with (
        torch.random.fork_rng(devices=[]),
        staged(learner, job, round_.number, start.vector) as before,
    ):
        _seed_dropout(_dropout_seed(seed, plan, round_.entropy), learner.device)
        if plan is None:
            order = _batches(examples, job.train, stage, steps, seed)
            loss = _plain_steps(learner, examples, order, optimizer, round_)
            if learner.asked is not None:
                loss = learner.asked.told(loss)
        else:
            from fedmodel.training import dpsgd  # Opacus is slow to import: only when needed

            private = dpsgd.private_steps(
                learner,
                examples,
                plan,
                job.privacy,
                optimizer,
                round_,
                steps=steps,
                clip=start.clip,
            )
            clips = private.clips if job.privacy.clipping == "adaptive" else ()
        change = _change(learner, before)
    if plan is not None:
        _check_moved(learner, change, optimizer)
    return Result(change=change, loss=loss, optimizer=optimizer, clips=clips)


def gradient(
    learner: Learner,
    examples: Examples,
    job: Job,
    vector: Vector,
    plan: Plan,
    round_: Round,
) -> NDArray[np.floating]:
    """Return the clipped sum of one Poisson sample's gradients at ``vector``.

    For jobs whose sites share the noise and take no step of their own. Its sensitivity is
    ``plan.clip`` in L2 norm for one unit more or less. It is secret until noised: no noise is in
    it.

    Args:
        learner: the network.
        examples: the site's rows.
        job: what was agreed.
        vector: the step's parameters, float32 ``[trainable]``.
        plan: the privacy plan. Its spend must already be on disk.
        round_: which round it is: one step, told of before anything is computed.

    Returns:
        ``[trainable]``, float64, or float32 where the model is large
        (:func:`fedmodel.training.gradient.clipped_sum`).

    Raises:
        PrivacyError: if a guard finds that the promise would not hold.
    """
    from fedmodel.training.gradient import clipped_sum  # Opacus is slow to import

    with torch.random.fork_rng(devices=[]), staged(learner, job, round_.number, vector):
        _seed_dropout(_private_seed(round_.entropy), learner.device)
        return clipped_sum(learner, examples, plan, job.privacy, round_)


def _change(learner: Learner, before: Vector) -> Vector:
    change = learner.flatten() - before
    if not np.isfinite(change).all():
        raise DivergedError(
            "local training diverged (the parameters became infinite or NaN); "
            "lower train.lr and train.head_lr"
        )
    return change


def _check_moved(learner: Learner, change: Vector, optimizer: Optimizer) -> None:
    """Refuse an update in which a parameter stayed: noise moves every one of them."""
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(learner.module.named_parameters())
    for name, part in learner.layout.named(change).items():
        # Noise on its grid is exactly zero once in 2,500 times: too often for a lone number.
        if rates.get(id(named[name]), 0) > 0 and part.size >= _ENOUGH and not part.any():
            raise PrivacyError(f"'{name}' was to be trained, but didn't change")


def _dropout_seed(seed: Seed, plan: Plan | None, entropy: Entropy) -> int:
    return seed.child("dropout").value if plan is None else _private_seed(entropy)


def _private_seed(entropy: Entropy) -> int:
    # A row's mask depends on the rows before it. Whoever knew the masks would see one row move
    # all the others' gradients; to everybody else each row's mask is as random as with other rows.
    return int.from_bytes(entropy.bytes(8)) >> 1


def _seed_dropout(value: int, device: torch.device) -> None:
    # Not torch.manual_seed: it seeds every backend there is and takes longer than a small step.
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)


def _batches(
    examples: Examples, train: Train, stage: Stage, steps: int, seed: Seed
) -> list[NDArray[np.int64]]:
    """Return the rows of each step without privacy; a sum of an opening is of all of them, once."""
    if stage != "steps":
        return [np.arange(len(examples))]
    return list(shuffled(seed.child("batches"), len(examples), train.batch_size, steps))


def _plain_steps(
    learner: Learner,
    examples: Examples,
    order: Sequence[NDArray[np.int64]],
    optimizer: Optimizer,
    round_: Round,
) -> float:
    learner.module.train()
    total = 0.0
    for rows in order:
        optimizer.zero_grad(set_to_none=True)
        for part in examples.chunks(rows, round_.performance.physical_batch):
            losses = example_losses(learner, examples.batch(part), examples.labels(part))
            torch.autograd.backward(losses.sum() / len(rows))
            total += float(losses.detach().sum()) / len(rows)
        optimizer.step()
        round_.on_step()
    optimizer.zero_grad(set_to_none=True)
    return total / len(order)
