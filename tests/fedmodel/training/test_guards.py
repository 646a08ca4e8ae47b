"""What stays on in every private run: counts, parameters, and what moved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedmodel.errors import PrivacyError
from fedmodel.job import Performance, Privacy
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, guards, optim
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round


def test_the_units_added_up_must_be_those_sampled() -> None:
    guards.check_count(3, 3)
    guards.check_count(0, 0)
    for accumulated in (2, 4):
        with pytest.raises(PrivacyError, match="another number of units") as error:
            guards.check_count(accumulated, 3)
        assert not any(digit in str(error.value) for digit in "234")  # the numbers are secret


# -- the optimiser's parameters ------------------------------------------------------------------


def test_an_optimiser_over_exactly_the_trainable_parameters_passes(
    learner_of: Any, job_of: Any
) -> None:
    for method in ("head", "lora", "ffa", "full"):
        learner = learner_of(method)
        guards.check_parameters(learner, optim.make(learner.module, job_of(method=method).train))


def test_an_optimiser_made_before_the_adapters_is_refused(learner_of: Any) -> None:
    learner = learner_of("lora")
    head = [p for n, p in learner.module.named_parameters() if "modules_to_save" in n]
    with pytest.raises(PrivacyError, match="make it after the adapters"):
        guards.check_parameters(learner, torch.optim.SGD(head))


def test_an_optimiser_with_a_frozen_parameter_or_one_twice_is_refused(learner_of: Any) -> None:
    learner = learner_of("lora")
    with pytest.raises(PrivacyError, match="expected the optimiser to hold"):
        guards.check_parameters(learner, torch.optim.SGD(learner.module.parameters()))
    trainable = [p for p in learner.module.parameters() if p.requires_grad]
    twice: Any = torch.optim.SGD(trainable)
    twice.param_groups.append({**twice.param_groups[0], "params": trainable[:1]})
    with pytest.raises(PrivacyError, match="expected the optimiser to hold"):
        guards.check_parameters(learner, twice)


def test_adapters_on_another_device_than_the_model_are_refused(learner_of: Any) -> None:
    learner = learner_of("head")
    linear = learner.head.linear
    kept = linear.weight
    linear.weight = nn.Parameter(kept.detach().to("meta"))
    try:
        optimizer = torch.optim.SGD([p for p in learner.module.parameters() if p.requires_grad])
        with pytest.raises(PrivacyError, match=r"'classifier\.weight' is on meta.*the model is"):
            guards.check_parameters(learner, optimizer)
    finally:
        linear.weight = kept


# -- what moves ----------------------------------------------------------------------------------


def move(learner: Learner, more: Callable[[], object] = lambda: None) -> None:
    """Take a step as far as the guard can see, and do something more."""
    with guards.only_trained_move(learner), torch.no_grad():
        for p in learner.module.parameters():
            if p.requires_grad:
                p.add_(0.0)
        more()


@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_trained_parameters_may_and_must_move(method: str, learner_of: Any) -> None:
    learner = learner_of(method)
    move(learner)
    with (
        pytest.raises(PrivacyError, match="is to be trained, but no step changed it"),
        guards.only_trained_move(learner),
    ):
        pass


def test_a_frozen_weight_that_moves_is_named(learner_of: Any) -> None:
    learner = learner_of("lora")
    name, frozen = next((n, p) for n, p in learner.module.named_parameters() if not p.requires_grad)
    with pytest.raises(PrivacyError, match=rf"'{name}' isn't trained, but changed"):
        move(learner, lambda: frozen.mul_(1.0))


def test_a_buffer_that_moves_is_named(learner_of: Any) -> None:
    learner = learner_of("lora")
    norm = torch.nn.BatchNorm1d(3).requires_grad_(False)
    learner.module.add_module("norm", norm)
    try:
        with pytest.raises(PrivacyError, match=r"'norm\.\w+' isn't trained, but changed"):
            move(learner, lambda: norm(torch.rand(4, 3)))
    finally:
        del learner.module.norm


# -- in a run ------------------------------------------------------------------------------------


def run(learner: Learner, examples: Any, plan: Any, job: Any, optimizer: Any = None) -> None:
    learner.load_vector(learner.initial)
    dpsgd.private_steps(
        learner,
        examples,
        plan,
        job.privacy,
        optimizer or optim.make(learner.module, job.train),
        Round(performance=Performance(physical_batch=4)),
        steps=1,
    )


@pytest.mark.parametrize("patients", [None, True])
def test_a_run_in_which_units_get_lost_is_stopped(
    patients: Any,
    learner_of: Any,
    examples_of: Any,
    plan_of: Any,
    job_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = learner_of("head")
    examples = examples_of(learner, patients=patients)
    job = job_of(Privacy(unit="patient" if patients else "record"))
    run(learner, examples, plan_of(), job)
    real = type(examples.units).batches
    monkeypatch.setattr(type(examples.units), "batches", lambda self, *a: list(real(self, *a))[:-1])
    with pytest.raises(PrivacyError, match="another number of units"):
        run(learner, examples, plan_of(), job)


def test_an_optimiser_that_takes_no_step_is_noticed(
    learner_of: Any, examples_of: Any, plan_of: Any, job_of: Any
) -> None:
    class Idle(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            pass

    learner = learner_of("head")
    with pytest.raises(PrivacyError, match="no step changed it"):
        run(
            learner,
            examples_of(learner),
            plan_of(),
            job_of(),
            Idle([p for p in learner.module.parameters() if p.requires_grad], lr=0.1),
        )


def test_the_rate_is_the_plans_whatever_the_size_of_the_site(
    learner_of: Any, examples_of: Any, plan_of: Any, job_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    real = sampling.poisson

    def watched(entropy: Entropy, units: int, rate: float) -> Any:
        asked.append(rate)
        return real(entropy, units, rate)

    monkeypatch.setattr(sampling, "poisson", watched)
    learner = learner_of("head")
    for rows in (1, 5, 14):
        run(learner, examples_of(learner, rows), plan_of(rate=0.5), job_of())
    assert asked == [0.5] * 3
