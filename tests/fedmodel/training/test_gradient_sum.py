"""A step's clipped sum without the step: against plain autograd, local training, and itself."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmodel.gradients.fastclip import engine as fast
from fedmodel.job import Privacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import local, optim
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round, Start
from tests.fedmodel.training.sums import METHODS, WAYS, F, sum_of


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the noise by zero."""
    monkeypatch.setattr(noise, "add_gaussian_", lambda entropy, total, std: None)


# -- against the oracle --------------------------------------------------------------------------


def units_of(examples: Examples, unit: str) -> list[list[int]]:
    """Return each unit's rows, by what the test knows of the texts."""
    if unit == "record":
        return [[row] for row in range(len(examples))]
    whose = ("p", "q", "p", "r", "p", "p", "s", "q", "p", "r", "p", "p", "s", "q")
    return [[i for i, w in enumerate(whose) if w == name] for name in dict.fromkeys(whose)]


def gradient_of(learner: Learner, examples: Examples, rows: list[int]) -> dict[str, F]:
    """Return the gradient of a unit's mean loss, each row through the network alone."""
    named = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    total = {n: np.zeros(p.shape) for n, p in named.items()}
    for row in rows:
        one = np.array([row])
        loss = cross_entropy(learner.logits(examples.batch(one)), examples.labels(one))
        found = torch.autograd.grad(loss, list(named.values()))
        for name, g in zip(named, found, strict=True):
            total[name] += g.double().numpy() / len(rows)
    return total


def layer_of(learner: Learner) -> dict[str, int]:
    """Return which layer each trained parameter belongs to."""
    layers = [m for m in learner.trained.modules() if any(True for _ in m.parameters(False))]
    owner = {id(p): i for i, m in enumerate(layers) for p in m.parameters(recurse=False)}
    named = learner.module.named_parameters()
    return {n: owner[id(p)] for n, p in named if p.requires_grad}


def naive(
    learner: Learner, examples: Examples, vector: Any, unit: str, clipping: str
) -> tuple[F, float]:
    """Return the sum of all units' clipped gradients, sorted by name, and a C that clips some."""
    learner.load_vector(vector)
    learner.module.train()
    alone = [gradient_of(learner, examples, rows) for rows in units_of(examples, unit)]
    names = sorted(alone[0])
    layers = layer_of(learner) if clipping == "per-layer" else dict.fromkeys(names, 0)
    count = len(set(layers.values()))
    norms = [
        [
            np.sqrt(sum((g[n] ** 2).sum() for n in names if layers[n] == layer))
            for layer in sorted(set(layers.values()))
        ]
        for g in alone
    ]
    part = float(np.median(norms))
    factors = np.minimum(1, part / np.array(norms))
    assert 0 < (factors < 1).sum() < factors.size
    place = {layer: i for i, layer in enumerate(sorted(set(layers.values())))}
    parts = [
        sum(f[place[layers[n]]] * g[n] for f, g in zip(factors, alone, strict=True)).ravel()
        for n in names
    ]
    return np.concatenate(parts), part * np.sqrt(count)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("engine", "unit", "clipping"), WAYS)
def test_it_is_the_sum_of_the_clipped_gradients_in_the_layouts_order(
    method: str,
    engine: Any,
    unit: Any,
    clipping: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    if method == "head" and clipping == "per-layer":
        clipping = "flat"  # there is one layer
    learner = learner_of(method)
    examples = examples_of(learner, patients=True if unit == "patient" else None)
    vector = start_of(learner)
    expected, clip = naive(learner, examples, vector, unit, clipping)
    privacy = Privacy(unit=unit, clipping=clipping, rows_per_patient=8)
    job = job_of(privacy, method=method)
    plan = plan_of(clip=clip, unit=unit, clipping=clipping)
    found = sum_of(learner, examples, plan, job, vector, engine=engine, physical=5)
    assert found.shape == (learner.layout.total,)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_large_models_sum_is_float32(
    method: str,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, job = learner_of(method), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    wide = sum_of(learner, examples, plan_of(), job, vector)
    monkeypatch.setattr(fast, "_WIDE_UP_TO", 1)
    found = local.gradient(learner, examples, job, vector, plan_of(), Round())
    assert found.dtype == np.float32
    # Its units are clipped to 0.998 C, for the rounding.
    clipped = wide * (1 - 2e-3) / (1 - 1e-4)
    np.testing.assert_allclose(found, clipped, atol=1e-5 * np.abs(wide).max())


# -- against what a site does by itself ----------------------------------------------------------


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_step_with_it_is_local_trainings(
    method: str,
    decay: float,
    silent: None,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    examples, vector = examples_of(learner), start_of(learner)
    train = {"method": method, "steps": 1, "lr": 0.05, "head_lr": 0.4, "weight_decay": decay}
    job, plan = job_of(Privacy(mechanism="dpsgd"), **train), plan_of(expected_batch=6)
    start = Start(vector=vector)
    result = local.train(learner, examples, job, start, Round(), steps=1, plan=plan, seed=Seed(1))
    total = sum_of(learner, examples, plan, job, vector)
    rates = optim.rates(learner.module, learner.layout, job.train)
    change = optim.descent(rates, total / plan.expected_batch, vector, decay)
    assert change.dtype == np.float32
    np.testing.assert_allclose(
        vector + change, vector + result.change, atol=1e-5 * np.abs(result.change).max()
    )


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("clipping", ["flat", "per-layer"])
def test_sites_sums_add_up_to_that_of_all_rows(
    method: str,
    clipping: Any,
    texts: list[str],
    learner_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(Privacy(clipping=clipping), method=method)
    plan, vector = plan_of(clip=0.3, rate=1.0, clipping=clipping), start_of(learner)

    def total(rows: range) -> F:
        labels = ["abc"[i % 3] for i in rows]
        examples = prepare(learner, [texts[i] for i in rows], labels, ("a", "b", "c"), 16)
        return sum_of(learner, examples, plan, job, vector)

    whole = total(range(14))
    parts = total(range(5)) + total(range(5, 6)) + total(range(6, 14))
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())


def test_the_sample_is_poisson_at_the_plans_rate(
    fake: Entropy,
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, asked = learner_of("head"), []
    real = sampling.poisson

    def watched(*arguments: Any) -> Any:
        asked.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(sampling, "poisson", watched)
    job = job_of(Privacy(unit="patient"))
    for patients, units in ((None, 14), (True, 4)):
        examples = examples_of(learner, patients=patients)
        plan = plan_of(rate=0.25, unit="patient")
        sum_of(learner, examples, plan, job, learner.initial, entropy=fake)
        assert asked == [(fake, units, 0.25)]
        asked.clear()


# -- what it bounds, and what adds nothing -------------------------------------------------------


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("engine", "unit", "clipping"), WAYS[:4])
def test_one_unit_is_at_most_c(
    method: str,
    engine: Any,
    unit: Any,
    clipping: Any,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    examples = examples_of(learner, patients=True if unit == "patient" else None)
    job = job_of(Privacy(unit=unit, clipping=clipping), method=method)
    plan, vector, found = plan_of(clip=0.013, unit=unit), start_of(learner), []
    for one in range(0, len(examples.units), 3):
        draw([one])
        total = sum_of(learner, examples, plan, job, vector, engine=engine)
        found.append(np.linalg.norm(total))
    assert max(found) <= 0.013
    assert max(found) > 0.013 * (1 - 1e-3)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("method", METHODS)
def test_an_empty_sample_gives_zeros(
    method: str,
    engine: Any,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    assert sum_of(learner, examples, plan_of(), job, vector, engine=engine).any()
    draw([])  # nothing of the sum before is left
    found = sum_of(learner, examples, plan_of(), job, vector, engine=engine)
    assert found.shape == vector.shape
    assert not found.any()


def test_a_site_without_rows_gives_zeros(learner_of: Any, job_of: Any, plan_of: Any) -> None:
    learner = learner_of("head")
    examples = Examples(learner, [], torch.zeros(0, dtype=torch.int64), 16)
    assert not sum_of(learner, examples, plan_of(rate=0.5), job_of(), learner.initial).any()


def test_a_row_that_isnt_finite_adds_nothing(
    draw: Any, learner_of: Any, examples_of: Any, start_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, job = learner_of("head"), job_of()
    examples, vector = examples_of(learner), start_of(learner)
    draw([0, 1, 2, 4])
    expected = sum_of(learner, examples, plan_of(), job, vector)
    features = examples._features.clone()
    features[3] = float("inf")
    examples._features = features
    draw([0, 1, 2, 3, 4])
    found = sum_of(learner, examples, plan_of(), job, vector)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_a_parameter_that_no_unit_reached_gives_zeros(
    learner_of: Any, examples_of: Any, start_of: Any, job_of: Any, plan_of: Any, monkeypatch: Any
) -> None:
    learner, job = learner_of("lora"), job_of(method="lora")
    examples, vector = examples_of(learner), start_of(learner)
    expected = sum_of(learner, examples, plan_of(), job, vector)
    left_out = learner.layout.names[1]
    real = fast.FastClip.add

    def add(self: Any, *rest: Any, **more: Any) -> None:
        real(self, *rest, **more)
        dict(learner.module.named_parameters())[left_out].summed_grad = None

    monkeypatch.setattr(fast.FastClip, "add", add)
    found = sum_of(learner, examples, plan_of(), job, vector)
    named = learner.layout.named(found.astype(np.float32))
    wanted = learner.layout.named(expected.astype(np.float32))
    assert wanted[left_out].any()
    assert not named[left_out].any()
    for name in learner.layout.names:
        if name != left_out:
            np.testing.assert_array_equal(named[name], wanted[name])
