"""Checks of a step's sum, and what a step or a round is let pass with."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmodel.job import Job, Privacy
from fedmodel.mechanisms import noise
from fedmodel.seeds import Seed
from fedmodel.training import dpsgd, local
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.round import Round, Start
from tests.fedmodel.training.planted.world import (
    EVERYONE,
    MODEL,
    PATIENTS,
    PLAN,
    TRAIN,
    World,
    joined,
    norm,
)
from tests.jobs import make_job


def whose() -> list[list[int]]:
    """Return each patient's rows."""
    return [[i for i, p in enumerate(PATIENTS) if p == q] for q in dict.fromkeys(PATIENTS)]


def the_clipped_sum_is_the_oracles(world: World) -> None:
    records = [[i] for i in EVERYONE]
    for examples, units in ((world.rows, records), (world.patients, whose())):
        means = [world.clipped([rows], np.inf) for rows in units]
        clip = float(np.median([norm(mean) for mean in means]))
        expected = joined(world.clipped(units, clip))
        for physical in (3, 64):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(noise, "add_gaussian_", lambda *_: None)
                plan = dataclasses.replace(PLAN, clip=clip)
                drawn = range(len(units))
                found = joined(world.step(drawn, plan=plan, examples=examples, physical=physical))
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= 1e-3, "another clipped sum"


def a_broken_row_adds_nothing(world: World) -> None:
    # Its factor is 0, but 0 times infinity isn't.
    real, words = example_losses, world.rows._tokens
    (unique,) = {int(i) for i in words[2]}.difference(*words[:2], *words[3:])

    def losses(learner: Learner, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
        found = real(learner, batch, labels)
        broken = (batch["input_ids"][: len(labels)] == unique).any(1)
        return found * torch.ones_like(found).masked_fill(broken, torch.inf)

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpsgd, "example_losses", losses)
        for draws in ((0, 1, 3), (0, 1, 2, 3)):
            change = world.step(draws, entropy=type(world.entropy)())
            found.append(joined(change))
    difference = np.abs(found[0] - found[1]).max()
    assert difference < 2 * 2.0**-10 * 1.25 * 0.5, "the broken row is in the sum"


def train_round(world: World, job: Job) -> None:
    local.train(
        world.learner,
        world.rows,
        job,
        Start(vector=world.start),
        Round(entropy=world.entropy),
        steps=job.train.steps,
        plan=PLAN,
        seed=Seed(3),
    )


def job_of(**train: Any) -> Job:
    return make_job(
        model=MODEL,
        train=dataclasses.replace(TRAIN, **train),
        privacy=Privacy(mechanism="dpsgd", rate=0.5),
    )


def a_round_is_let_pass(world: World) -> None:
    train_round(world, job_of(steps=2))


def an_empty_step_is_let_pass(world: World) -> None:
    world.step(())


def a_step_over_patients_is_let_pass(world: World) -> None:
    world.step((0, 1, 2, 3), examples=world.patients, physical=3)
