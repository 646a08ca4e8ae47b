"""DP-SGD: the clipped sum against a loop over single examples, and the noise on it."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fedmodel.errors import PrivacyError
from fedmodel.privacy import Plan, noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner

F = NDArray[np.float64]
METHODS = ["head", "lora", "full"]


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[F]:
    """Replace the noise by zero; the list gets each step's clipped sum."""
    seen: list[F] = []

    def silent(entropy: Entropy, total: Any, std: float) -> Any:
        seen.append(total.astype(np.float64))
        return total.copy()

    monkeypatch.setattr(noise, "add_gaussian", silent)
    return seen


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that decides which rows every step takes."""

    def decide(rows: list[int]) -> None:
        chosen = np.array(rows, dtype=np.int64)
        monkeypatch.setattr(sampling, "poisson", lambda *_: chosen)

    return decide


def steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    vector: Any,
    job: Any,
    count: int = 1,
    entropy: Entropy | None = None,
    physical: int = 64,
) -> tuple[Any, dpsgd.PrivateOptimizer]:
    learner.load_vector(vector)
    private = dpsgd.private_steps(
        learner,
        examples,
        plan,
        optim.make(learner.module, job.train),
        steps=count,
        physical_batch=physical,
        entropy=entropy or Entropy(),
        on_step=lambda: None,
    )
    return learner.flatten() - vector, private


def lone_gradients(learner: Learner, examples: Examples, vector: Any, job: Any) -> F:
    """Return each example's gradient by plain autograd, in the optimiser's order."""
    learner.load_vector(vector)
    optimizer = optim.make(learner.module.train(), job.train)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    out = []
    for i in range(len(examples)):
        row = np.array([i])
        loss = cross_entropy(learner.logits(examples.batch(row)), examples.labels(row))
        grads = torch.autograd.grad(loss, params)
        out.append(torch.cat([g.flatten() for g in grads]).double().numpy())
    return np.stack(out)


def norms_of(gradients: F) -> F:
    return np.asarray(np.sqrt((gradients**2).sum(axis=1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("physical", [4, 64])
def test_the_clipped_sum_equals_a_loop_over_single_examples(
    method: str,
    physical: int,
    sums: list[F],
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    alone = lone_gradients(learner, examples, vector, job)
    clip = float(np.median(norms_of(alone)))
    steps(learner, examples, plan_of(clip=clip), vector, job, physical=physical)
    factors = np.minimum(1, clip / norms_of(alone))
    assert 0 < (factors < 1).sum() < len(factors)
    expected = (factors[:, None] * alone).sum(axis=0)
    np.testing.assert_allclose(sums[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_single_contribution_is_longer_than_the_clip_norm(
    method: str,
    precision: str,
    sums: list[F],
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
    norms = norms_of(np.stack(sums))
    assert (norms <= 0.013).all()
    assert norms.max() > 0.013 * (1 - 1e-4)


@pytest.mark.parametrize("size", [7, 3_000_000])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_rounding_never_lets_a_norm_above_the_bound(size: int, scale: float, plan_of: Any) -> None:
    p = torch.nn.Parameter(torch.zeros(size))
    plan = plan_of(clip=0.7 * scale)
    private = dpsgd.PrivateOptimizer(torch.optim.SGD([p]), plan, Entropy())
    made = torch.Generator().manual_seed(2)
    p.grad_sample = scale * torch.randn(1, size, generator=made)  # type: ignore[attr-defined]
    private.clip_and_accumulate()
    norm = float(p.summed_grad.double().norm())  # type: ignore[attr-defined]
    assert 0.7 * scale * (1 - 1e-5) < norm <= 0.7 * scale


def test_a_gradient_of_zero_stays_zero(plan_of: Any) -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    private = dpsgd.PrivateOptimizer(torch.optim.SGD([p]), plan_of(), Entropy())
    p.grad_sample = torch.zeros(2, 3)  # type: ignore[attr-defined]
    private.clip_and_accumulate()
    assert torch.equal(p.summed_grad, torch.zeros(3))  # type: ignore[attr-defined]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_an_example_without_a_finite_norm_is_dropped_and_counted(bad: float, plan_of: Any) -> None:
    params = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
    private = dpsgd.PrivateOptimizer(torch.optim.SGD(params), plan_of(clip=100.0), Entropy())
    made = torch.Generator().manual_seed(2)
    samples = [torch.randn(4, *p.shape, generator=made) for p in params]
    expected = [s[[0, 1, 3]].sum(0) for s in samples]
    samples[0][2, 1] = bad
    for p, sample in zip(params, samples, strict=True):
        p.grad_sample = sample  # type: ignore[attr-defined]
    private.clip_and_accumulate()
    assert private.dropped == 1
    for p, wanted in zip(params, expected, strict=True):
        torch.testing.assert_close(p.summed_grad, wanted)  # type: ignore[attr-defined]


def test_a_poisoned_row_leaves_the_others_contributions_as_they_were(
    sums: list[F],
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
    np.testing.assert_allclose(sums[1], sums[0], atol=1e-6)
    assert np.isfinite(change).all()


@pytest.mark.parametrize("method", METHODS)
def test_without_noise_and_clip_a_private_step_is_a_plain_one(
    method: str,
    sums: list[F],
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    job = job_of(method=method, lr=0.1, head_lr=0.4, momentum=0.5)
    examples, vector = examples_of(learner), start_of(learner)
    plan = plan_of(clip=1e6, expected_batch=5)
    change, _ = steps(learner, examples, plan, vector, job, count=2, physical=5)

    learner.load_vector(vector)
    optimizer = optim.make(learner.module.train(), job.train)
    everyone = np.arange(len(examples))
    for _ in range(2):
        optimizer.zero_grad()
        logits = learner.logits(examples.batch(everyone))
        loss = cross_entropy(logits, examples.labels(everyone), reduction="sum") / 5
        torch.autograd.backward(loss)
        optimizer.step()
    expected = learner.flatten() - vector
    learner.module.zero_grad(set_to_none=True)
    np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("rows", [[], [0], list(range(14))])
def test_the_noise_has_the_promised_size_whatever_the_batch(
    rows: list[int],
    draw: Any,
    fake: Entropy,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, job = learner_of("full"), job_of(method="full", lr=1.0, head_lr=1.0)
    examples, vector = examples_of(learner), np.zeros(learner.layout.total, np.float32)
    plan = plan_of(clip=0.3, noise_multiplier=2.5, expected_batch=7)
    draw(rows)
    clipped: list[float] = []
    real = noise.add_gaussian

    def watched(entropy: Entropy, total: Any, std: float) -> Any:
        clipped.append(float(np.linalg.norm(total)))
        return real(entropy, total, std)

    monkeypatch.setattr(noise, "add_gaussian", watched)
    change, _ = steps(learner, examples, plan, vector, job, entropy=fake)
    assert clipped[0] <= 0.3 * len(rows) + 1e-6
    drawn = change.astype(np.float64) * 7
    # 5 standard errors of a standard deviation, plus what the clipped sum itself can add.
    level = 5 / np.sqrt(2 * drawn.size) + (clipped[0] / (2.5 * 0.3)) ** 2 / drawn.size
    assert drawn.std() == pytest.approx(2.5 * 0.3, rel=level)
    assert abs(drawn.mean()) < 5 * 0.75 / np.sqrt(drawn.size) + clipped[0] / np.sqrt(drawn.size)


def test_an_empty_batch_is_a_step_of_noise_alone(
    draw: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, taken = learner_of("head"), []
    draw([])
    learner.load_vector(learner.initial)
    dpsgd.private_steps(
        learner,
        examples_of(learner),
        plan_of(rate=0.01),
        optim.make(learner.module, job_of().train),
        steps=3,
        physical_batch=8,
        entropy=Entropy(),
        on_step=lambda: taken.append(1),
    )
    assert len(taken) == 3
    assert (learner.flatten() != learner.initial).all()


def test_two_runs_never_share_noise(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    examples = examples_of(learner)
    one, two = (
        steps(learner, examples, plan_of(), learner.initial, job_of(), count=2)[0] for _ in "ab"
    )
    assert (one == two).mean() < 0.01
    correlation = np.corrcoef(one, two)[0, 1]
    assert correlation < 0.9


def test_steps_of_one_run_draw_fresh_noise(
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, seen = learner_of("head"), []
    real = noise.add_gaussian

    def watched(entropy: Entropy, total: Any, std: float) -> Any:
        seen.append(real(entropy, total, std) - total)
        return total + seen[-1]

    monkeypatch.setattr(noise, "add_gaussian", watched)
    draw([])
    steps(learner, examples_of(learner), plan_of(), learner.initial, job_of(), count=3)
    assert len(seen) == 3
    assert all((seen[i] != seen[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_sample_comes_from_the_plans_rate_and_the_sites_entropy(
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
    fake: Entropy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, asked = learner_of("head"), []

    def watched(entropy: Entropy, rows: int, rate: float) -> Any:
        asked.append((entropy, rows, rate))
        return np.arange(0)

    monkeypatch.setattr(sampling, "poisson", watched)
    examples = examples_of(learner)
    plan = plan_of(rate=0.25)
    steps(learner, examples, plan, learner.initial, job_of(), count=2, entropy=fake)
    assert asked == [(fake, len(examples), 0.25)] * 2


def test_the_per_example_gradients_are_gone_afterwards(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("lora")
    steps(learner, examples_of(learner), plan_of(), learner.initial, job_of(method="lora"))
    for p in learner.module.parameters():
        assert getattr(p, "grad_sample", None) is None
        assert p.grad is None


def test_batch_normalisation_is_refused() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(PrivacyError, match="batch norm"), dpsgd.per_example_gradients(net):
        pass
