"""The network that stays in memory between rounds and jobs."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmodel.errors import ConfigError, ModelError
from fedmodel.job import Job, Model, Train
from fedmodel.seeds import Seed
from fedmodel.training import local
from fedmodel.training.learner import pick_device, resident
from fedmodel.training.round import Round, Start
from tests.fedmodel.training.conftest import NAMES
from tests.jobs import CPU, NO_WEIGHTS, real_job


def job_of(seed: int = 0, **train: Any) -> Job:
    model = Model(labels=NAMES, max_length=16)
    return real_job(model=model, train=Train(**train), seed=seed)


def test_a_sweep_over_rates_and_steps_reuses_the_network() -> None:
    first = resident(job_of(method="head", lr=0.1), CPU)
    for change in ({"lr": 0.5}, {"steps": 9, "rounds": 3}, {"optimizer": "adamw"}):
        assert resident(job_of(method="head", **change), CPU) is first
    for other in (replace(CPU, physical_batch=3), replace(CPU, engine="hooks")):
        assert resident(job_of(method="head"), other) is first


@pytest.mark.long
def test_a_rate_of_0_is_looked_at_though_other_rates_share_a_network() -> None:
    resident(job_of(method="lora", head_lr=0.5), CPU)
    with pytest.raises(ModelError, match=r"train\.head_lr=0: .* starts at zero"):
        resident(job_of(method="lora", head_lr=0.0), CPU)


@pytest.mark.long
def test_another_seed_or_method_or_checkpointing_is_another_network() -> None:
    first = resident(job_of(method="head"), CPU)
    assert resident(job_of(method="head", seed=1), CPU) is not first
    again = replace(CPU, gradient_checkpointing=True)
    assert resident(job_of(method="head"), again) is not first
    assert resident(job_of(method="lora"), CPU) is not first


def test_other_starting_weights_than_the_jobs_are_refused() -> None:
    job = job_of(method="head")
    with pytest.raises(ModelError, match="the starting weights differ"):
        resident(replace(job, weights=NO_WEIGHTS), CPU)


def test_training_leaves_the_starting_vector_as_it_was(examples_of: Any) -> None:
    job = job_of(method="head", batch_size=4, steps=2)
    learner = resident(job, CPU)
    initial = learner.initial.copy()
    result = local.train(
        learner,
        examples_of(learner),
        job,
        Start(vector=learner.initial),
        Round(),
        steps=2,
        plan=None,
        seed=Seed(1),
    )
    assert result.change.any()
    assert (learner.initial == initial).all()
    assert (resident(job, CPU).initial == initial).all()
    assert resident(job, CPU).digest == learner.digest == job.weights


def test_devices_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda")
