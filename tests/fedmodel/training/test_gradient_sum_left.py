"""What a clipped sum leaves behind, and who is asked before it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedmodel.accounting.spends import Spend
from fedmodel.errors import PrivacyError
from fedmodel.job import Model, Performance, Privacy, Train
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import gradient, guards
from fedmodel.training.examples import prepare
from fedmodel.training.gradient import clipped_sum
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round
from tests.fedmodel.training.sums import METHODS, sum_of


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("method", [*METHODS, "full"])
def test_nothing_moves_and_nothing_is_left(
    method: str,
    engine: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    learner.load_vector(vector)
    own = [set(m.__dict__) for m in learner.module.modules()]
    before = {n: t.clone() for n, t in learner.module.state_dict().items()}
    sum_of(learner, examples, plan_of(), job, vector, engine=engine)
    now = learner.module.state_dict()
    assert now.keys() == before.keys()
    assert all(torch.equal(now[n], t) for n, t in before.items())
    assert [set(m.__dict__) for m in learner.module.modules()] == own
    for p in learner.module.parameters():
        for name in ("grad", "grad_sample", "summed_grad", "_norm_sample"):
            assert getattr(p, name, None) is None


def test_a_failure_leaves_no_gradient(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("head")
    examples = examples_of(learner)
    real = type(examples.units).batches
    monkeypatch.setattr(type(examples.units), "batches", lambda self, *a: list(real(self, *a))[:-1])
    with pytest.raises(PrivacyError, match="another number of units"):
        sum_of(learner, examples, plan_of(), job_of(), learner.initial, physical=4)
    for p in learner.module.parameters():
        assert getattr(p, "summed_grad", None) is None
        assert p.grad is None


@pytest.mark.long
@pytest.mark.parametrize("trained", [False, True])
def test_a_tensor_that_moves_meanwhile_is_named(
    trained: bool,
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, job = learner_of("lora"), job_of(method="lora")
    examples = examples_of(learner)
    name, tensor = next(
        (n, p) for n, p in learner.module.named_parameters() if p.requires_grad == trained
    )
    real = guards.check_count

    def move(*counts: int) -> None:
        real(*counts)
        with torch.no_grad():
            tensor.mul_(1.0)

    monkeypatch.setattr(guards, "check_count", move)
    with pytest.raises(PrivacyError, match=f"'{name}' changed while gradients were summed"):
        sum_of(learner, examples, plan_of(), job, learner.initial)


def test_nothing_moves_wants_the_same_trained_tensor_and_the_same_buffers(learner_of: Any) -> None:
    learner = learner_of("head")
    linear = learner.head.linear
    kept = linear.weight
    try:
        with (
            pytest.raises(PrivacyError, match=r"'classifier\.weight' changed"),
            guards.nothing_moves(learner),
        ):
            linear.weight = nn.Parameter(kept.detach().clone())
    finally:
        linear.weight = kept
    norm = nn.BatchNorm1d(3).requires_grad_(False)
    learner.module.add_module("norm", norm)
    try:
        with (
            pytest.raises(PrivacyError, match=r"'norm\.\w+' changed"),
            guards.nothing_moves(learner),
        ):
            norm(torch.rand(4, 3))
    finally:
        del learner.module.norm
    with guards.nothing_moves(learner):
        pass


def test_parameters_beside_the_engines_are_refused(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    examples = examples_of(learner)
    learner.load_vector(learner.initial)
    frozen = next(p for p in learner.module.parameters() if not p.requires_grad)
    frozen.requires_grad_(True)
    try:
        with pytest.raises(PrivacyError, match="expected the engine to hold each of the"):
            clipped_sum(
                learner,
                examples,
                plan_of(),
                job_of().privacy,
                Round(performance=Performance(physical_batch=4)),
            )
    finally:
        frozen.requires_grad_(False)


def test_it_is_asked_once_before_and_told_once_after(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    told: list[Any] = []
    plan = plan_of(rate=0.01, decay=0.25)
    sum_of(
        learner,
        examples_of(learner),
        plan,
        job_of(),
        learner.initial,
        number=2,
        before_step=told.append,
        on_step=lambda: told.append("done"),
    )
    assert told == [plan.spend(2, 1), "done"]
    with pytest.raises(PrivacyError, match="rounds 1 to 3, got 4"):
        sum_of(learner, examples_of(learner), plan, job_of(), learner.initial, number=4)


def test_a_step_that_is_refused_computes_nothing(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, seen = learner_of("lora"), []

    def refuse(spend: Spend) -> None:
        raise PrivacyError("the budget is spent")

    examples, job = examples_of(learner), job_of(method="lora")
    monkeypatch.setattr(sampling, "poisson", lambda *a: seen.append("sampled"))
    monkeypatch.setattr(type(examples), "batch", lambda *a: seen.append("batch"))
    with pytest.raises(PrivacyError, match="the budget is spent"):
        sum_of(
            learner,
            examples,
            plan_of(),
            job,
            learner.initial,
            before_step=refuse,
            on_step=lambda: seen.append("done"),
        )
    assert seen == []


def test_adaptive_clipping_is_refused(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    job, plan = job_of(Privacy(clipping="adaptive")), plan_of(clipping="adaptive")
    with pytest.raises(PrivacyError, match="flat or per-layer, got adaptive"):
        sum_of(learner, examples_of(learner), plan, job, learner.initial)


def test_what_torch_draws_comes_from_entropy_and_its_generator_is_left(
    fake: Entropy, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Dropout is what torch draws: here something is drawn in place of a sum."""
    monkeypatch.setattr(gradient, "clipped_sum", lambda *_: torch.rand(8).double().numpy())
    learner = learner_of("head")
    examples, job, plan = examples_of(learner), job_of(), plan_of()
    before = torch.get_rng_state()
    one, other, repeated = (
        sum_of(learner, examples, plan, job, learner.initial, entropy=entropy)
        for entropy in (fake, fake, type(fake)())
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert (one != other).all()
    np.testing.assert_array_equal(repeated, one)


@pytest.mark.slow
@pytest.mark.long
def test_dropout_comes_from_entropy_and_leaves_torchs_generator(
    texts: list[str], fake: Entropy, job_of: Any, plan_of: Any
) -> None:
    model = Model(labels=("a", "b"), max_length=16, dropout=0.2)
    learner = Learner(model, Train(method="lora"), Seed(0), torch.device("cpu"))
    examples = prepare(learner, texts, ["a", "b"] * 7, ("a", "b"), 16)
    vector = (learner.initial + 0.02).astype(np.float32)
    job, plan = job_of(method="lora"), plan_of()
    before = torch.get_rng_state()
    sums = [sum_of(learner, examples, plan, job, vector, entropy=fake) for _ in "ab"]
    again = type(fake)()
    repeated = sum_of(learner, examples, plan, job, vector, entropy=again)
    assert torch.equal(torch.get_rng_state(), before)
    assert (sums[0] != sums[1]).any()
    np.testing.assert_array_equal(repeated, sums[0])
