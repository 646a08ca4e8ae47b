"""``privacy=distributed`` through the real apps: DP-SGD on the union of all sites' rows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import fedmodel.mechanisms.shares
from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.planning import plan_of
from fedmodel.job import ProposedPrivacy
from fedmodel.mechanisms.shares import Shares
from fedmodel.training import local
from fedmodel.training.learner import resident
from fedmodel.training.round import Round
from server.optimizer import ServerOptimizer
from simulations.faults import Fault
from tests.jobs import CPU

POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)
WIDE = replace(POOLED, clip=4.0, rate=1.0)


# -- without noise -------------------------------------------------------------------------------


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Round to a fine grid, and add nothing."""

    def rounded(entropy: Any, total: Any, shares: Shares) -> Any:
        assert float(np.abs(total).max()) <= shares.limit
        whole = np.rint(total.astype(np.float64) / shares.grid)
        return whole.astype(np.int64).astype(np.uint32)

    monkeypatch.setattr(fedmodel.mechanisms.shares, "noised", rounded)
    monkeypatch.setattr(fedmodel.mechanisms.shares, "GRID_BITS", 15)
    monkeypatch.setattr(fedmodel.mechanisms.shares, "_LEAST", 2.0**15)


def gradients(lab: Any, job: Any) -> Callable[[Any], Any]:
    """Return what gives by how much a step on all rows changes the parameters, by the textbook."""
    learner = resident(job, CPU)
    rows = lab.rows
    batch = learner.tokenizer(
        rows.texts, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    labels = torch.tensor([("a", "b").index(x) for x in rows.labels])

    def change(vector: Any) -> Any:
        learner.load_vector(vector)
        groups = [
            {"params": [p], "lr": job.train.head_lr if "classifier" in n else job.train.lr}
            for n, p in learner.module.named_parameters()
            if p.requires_grad
        ]
        optimizer = torch.optim.SGD(groups, weight_decay=job.train.weight_decay)
        optimizer.zero_grad()
        out = learner.module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        torch.autograd.backward(cross_entropy(out.logits, labels))
        optimizer.step()
        learner.module.zero_grad(set_to_none=True)
        return learner.flatten() - vector

    return change


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "more"),
    [("head", {}), ("lora", {"weight_decay": 0.01}), ("full", {"lr": 0.05})],
)
@pytest.mark.usefixtures("noiseless")
def test_without_noise_it_is_gradient_descent_on_all_rows(
    lab: Any, method: str, more: dict[str, Any]
) -> None:
    job = lab.job(privacy=replace(WIDE, clip=50.0), rounds=3, method=method, **more)
    ran = lab.run(job)
    change, vector = gradients(lab, job), ran.start.copy()
    for _ in range(3):
        vector = vector + change(vector)
    scale = float(np.abs(vector - ran.start).max())
    assert scale > 1e-3
    np.testing.assert_allclose(ran.vector, vector, atol=2e-3 * scale)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("noiseless")
def test_fedavgm_is_sgd_with_momentum(lab: Any) -> None:
    aggregation = {"optimizer": "fedavgm", "momentum": 0.7}
    job = lab.job(privacy=WIDE, rounds=4, aggregation=aggregation)
    ran = lab.run(job)
    change, vector = gradients(lab, job), ran.start.copy()
    velocity = np.zeros_like(vector)
    for _ in range(4):
        velocity = np.float32(0.7) * velocity + change(vector)
        vector = vector + velocity
    np.testing.assert_allclose(ran.vector, vector, atol=1e-3 * np.abs(vector - ran.start).max())


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("noiseless")
def test_fedadam_is_flowers_on_the_mean_step(lab: Any) -> None:
    aggregation = {"optimizer": "fedadam", "lr": 0.02, "tau": 0.01}
    job = lab.job(privacy=WIDE, rounds=3, aggregation=aggregation)
    ran = lab.run(job)
    change, vector = gradients(lab, job), ran.start.copy()
    optimizer = ServerOptimizer(job.aggregation)
    for round_ in (1, 2, 3):
        vector = optimizer.step(round_, vector, change(vector))
    np.testing.assert_allclose(ran.vector, vector, atol=5e-3 * np.abs(vector - ran.start).max())


@pytest.mark.long
@pytest.mark.usefixtures("noiseless")
def test_a_units_gradient_is_clipped_whatever_site_it_is_at(lab: Any) -> None:
    small = replace(POOLED, clip=0.05, rate=1.0)
    ran = lab.run(lab.job(privacy=small, rounds=1, head_lr=1.0))
    moved = float(np.linalg.norm(ran.vector - ran.start))
    assert 0 < moved <= 0.05 * (1 + 1e-4)  # a mean of vectors no longer than C


# -- with noise ----------------------------------------------------------------------------------


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no row contribute anything, so that what is released is the noise."""

    def nothing(
        learner: Any, examples: Any, privacy: Any, vector: Any, plan: Any, round_: Round
    ) -> Any:
        round_.before_step(plan.spend(round_.number, 1))
        return np.zeros(learner.layout.total)

    monkeypatch.setattr(local, "gradient", nothing)


def noise_of(ran: Any, sites: int) -> Any:
    """Return the released sum's noise, over the σ·C that the ledgers are charged for."""
    plan = plan_of(ran.job)
    rate = ran.job.train.head_lr
    total = (ran.vector - ran.start).astype(np.float64) / -rate * sites * plan.expected_batch
    return total / plan.noise_std(1)


def assert_variance(values: Any, expected: float) -> None:
    """Check a variance at 5 standard errors (6e-7 of right ones fail)."""
    error = 5 * (2 / values.size) ** 0.5
    assert np.var(values) == pytest.approx(expected, rel=error + 1e-3)
    assert abs(values.mean()) < 5 * (expected / values.size) ** 0.5
    cut = np.abs(values / expected**0.5)
    assert np.mean(cut > 1.96) == pytest.approx(0.05, abs=5 * (0.05 / values.size) ** 0.5)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(("gone", "sites"), [([], 6), ([4], 5)])
@pytest.mark.usefixtures("empty")
def test_the_noise_is_what_was_promised_with_the_fewest_survivors_and_more_with_all(
    lab: Any, gone: list[int], sites: int
) -> None:
    rows = lab.sites(6)
    job = lab.job(
        privacy=POOLED, sites=rows, rounds=1, method="full", lr=1.0, head_lr=1.0,
        hide={"survivors": 5, "colluders": 1},
    )  # fmt: skip
    ran = lab.run(job, rows, faults=[Fault(what="back", kind="train", node=n) for n in gone])
    assert ran.rows[0]["updates"] == sites
    honest = 4
    values = noise_of(ran, sites)
    assert values.size > 20_000
    assert_variance(values, sites / honest)
    # Against the coordinator and its colluder: their shares are known to them.
    assert sites - 1 >= honest


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("empty")
def test_two_rounds_and_two_runs_have_noise_of_their_own(lab: Any) -> None:
    job = lab.job(privacy=POOLED, rounds=1, method="lora", lr=1.0, head_lr=1.0)
    one, other = noise_of(lab.run(job), 5), noise_of(lab.run(job), 5)
    assert abs(np.corrcoef(one, other)[0, 1]) < 6 / one.size**0.5


@pytest.mark.long
def test_the_ledgers_say_one_step_a_round_at_the_jobs_rate_and_noise(lab: Any) -> None:
    job = lab.job(privacy=replace(POOLED, rate=0.5), rounds=3)
    plan = plan_of(job)
    ran = lab.run(job)
    for node in ran.sites:
        entries = ran.spent(node)
        assert [(e.round, e.steps) for e in entries] == [(1, 1), (2, 1), (3, 1)]
        assert {e.spend().rate for e in entries} == {0.5}
        assert {e.spend().noise_multiplier for e in entries} == {plan.noise_multiplier}
        spent = epsilon([e.spend() for e in entries], job.privacy.delta)
        assert 0.9 * job.privacy.epsilon < spent <= job.privacy.epsilon
    assert_told_nothing(ran)


@pytest.mark.slow
@pytest.mark.long
def test_no_site_tells_a_loss_or_what_it_has_drawn(lab: Any) -> None:
    assert_told_nothing(lab.run(lab.job(privacy=POOLED)))


def assert_told_nothing(ran: Any) -> None:
    for crossed in ran.grid.replies("train"):
        assert crossed.names == {"config/version", "config/head", "config/proof"}
        assert set(crossed.arrays) == {"parcels/secagg", "parcels/masked"}
    assert {len(c.arrays["parcels/masked"]) for c in ran.grid.replies("train")} == {
        len(ran.grid.replies("train")[0].arrays["parcels/masked"])
    }
