"""The server's optimisers against their published formulas."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedmodel.job import Aggregation
from server.optimizer import ServerOptimizer

ROUNDS = 3
MEANS = np.random.default_rng(4).standard_normal((6, 17)).astype(np.float32) * 0.1
START = np.random.default_rng(5).standard_normal(17).astype(np.float32)
F = NDArray[np.float64]

JOBS = [
    Aggregation(optimizer="fedavg"),
    Aggregation(optimizer="fedavgm", lr=0.7, momentum=0.8),
    Aggregation(optimizer="fedavgm", lr=1.0, momentum=0.0),
    Aggregation(optimizer="fedadam", lr=0.05, beta1=0.8, beta2=0.95, tau=1e-2),
]
NAMES = ["fedavg", "fedavgm", "fedavgm-plain", "fedadam"]


def published(job: Aggregation) -> Iterator[F]:
    """Yield the parameters after each round."""
    x = START.astype(np.float64)
    momentum = m = v = np.zeros_like(x)
    for t, mean in enumerate(MEANS.astype(np.float64), start=1):
        if job.optimizer == "fedavg":  # arXiv 1602.05629
            x = x + mean
        elif job.optimizer == "fedavgm":  # arXiv 1909.06335, section 4.3
            momentum = job.momentum * momentum + mean
            x = x + job.lr * momentum
        else:  # arXiv 2003.00295, algorithm 2; Flower adds Adam's bias correction, at t + 1
            m = job.beta1 * m + (1 - job.beta1) * mean
            v = job.beta2 * v + (1 - job.beta2) * mean**2
            rate = job.lr * np.sqrt(1 - job.beta2 ** (t + 1)) / (1 - job.beta1 ** (t + 1))
            x = x + rate * m / (np.sqrt(v) + job.tau)
        yield x


@pytest.mark.parametrize("job", JOBS, ids=NAMES)
def test_steps_are_the_published_formula(job: Aggregation) -> None:
    optimizer, x = ServerOptimizer(job), START
    for t, expected in zip(range(ROUNDS), published(job), strict=False):
        x = optimizer.step(t + 1, x, MEANS[t])
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("job", JOBS, ids=NAMES)
def test_a_restored_optimiser_goes_on_bit_for_bit(job: Aggregation) -> None:
    one, x = ServerOptimizer(job), START
    assert one.state() == {}
    for t in range(ROUNDS):
        x = one.step(t + 1, x, MEANS[t])
    two = ServerOptimizer(job)
    two.restore({name: value.copy() for name, value in one.state().items()})
    y = x.copy()
    for t in range(ROUNDS, 6):
        x, y = one.step(t + 1, x, MEANS[t]), two.step(t + 1, y, MEANS[t])
        assert x.tobytes() == y.tobytes()
    stateful = job.optimizer == "fedadam" or (job.optimizer == "fedavgm" and job.momentum > 0)
    assert bool(one.state()) == stateful


@pytest.mark.parametrize("job", JOBS, ids=NAMES)
def test_a_step_leaves_its_arguments_as_they_were(job: Aggregation) -> None:
    optimizer: Any = ServerOptimizer(job)
    x, mean = START.copy(), MEANS[0].copy()
    for t in (1, 2):
        optimizer.step(t, x, mean)
    np.testing.assert_array_equal(x, START)
    np.testing.assert_array_equal(mean, MEANS[0])
