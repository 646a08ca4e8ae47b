"""Federations that must equal something simpler, through the real apps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmodel.data import Rows
from fedmodel.job import Aggregation, Federation, Job, Model, Privacy, Train
from fedmodel.mechanisms import noise
from fedmodel.training.learner import resident
from server.coordinator import Silent
from simulations.parties import Parties
from simulations.play import play
from tests.conftest import new_run
from tests.jobs import CPU, real_job

TEXTS = [f"note {i}: {'fever and cough' if i % 3 else 'pain in the knee'}" for i in range(12)]
ROWS = Rows(TEXTS, ["ab"[i % 3 == 0] for i in range(12)])


def job_of(seed: int = 0, **train: Any) -> Job:
    defaults: dict[str, Any] = {
        "method": "head",
        "rounds": 3,
        "steps": 2,
        "batch_size": 12,
        "momentum": 0.5,
    }
    return real_job(
        model=Model(labels=("a", "b"), max_length=16),
        train=Train(**(defaults | train)),
        federation=Federation(min_rows=1),
        seed=seed,
    )


def run(folder: Path, job: Job, sites: dict[str, Rows]) -> Any:
    """Return initial and final parameters of a federation."""
    job = replace(job, federation=replace(job.federation, sites=len(sites)))
    learner = resident(job, CPU)
    parties = Parties(
        job=job, performance=CPU, sites=sites, test=ROWS, learner=learner, rows_sha256=""
    )
    start = learner.initial.copy()
    result = play(parties, new_run(folder), Silent()).result
    vector = result.vector
    assert result.rounds == job.train.rounds
    assert vector.dtype == np.float32
    assert (vector != start).any()
    return start, vector


def pooled(job: Job, start: Any, steps: int) -> Any:
    """Train the whole network on all rows, every step, by the textbook."""
    learner = resident(job, CPU)
    learner.load_vector(start)
    batch = learner.tokenizer(
        TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    labels = torch.tensor([("a", "b").index(x) for x in ROWS.labels])
    head = [p for n, p in learner.module.named_parameters() if "classifier" in n]
    rest = [p for n, p in learner.module.named_parameters() if "classifier" not in n]
    groups = [
        {"params": [p for p in params if p.requires_grad], "lr": lr}
        for params, lr in ((head, job.train.head_lr), (rest, job.train.lr))
    ]
    optimizer = torch.optim.SGD([g for g in groups if g["params"]], momentum=job.train.momentum)
    for _ in range(steps):
        optimizer.zero_grad()
        out = learner.module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        torch.autograd.backward(cross_entropy(out.logits, labels))
        optimizer.step()
    learner.module.zero_grad(set_to_none=True)
    return learner.flatten()


def assert_equal(found: Any, expected: Any, start: Any) -> None:
    scale = float(np.abs(expected - start).max())
    assert scale > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "lora"])
def test_equal_sites_with_equal_rows_are_one_site(method: str, tmp_path: Path) -> None:
    job = job_of(method=method)
    start, one = run(tmp_path / "one", job, {"a": ROWS})
    _, three = run(tmp_path / "three", job, {"a": ROWS, "b": ROWS, "c": ROWS})
    assert_equal(three, one, start)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "ffa", "full"])
def test_one_site_and_one_round_is_plain_training(method: str, tmp_path: Path) -> None:
    job = job_of(method=method, rounds=1, steps=4)
    start, found = run(tmp_path / "run", job, {"a": ROWS})
    assert_equal(found, pooled(job, start, 4), start)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_one_step_a_round_is_gradient_descent_on_all_rows(weights: Any, tmp_path: Path) -> None:
    job = replace(
        job_of(rounds=3, steps=1, batch_size=4, momentum=0.0),
        aggregation=Aggregation(weights=weights),
    )
    sites = {name: ROWS.select(range(4 * i, 4 * i + 4)) for i, name in enumerate("abc")}
    start, found = run(tmp_path / "run", job, sites)
    assert_equal(found, pooled(job, start, 3), start)


@pytest.mark.long
def test_private_sites_without_noise_and_clip_are_plain_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "add_gaussian_", lambda entropy, total, std: None)
    job = job_of()
    private = replace(job, privacy=Privacy(mechanism="dpsgd", delta=1e-3, clip=1e6, rate=1.0))
    sites = {"a": ROWS, "b": ROWS}
    start, plain = run(tmp_path / "plain", job, sites)
    _, found = run(tmp_path / "private", private, sites)
    assert_equal(found, plain, start)


@pytest.mark.slow
@pytest.mark.long
def test_a_federation_without_privacy_repeats_bit_for_bit(tmp_path: Path) -> None:
    job = job_of(batch_size=5)
    sites = {"a": ROWS.select(range(6)), "b": ROWS.select(range(6, 12))}
    (_, one), (_, two) = (run(tmp_path / name, job, sites) for name in "12")
    assert one.tobytes() == two.tobytes()
    # Another seed is another network too.
    _, other = run(tmp_path / "3", job_of(batch_size=5, seed=1), sites)
    assert one.tobytes() != other.tobytes()
