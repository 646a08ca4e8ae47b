"""A coordinator's step of gradient descent: learning rates by coordinate, and torch's SGD."""

from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.job import Train
from fedmodel.training import optim


@pytest.mark.parametrize("method", ["head", "ffa", "lora", "full"])
def test_each_coordinate_has_the_rate_of_its_optimiser_group(method: Any, learner_of: Any) -> None:
    learner, train = learner_of(method), Train(method=method, lr=0.25, head_lr=3.0)
    found = optim.rates(learner.module, learner.layout, train)
    assert found.dtype == np.float32
    assert found.shape == (learner.layout.total,)
    optimizer: Any = optim.make(learner.module, train)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(learner.module.named_parameters())
    for name, part in learner.layout.named(found).items():
        assert (part == rate[id(named[name])]).all(), name
        assert (part == (3.0 if "classifier" in name else 0.25)).all(), name


@pytest.mark.parametrize("method", ["head", "ffa", "lora", "full"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_descent_is_torchs_sgd(
    method: Any, decay: float, kind: Any, learner_of: Any, start_of: Any
) -> None:
    learner, vector = learner_of(method), start_of(learner_of(method))
    train = Train(method=method, lr=0.03, head_lr=0.7, weight_decay=decay)
    gradient = np.random.default_rng(1).standard_normal(vector.size).astype(kind)
    learner.load_vector(vector)
    optimizer = optim.make(learner.module, train)
    parts = learner.layout.named(gradient.astype(np.float32))
    for name, p in learner.module.named_parameters():
        if p.requires_grad:
            p.grad = torch.from_numpy(parts[name])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    expected = learner.flatten()
    rates = optim.rates(learner.module, learner.layout, train)
    change = optim.descent(rates, gradient, vector, decay)
    assert change.dtype == np.float32
    np.testing.assert_allclose(vector + change, expected, rtol=1e-6, atol=1e-7)


def test_a_descent_leaves_what_it_is_given() -> None:
    rates, gradient, vector = (np.full(3, x, dtype=np.float32) for x in (0.5, 2.0, 4.0))
    assert optim.descent(rates, gradient, vector, 0.25).tolist() == [-1.5] * 3
    assert optim.descent(rates, gradient, vector).tolist() == [-1.0] * 3
    assert (rates[0], gradient[0], vector[0]) == (0.5, 2.0, 4.0)
