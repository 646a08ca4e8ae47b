"""The network that stays in memory between rounds and jobs."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedmodel.errors import ConfigError, ModelError
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import local
from fedmodel.training.learner import pick_device, resident

CPU = torch.device("cpu")


def test_a_sweep_over_rates_and_steps_reuses_the_network(job_of: Any) -> None:
    first = resident(job_of(method="head", lr=0.1), CPU)
    for change in ({"lr": 0.5}, {"steps": 9, "rounds": 3}, {"optimizer": "adamw"}):
        assert resident(job_of(method="head", **change), CPU) is first
    named = job_of(method="head")
    named = replace(named, model=replace(named.model, digest=first.digest))
    assert resident(named, CPU) is first


def test_another_seed_or_method_is_another_network(job_of: Any) -> None:
    first = resident(job_of(method="head"), CPU)
    assert resident(replace(job_of(method="head"), seed=1), CPU) is not first
    assert resident(job_of(method="lora"), CPU) is not first


def test_other_starting_weights_than_the_jobs_are_refused(job_of: Any) -> None:
    job = job_of(method="head")
    with pytest.raises(ModelError, match="the starting weights differ"):
        resident(replace(job, model=replace(job.model, digest="0" * 64)), CPU)


def test_training_leaves_the_starting_vector_as_it_was(job_of: Any, examples_of: Any) -> None:
    job = job_of(method="head", batch_size=4, steps=2)
    learner = resident(job, CPU)
    initial = learner.initial.copy()
    result = local.train(
        learner,
        examples_of(learner),
        job,
        vector=learner.initial,
        steps=2,
        plan=None,
        seed=Seed(1),
        entropy=Entropy(),
    )
    assert result.change.any()
    assert (learner.initial == initial).all()
    assert (resident(job, CPU).initial == initial).all()
    assert resident(job, CPU).digest == learner.digest


def test_devices_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == CPU
    with pytest.raises(ConfigError, match="no CUDA device"):
        pick_device("cuda")
