"""Engines of either name: what a pass that fails leaves in the layers."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from fedmodel.gradients.engines import make_engine


@pytest.mark.parametrize("name", ["fast", "hooks"])
def test_a_pass_that_fails_leaves_nothing_in_the_layers(name: str) -> None:
    """It would be taken for a later batch's."""
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    own = [set(layer.__dict__) for layer in net.modules()]
    engine = make_engine(name, net, 4)
    with suppress(RuntimeError), engine.attached():
        engine.begin(2)
        net(torch.ones(2, 3)).backward(torch.ones(5))  # of another shape: nothing is passed back
        pytest.fail("it passed")
    assert [set(layer.__dict__) for layer in net.modules()] == own
