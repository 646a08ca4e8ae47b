import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedmodel.errors import ProtocolError
from fedmodel.models import Layout
from tests.examples import examples


def _module(shapes: list[tuple[int, ...]], frozen: int = 0) -> nn.Module:
    net = nn.Module()
    for i, shape in enumerate(shapes):
        parameter = nn.Parameter(torch.randn(shape), requires_grad=i >= frozen)
        net.register_parameter(f"p{len(shapes) - i}", parameter)
    return net


shapes = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), min_size=1, max_size=5)


@pytest.mark.long
@given(shapes, st.integers(0, 2))
@settings(max_examples=examples(50), deadline=None)
def test_round_trip(sizes: list[tuple[int, ...]], frozen: int) -> None:
    net = _module(sizes, frozen)
    layout = Layout.of(net)
    assert list(layout.names) == sorted(n for n, p in net.named_parameters() if p.requires_grad)
    vector = layout.flatten(net)
    expected = [p.detach().flatten() for n, p in sorted(net.named_parameters()) if p.requires_grad]
    assert vector.tolist() == (torch.cat(expected).tolist() if expected else [])
    other = np.arange(layout.total, dtype=np.float32)
    kept = {n: p.clone() for n, p in net.named_parameters() if not p.requires_grad}
    layout.load_vector(net, other)
    assert np.array_equal(layout.flatten(net), other)
    assert all(torch.equal(dict(net.named_parameters())[n], p) for n, p in kept.items())
    assert np.array_equal(layout.from_named(layout.named(other)), other)
    assert Layout.of(net) == layout


def test_tied_parameters_stand_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert Layout.of(net).total == 9


def test_loading_is_in_place_and_keeps_types() -> None:
    net = nn.Linear(2, 2).to(torch.bfloat16)
    layout, weight = Layout.of(net), net.weight
    layout.load_vector(net, np.full(6, 2, dtype=np.float32))
    assert net.weight is weight
    assert weight.dtype == torch.bfloat16
    assert weight.tolist() == [[2, 2], [2, 2]]
    assert layout.flatten(net).dtype == np.float32


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(5, np.float32), "array of 6 numbers"),
        (np.zeros((6, 1), np.float32), "array of 6 numbers"),
        (np.zeros(6), "float64"),
        (np.array([0, 0, np.nan, 0, 0, 0], np.float32), "isn't finite"),
        (np.array([0, 0, 0, 0, 0, np.inf], np.float32), "isn't finite"),
    ],
)
def test_wrong_vectors_change_nothing(
    vector: "np.typing.NDArray[np.float32]", message: str
) -> None:
    net = nn.Linear(2, 2)
    layout = Layout.of(net)
    before = layout.flatten(net)
    with pytest.raises(ProtocolError, match=message):
        layout.load_vector(net, vector)
    assert np.array_equal(layout.flatten(net), before)


def test_another_model_is_refused() -> None:
    layout = Layout.of(nn.Linear(2, 2))
    for net in (nn.Linear(2, 3), nn.Linear(2, 2, bias=False)):
        with pytest.raises(ProtocolError, match="another model"):
            layout.flatten(net)
        with pytest.raises(ProtocolError, match="another model"):
            layout.load_vector(net, np.zeros(6, np.float32))


def test_wrong_names_and_shapes() -> None:
    layout = Layout.of(nn.Linear(2, 2))
    good = layout.named(np.zeros(6, np.float32))
    with pytest.raises(ProtocolError, match="missing or unknown: bias"):
        layout.from_named({"weight": good["weight"]})
    with pytest.raises(ProtocolError, match="missing or unknown: x"):
        layout.from_named({**good, "x": good["bias"]})
    with pytest.raises(ProtocolError, match=r"weight: expected shape \(2, 2\), got \(4,\)"):
        layout.from_named({**good, "weight": np.zeros(4, np.float32)})
    with pytest.raises(ProtocolError, match="finite"):
        layout.from_named({**good, "bias": np.full(2, np.nan, np.float32)})
