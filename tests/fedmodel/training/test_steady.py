"""Shapes are proven by trying, and what a machine decides doesn't hang on anybody's rows."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fedmodel.training.steady import Bits, Steady, Witness, witness


class Machine:
    """Stands for a network on a machine that computes alike in passes of some sizes only."""

    def __init__(self, *alike: int, places: bool = True) -> None:
        self.alike, self.places, self.tried = alike, places, set[int]()

    def __call__(self, rows: NDArray[np.int64], size: int) -> Bits:
        self.tried.add(size)
        bits = torch.from_numpy(rows) * 1000 + (0 if size in self.alike else size)
        if not self.places:
            bits = bits + torch.arange(len(rows))
        return {"output": bits}


def shapes(machine: Machine, count: int, size: int = 64, device: str = "cpu") -> Any:
    steady = Steady(device)
    steady.prove("kind", 8, size, count, machine)
    return steady.shapes("kind", size).cut(8, count)


def test_passes_are_as_large_as_they_agree() -> None:
    assert shapes(Machine(4, 8, 16, 32), 21) == [(16, 16), (5, 8)]
    # 32 is another product: what agrees ends before.
    assert shapes(Machine(4, 8, 16), 44) == [(16, 16), (16, 16), (12, 16)]


def test_where_a_place_decides_every_row_is_alone() -> None:
    assert shapes(Machine(*(1 << i for i in range(11)), places=False), 5) == [(1, 1)] * 5


@pytest.mark.parametrize("first", [1, 3, 40])
def test_what_comes_of_a_row_is_the_same_whatever_rows_there_are(first: int) -> None:
    machine, steady = Machine(4, 8, 16, 32, 64), Steady("cpu")
    for count in (first, 50):
        steady.prove("kind", 8, 64, count, machine)
        assert steady.shapes("kind", 64).cut(8, 1) == [(1, 4)]
    assert steady.shapes("kind", 64).cut(8, 41) == [(32, 32), (9, 16)]
    assert not steady.due("kind", 8, 64, 50)


def test_with_a_smaller_physical_batch_less_is_alike() -> None:
    machine = Machine(2, 4, 8)
    assert shapes(machine, 5, size=2) == [(2, 2), (2, 2), (1, 2)]
    assert machine.tried == {2}


def test_a_gpu_has_one_shape_or_none() -> None:
    machine = Machine(64)
    assert shapes(machine, 70, device="cuda") == [(64, 64), (6, 64)]
    assert machine.tried == {64}  # whatever there is
    assert shapes(Machine(64, places=False), 2, device="cuda") == [(1, 1)] * 2


def test_a_witness_sees_every_layer_there_and_back() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def bits(values: torch.Tensor) -> Bits:
        with Witness(net, 2, 2) as seen:
            net(values).sum().backward()
        return seen.bits

    first, again = bits(x), bits(x)
    assert len(first) == 6  # three layers, there and back
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = x.detach().clone()
    other[1] += 1.0  # whether a layer rounds the last place away is the processor's matter
    changed = bits(other.requires_grad_())
    assert [first[n][0] == changed[n][0] for n in first] == [True] * 6
    assert first["0 0"][1] != changed["0 0"][1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_witness_sees_every_bit_of_its_own_row_only(dtype: torch.dtype) -> None:
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[values.element_size()]
    last = 8 * values.element_size() - 1
    for place in range(last + 1):
        changed = values.clone()
        changed.view(bits)[1, 2] ^= 1 << place if place < last else -(1 << last)
        before, after = witness(values, 3, 3), witness(changed, 3, 3)
        assert before is not None
        assert after is not None
        assert torch.eq(before, after).tolist() == [True, False, True]


def test_a_pass_without_padding_is_tried_too() -> None:
    # Where no row of a pass is padded, libraries leave out the mask: another kernel.
    class Masked(Machine):
        def __call__(self, rows: NDArray[np.int64], size: int) -> Bits:
            unpadded = len(rows) == size and not rows.any()
            return {"output": super().__call__(rows, size)["output"] + int(unpadded)}

    assert shapes(Masked(4, 8, 16), 5) == [(1, 1)] * 5
