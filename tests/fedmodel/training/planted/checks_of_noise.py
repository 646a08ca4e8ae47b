"""Checks of noise and samples: as large as promised, and nobody's to know."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedmodel.gradients.clippers import Adaptive
from fedmodel.gradients.units import Batch, Units
from fedmodel.job import Privacy
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy
from tests.fedmodel.training.planted.checks_of_steps import job_of, train_round
from tests.fedmodel.training.planted.world import (
    EVERYONE,
    PLAN,
    Named,
    World,
    joined,
)


def _assert_noise(found: Named, std: float) -> None:
    for name, value in {**found, "all": joined(found)}.items():
        level = 5 / np.sqrt(2 * value.size)  # five standard errors
        assert abs(value.std() / std - 1) < level, f"another noise: {name}"
        assert abs(value.mean() / std) < 5 / np.sqrt(value.size), f"another noise: {name}"


def the_noise_is_the_plans(world: World) -> None:
    for drawn in ((), (0,), (1, 2, 4, 5, 6), EVERYONE):
        for round_, std in ((1, 1.25 * 0.5), (3, 2.5 * 0.5)):
            found = world.step(drawn, number=round_)
            clean = world.clipped([[i] for i in drawn], PLAN.clip)
            _assert_noise({n: found[n] - clean[n] for n in found}, std)


def the_noise_follows_an_adaptive_norm(world: World) -> None:
    plan = dataclasses.replace(PLAN, clipping="adaptive")
    seen: list[Any] = [world.start]
    world.step(
        *((), ()),
        plan=plan,
        privacy=Privacy(clipping="adaptive", clip_rate=1.0),
        clip=0.125,
        on_step=lambda: seen.append(world.learner.flatten()),
    )
    stds = [(before - after).std() * 4 for before, after in pairwise(seen)]
    assert abs(stds[0] / plan.noise_std(1, 0.125) - 1) < 0.06, "another noise"
    assert abs(stds[1] / stds[0] - 1) > 0.06, "another noise"  # the norm has moved


def every_step_takes_noise(world: World) -> None:
    seen: list[Any] = []

    def remember() -> None:
        seen.append(world.learner.flatten())

    world.step(EVERYONE, (), (3,), on_step=remember)
    assert len(seen) == 3
    change = world.learner.layout.named(seen[1] - seen[0])
    _assert_noise({n: -4.0 * v.astype(np.float64) for n, v in change.items()}, 1.25 * 0.5)


def two_runs_have_other_noise(world: World) -> None:
    one, two = (joined(world.step(EVERYONE, entropy=Entropy())) for _ in range(2))
    assert (one == two).mean() < 0.05, "the same noise"


def two_steps_have_other_noise(world: World) -> None:
    seen: list[Any] = [world.start]

    def remember() -> None:
        seen.append(world.learner.flatten())

    world.step((), (), entropy=Entropy(), on_step=remember)
    one, two = np.diff(np.stack(seen), axis=0)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.2, "the same noise"


def parameters_have_other_noise(world: World) -> None:
    found = world.step((), entropy=Entropy())
    parts = [v.ravel()[:256] for v in found.values() if v.size >= 256]
    together = np.corrcoef(np.stack(parts)) - np.eye(len(parts))
    assert np.abs(together).max() < 0.5, "the same noise"


def two_runs_have_other_counts(world: World) -> None:
    # So large a batch that no share is below 0 or above 1: these are cut, and look alike.
    plan, norms = dataclasses.replace(PLAN, clipping="adaptive", expected_batch=1000), []
    for _ in range(2):
        clipper = Adaptive(plan, Entropy(), clip=0.5, quantile=0.5, rate=0.2)
        clipper.end_step()
        norms.append(clipper.clip)
    assert norms[0] != norms[1], "the same noise"


def two_runs_have_other_samples(world: World) -> None:
    plan = dataclasses.replace(PLAN, rows_per_patient=2)
    real = Units.batches
    for examples, draws in ((world.rows, []), (world.patients, [(0, 1, 2, 3)] * 12)):
        runs: list[list[list[int]]] = []

        def watch(self: Units, *args: Any, runs: Any = runs) -> Iterator[Batch]:
            batches = list(real(self, *args))
            runs[-1].append(sorted(int(row) for batch in batches for row in batch.rows))
            return iter(batches)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Units, "batches", watch)
            for _ in range(2):
                runs.append([])
                world.step(*draws, examples=examples, plan=plan, entropy=Entropy(), steps=12)
        assert runs[0] != runs[1], "the same sample"
        assert len({tuple(rows) for rows in runs[0]}) > 1, "the same sample"


def the_sample_is_poissons(world: World) -> None:
    sizes = [len(sampling.poisson(world.entropy, 400, 0.25)) for _ in range(100)]
    assert abs(np.mean(sizes) - 100) < 5 * np.sqrt(75 / 100), "another sample"
    assert abs(np.var(sizes) / 75 - 1) < 5 * np.sqrt(2 / 100), "another sample"
    few = [len(sampling.poisson(world.entropy, 4, 0.25)) for _ in range(100)]
    assert abs(np.mean(np.equal(few, 0)) - 0.75**4) < 0.25, "another sample"


def dropout_is_nobodys_to_know(world: World) -> None:
    # A mask that another row's presence hands on is a row's own only if nobody knows the masks.
    job, masks = job_of(steps=1), []
    for _ in range(2):
        dropped: list[Tensor] = []
        real = world.learner.logits

        def forget(batch: Any, real: Any = real, dropped: Any = dropped) -> Tensor:
            logits: Tensor = nn.functional.dropout(real(batch), 0.5)
            dropped.append(logits.detach() == 0)
            return logits

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.learner, "logits", forget)
            patch.setattr(sampling, "poisson", lambda *_: np.array(EVERYONE))
            train_round(world, job)
        masks.append(torch.cat(dropped))
    assert not torch.equal(*masks), "the same dropout"
