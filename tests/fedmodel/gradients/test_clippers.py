"""From norms to factors: flat, per layer, and a norm that follows a quantile."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedmodel.gradients.clippers import Adaptive, Flat, PerLayer, make_clipper
from fedmodel.gradients.fastclip import engine as fastclip
from fedmodel.job import Privacy
from fedmodel.mechanisms import noise
from fedmodel.seeds import Entropy
from tests.examples import examples

KEEP = settings(max_examples=examples(60), deadline=None, derandomize=True)


def three() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 1, bias=False))


def squares_of(module: nn.Module, values: list[list[float]]) -> dict[nn.Parameter, Tensor]:
    return {
        p: torch.tensor(v, dtype=torch.float64).square()
        for p, v in zip(module.parameters(), values, strict=True)
    }


floats = st.floats(0, 1e18, allow_nan=False) | st.sampled_from([1e-30, 1.0, 1e12])


@pytest.mark.long
@KEEP
@given(st.lists(floats, min_size=1, max_size=5), st.floats(1e-6, 1e6))
def test_flat_factors_bound_every_unit(norms: list[float], clip: float) -> None:
    p = nn.Parameter(torch.zeros(1))
    found = Flat(clip).factors({p: torch.tensor(norms, dtype=torch.float64).square()})
    assert isinstance(found, Tensor)
    assert found.dtype == torch.float32
    assert ((found >= 0) & (found <= 1)).all()
    reached = found.double() * torch.tensor(norms, dtype=torch.float64)
    assert (reached <= clip).all()
    for factor, norm in zip(found.tolist(), norms, strict=True):
        assert factor == 1 or norm * factor == pytest.approx(clip, rel=2e-4)


@pytest.mark.parametrize("clip", [1e-30, 1.05e-28, 1e-3])
def test_factors_of_few_bits_are_rounded_down(clip: float) -> None:
    norms = clip * 10.0 ** np.linspace(38, 46, 200)
    square = torch.from_numpy(norms**2)
    found = Flat(clip).factors({nn.Parameter(torch.zeros(1)): square})
    assert isinstance(found, Tensor)
    assert (found.double().numpy() * norms <= clip).all()


def test_the_norm_is_over_all_parameters() -> None:
    module = nn.Linear(2, 2)
    found = Flat(1.0).factors(squares_of(module, [[3.0, 0.3], [4.0, 0.4]]))
    np.testing.assert_allclose(np.asarray(found), [0.2, 1.0], rtol=2e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("per_layer", [False, True])
def test_a_unit_that_isnt_finite_anywhere_is_left_out_everywhere(
    bad: float, per_layer: bool
) -> None:
    module = three()
    values = [[1.0, 1.0, 1.0]] * 5
    values[3] = [1.0, bad, 1.0]
    clipper = PerLayer(9.0, module) if per_layer else Flat(9.0)
    found: Any = clipper.factors(squares_of(module, values))
    for factors in found.values() if per_layer else [found]:
        assert factors[1] == 0
        assert (factors[[0, 2]] > 0).all()
    assert clipper.dropped == 1


@pytest.mark.long
@KEEP
@given(st.lists(st.lists(floats, min_size=2, max_size=2), min_size=5, max_size=5))
def test_layers_together_stay_within_the_norm(values: list[list[float]]) -> None:
    module, clip = three(), 0.7
    squares = squares_of(module, values)
    found: Any = PerLayer(clip, module).factors(squares)
    assert set(found) == set(module.parameters())
    total: Any = sum((found[p].double() ** 2) * squares[p] for p in found)
    assert (total.sqrt() <= clip).all()
    # A layer's weight and bias are clipped as one, each layer to the same share.
    params = list(module.parameters())
    assert torch.equal(found[params[0]], found[params[1]])
    layer = (found[params[0]].double() ** 2 * (squares[params[0]] + squares[params[1]])).sqrt()
    assert (layer <= clip / math.sqrt(3)).all()


def test_a_layer_that_no_unit_reached_counts_all_the_same() -> None:
    module = three()
    squares = squares_of(module, [[1e3]] * 5)
    del squares[list(module.parameters())[4]]
    found: Any = PerLayer(0.6, module).factors(squares)
    reached = found[next(iter(squares))].double() * math.sqrt(2e6)
    assert float(reached) == pytest.approx(0.6 / math.sqrt(3), rel=2e-4)


def test_a_frozen_layer_takes_no_share() -> None:
    module = three()
    module[1].requires_grad_(False)  # type: ignore[index]
    assert len(PerLayer(1.0, module)._layers) == 2


# -- adaptive ------------------------------------------------------------------------------------


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Take the noise off the released count; the list gets counts and noises."""
    seen: list[tuple[float, float]] = []

    def add(entropy: Entropy, total: Any, std: float) -> Any:
        seen.append((float(total[0]), std))
        return total

    monkeypatch.setattr(noise, "add_gaussian", add)
    return seen


def one(norms: list[float]) -> dict[nn.Parameter, Tensor]:
    return {nn.Parameter(torch.zeros(1)): torch.tensor(norms, dtype=torch.float64).square()}


def test_the_count_is_released_with_noise_and_moves_the_norm(
    counts: list[tuple[float, float]], plan_of: Any
) -> None:
    plan = plan_of(clipping="adaptive", clip_noise=7.0, expected_batch=4)
    clipper = Adaptive(plan, Entropy(), clip=1.0, quantile=0.25, rate=0.2)
    clipper.factors(one([0.5, 2.0, 1.0]))
    clipper.factors(one([3.0]))  # another batch of the same step
    assert clipper.clip == 1.0  # nothing is released before the step
    clipper.end_step()
    assert counts == [(2 - 4 / 2, 7.0)]
    assert clipper.clip == pytest.approx(math.exp(-0.2 * (0.5 - 0.25)))
    clipper.end_step()  # an empty step: half of the units, as far as anybody can tell
    assert counts[1] == (0.0, 7.0)


@KEEP
@given(
    st.lists(st.floats(0, 10), min_size=0, max_size=6),
    st.floats(0, 10) | st.just(math.nan),
)
def test_one_unit_changes_the_count_by_a_half(norms: list[float], more: float) -> None:
    plan: Any = None
    found = []
    for values in (norms, [*norms, more]):
        clipper = Adaptive(plan, Entropy(), clip=2.0, quantile=0.5, rate=0.2)
        if values:
            clipper.factors(one(values))
        found.append(clipper._count)
    assert abs(found[1] - found[0]) == 0.5


def test_the_norm_finds_its_quantile(counts: list[tuple[float, float]], plan_of: Any) -> None:
    plan = plan_of(clipping="adaptive", expected_batch=100)
    clipper = Adaptive(plan, Entropy(), clip=50.0, quantile=0.3, rate=0.2)
    norms = [float(i) for i in range(1, 101)]
    for _ in range(200):
        clipper.factors(one(norms))
        clipper.end_step()
    assert clipper.clip == pytest.approx(30, abs=2)


def test_a_share_outside_0_and_1_moves_the_norm_no_further(
    monkeypatch: pytest.MonkeyPatch, plan_of: Any
) -> None:
    for noised, share in ((1e9, 1.0), (-1e9, 0.0)):
        monkeypatch.setattr(noise, "add_gaussian", lambda *_, n=noised: np.array([n]))
        clipper = Adaptive(plan_of(), Entropy(), clip=1.0, quantile=0.5, rate=0.2)
        clipper.end_step()
        assert clipper.clip == pytest.approx(math.exp(-0.2 * (share - 0.5)))


@pytest.mark.parametrize(
    ("clipping", "kind"), [("flat", Flat), ("per-layer", PerLayer), ("adaptive", Adaptive)]
)
def test_the_job_chooses(clipping: Any, kind: type, plan_of: Any) -> None:
    privacy, plan = Privacy(clipping=clipping), plan_of(clip=0.4, clipping=clipping)
    made = make_clipper(privacy, plan, three(), Entropy(), None)
    assert type(made) is kind
    assert made.clip == 0.4
    kept = make_clipper(privacy, plan, three(), Entropy(), 0.1)
    assert kept.clip == (0.1 if clipping == "adaptive" else 0.4)


@pytest.mark.parametrize("clipping", ["flat", "per-layer", "adaptive"])
def test_where_the_sum_is_float32_units_are_clipped_further(
    clipping: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = torch.nn.Linear(2, 1, bias=False)
    plan = plan_of(clipping=clipping, clip=1.0)
    found = []
    for most, few in ((5, 99), (1, 99), (1, 0)):
        monkeypatch.setattr(fastclip, "_WIDE_UP_TO", most)
        monkeypatch.setattr(fastclip, "_FEW_UNITS", few)
        clipper = make_clipper(Privacy(clipping=clipping), plan, module, Entropy(), None)
        factors = clipper.factors({module.weight: torch.tensor([4.0], dtype=torch.float64)})
        own = factors[module.weight] if isinstance(factors, dict) else factors
        found.append(2 * float(own[0]))
    assert found == pytest.approx([1 - 1e-4, 1 - 2e-3, 1 - 1e-4], abs=1e-6)
