"""Noise and samples that somebody can know: planted, and noticed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import dpsgd, local
from tests.fedmodel.training.planted.bug import SAME, Bug, Bugs, notice
from tests.fedmodel.training.planted.checks_of_noise import (
    dropout_is_nobodys_to_know,
    parameters_have_other_noise,
    the_sample_is_poissons,
    two_runs_have_other_counts,
    two_runs_have_other_noise,
    two_runs_have_other_samples,
    two_steps_have_other_noise,
)
from tests.fedmodel.training.planted.world import World

BUGS = Bugs()


class Seeded(Entropy):
    """The same bytes whenever it is made."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def bytes(self, count: int) -> bytes:
        return self._rng.bytes(count)


@BUGS.checked(SAME, two_runs_have_other_noise)
def noise_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = dpsgd.PrivateOptimizer.__init__

    def init(self: dpsgd.PrivateOptimizer, *args: Any) -> None:
        real(self, *args[:-1], Seeded())

    patch.setattr(dpsgd.PrivateOptimizer, "__init__", init)


@BUGS.checked(SAME, two_steps_have_other_noise)
@BUGS.checked(SAME, parameters_have_other_noise)
def noise_from_a_generator_that_is_made_anew(patch: pytest.MonkeyPatch, world: World) -> None:
    def add(entropy: Entropy, total: Tensor, std: float) -> None:
        total += std * torch.randn(total.numel(), generator=Seed(0).torch()).view(total.shape)

    patch.setattr(noise, "add_gaussian_", add)


@BUGS.checked(SAME, two_runs_have_other_noise)
@BUGS.checked(SAME, two_runs_have_other_counts)
@BUGS.checked("the same sample", two_runs_have_other_samples)
@BUGS.checked("the same dropout", dropout_is_nobodys_to_know)
def entropy_without_entropy(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Entropy, "bytes", lambda self, count: bytes(count))
    patch.setattr(type(world.entropy), "bytes", lambda self, count: bytes(count))


@BUGS.checked(SAME, two_runs_have_other_counts)
def a_seeded_count(patch: pytest.MonkeyPatch, world: World) -> None:
    real = noise.add_gaussian
    patch.setattr(noise, "add_gaussian", lambda _, *rest: real(Seeded(), *rest))


@BUGS.checked("the same sample", two_runs_have_other_samples, slow=True)
def a_sample_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.poisson
    patch.setattr(sampling, "poisson", lambda _, *rest: real(Seeded(), *rest))


@BUGS.checked("the same sample", two_runs_have_other_samples, slow=True)
def a_patients_rows_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.choose
    patch.setattr(sampling, "choose", lambda _, *rest: real(Seeded(), *rest))


@BUGS.checked("another sample", the_sample_is_poissons)
def a_sample_of_a_fixed_size(patch: pytest.MonkeyPatch, world: World) -> None:
    def shuffled(entropy: Entropy, rows: int, rate: float) -> NDArray[np.int64]:
        return sampling.choose(entropy, np.arange(rows), max(1, round(rate * rows)))

    patch.setattr(sampling, "poisson", shuffled)


@BUGS.checked("another sample", the_sample_is_poissons)
def a_sample_is_never_empty(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.poisson
    first = np.zeros(1, dtype=np.int64)
    patch.setattr(sampling, "poisson", lambda *a: drawn if len(drawn := real(*a)) else first)


@BUGS.checked("the same dropout", dropout_is_nobodys_to_know)
def dropout_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = local._seed_dropout
    patch.setattr(local, "_seed_dropout", lambda _, device: real(Seed(3).value, device))


@pytest.mark.long
@BUGS.each()
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    notice(bug, world, monkeypatch)
