"""DP-SGD: the clipped sum against a loop over single examples, and what is left behind."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmodel.training import optim
from fedmodel.training.learner import Learner
from tests.fedmodel.training.steps import (
    ENGINES,
    METHODS,
    Noise,
    lengths_of,
    lone_gradients,
    steps,
    watch,
)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Replace the noise by zero."""
    return watch(monkeypatch, adds=False)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("physical", [4, 64])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_clipped_sum_equals_a_loop_over_single_examples(
    method: str,
    physical: int,
    engine: Any,
    silent: Noise,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    alone = lone_gradients(learner, examples, vector, job)
    clip = float(np.median(lengths_of(alone)))
    steps(learner, examples, plan_of(clip=clip), vector, job, physical=physical, engine=engine)
    factors = np.minimum(1, clip / lengths_of(alone))
    assert 0 < (factors < 1).sum() < len(factors)
    expected = (factors[:, None] * alone).sum(axis=0)
    np.testing.assert_allclose(silent.sums()[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_single_contribution_is_longer_than_the_clip_norm(
    method: str,
    precision: str,
    silent: Noise,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method, precision), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    for row in range(0, len(examples), 3):
        draw([row])
        steps(learner, examples, plan_of(clip=0.013), vector, job)
    found = lengths_of(np.stack(silent.sums()))
    assert (found <= 0.013).all()
    assert found.max() > 0.013 * (1 - 1e-3)


def test_a_poisoned_row_leaves_the_others_contributions_as_they_were(
    silent: Noise,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of("head"), job_of()
    examples, vector = examples_of(learner), start_of(learner)
    draw([0, 1, 2, 4])
    steps(learner, examples, plan_of(), vector, job)
    features = examples._features.clone()
    features[3] = float("inf")
    examples._features = features
    draw([0, 1, 2, 3, 4])
    change, private = steps(learner, examples, plan_of(), vector, job, physical=2)
    assert private.dropped == 1
    one, two = silent.sums()
    np.testing.assert_allclose(two, one, atol=1e-6)
    assert np.isfinite(change).all()


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_noise_and_clip_a_private_step_is_a_plain_one(
    method: str,
    optimizer: str,
    silent: Noise,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    rates = {"lr": 0.1, "head_lr": 0.4} if optimizer == "sgd" else {"lr": 1e-3, "head_lr": 1e-2}
    job = job_of(method=method, optimizer=optimizer, momentum=0.5, **rates)
    examples, vector = examples_of(learner), start_of(learner)
    plan = plan_of(clip=1e6, expected_batch=5)
    change, _ = steps(learner, examples, plan, vector, job, count=2, physical=5)

    learner.load_vector(vector)
    plain = optim.make(learner.module.train(), job.train)
    everyone = np.arange(len(examples))
    for _ in range(2):
        plain.zero_grad()
        logits = learner.logits(examples.batch(everyone))
        loss = cross_entropy(logits, examples.labels(everyone), reduction="sum") / 5
        torch.autograd.backward(loss)
        plain.step()
    expected = learner.flatten() - vector
    learner.module.zero_grad(set_to_none=True)
    named, wanted = learner.layout.named(change), learner.layout.named(expected)
    for name, value in wanted.items():
        if optimizer == "adamw" and name.endswith("key.bias"):
            continue  # its true gradient is zero, and AdamW turns the rounding into full steps
        scale = 1e-4 * np.abs(expected).max() + 2e-3 * np.abs(value).max()
        if optimizer == "adamw":  # where a gradient is tiny, its rounding's sign is a full step
            agree = np.abs(named[name] - value) <= scale
            assert agree.mean() > 0.995, name
        else:
            np.testing.assert_allclose(named[name], value, rtol=1e-3, atol=scale, err_msg=name)


@pytest.mark.long
def test_gradient_checkpointing_and_dropouts_change_nothing_of_the_bound(
    silent: Noise, draw: Any, texts: list[str], job_of: Any, plan_of: Any
) -> None:
    from fedmodel.job import Model, Train
    from fedmodel.seeds import Seed
    from fedmodel.training.examples import prepare

    train = Train(method="full")
    model = Model(labels=("a", "b"), max_length=16, dropout=0.1)
    learner = Learner(model, train, Seed(0), torch.device("cpu"), checkpointing=True)
    examples = prepare(learner, texts, ["a", "b"] * 7, ("a", "b"), 16)
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    vector = (learner.initial + nudge).astype(np.float32)
    for row in (0, 3):
        draw([row])
        steps(learner, examples, plan_of(clip=0.013), vector, job_of(method="full"))
    found = lengths_of(np.stack(silent.sums()))
    assert (found <= 0.013).all()
    assert found.max() > 0.013 * (1 - 1e-3)


# -- what is left behind -------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_are_gone_afterwards(
    engine: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, job = learner_of("lora"), job_of(method="lora")
    own = [set(m.__dict__) for m in learner.module.modules()]
    steps(learner, examples_of(learner), plan_of(), learner.initial, job, engine=engine)
    assert [set(m.__dict__) for m in learner.module.modules()] == own
    for p in learner.module.parameters():
        for name in ("grad", "grad_sample", "summed_grad", "_norm_sample"):
            assert getattr(p, name, None) is None
