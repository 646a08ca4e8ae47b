"""Privacy loss distributions: those of dp_accounting, and a pair that dominates all others."""

import itertools

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType
from numpy.typing import NDArray

from fedmodel.accounting import pld as losses
from fedmodel.accounting.convolution import Masses, compose
from fedmodel.accounting.spends import Spend

REPLACE = dp.NeighboringRelation.REPLACE_ONE


def dense(pmf: object) -> Masses:
    whole = pmf.to_dense_pmf()  # type: ignore[attr-defined]
    return Masses(whole._lower_loss, whole._probs, whole._infinity_mass)


def assert_same(ours: Masses, theirs: Masses, within: float) -> None:
    low = min(ours.low, theirs.low)
    high = max(m.low + m.probs.size for m in (ours, theirs))
    found = []
    for masses in (ours, theirs):
        padded = np.zeros(high - low)
        padded[masses.low - low :][: masses.probs.size] = masses.probs
        found.append(padded)
    np.testing.assert_allclose(found[0], found[1], atol=within, rtol=0)
    assert ours.infinite == pytest.approx(theirs.infinite, abs=1e-13)


@pytest.mark.sample(5)
@pytest.mark.long
@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("noise", [0.2, 1.0, 30.0])
def test_a_step_is_that_of_dp_accounting(rate: float, noise: float) -> None:
    step = 1e-2
    std = 1 / (1 / noise)  # as ours gets it
    build = privacy_loss_distribution.from_gaussian_mechanism
    both = build(std, sampling_prob=rate, value_discretization_interval=step)
    exchanged = build(
        std,
        sampling_prob=rate,
        value_discretization_interval=step,
        neighboring_relation=REPLACE,
    )
    for direction, theirs in (
        (AdjacencyType.REMOVE, both._pmf_remove),
        (AdjacencyType.ADD, both._pmf_add),
        (AdjacencyType.REPLACE, exchanged._pmf_remove),
    ):
        ours = losses.step_losses(rate, 1 / noise, step, direction)
        assert_same(ours, dense(theirs), 1e-12)


def test_replace_at_rate_1_has_twice_the_sensitivity() -> None:
    one = losses.step_losses(1.0, 1 / 3.0, 1e-2, AdjacencyType.REPLACE)
    two = losses.step_losses(1.0, 1 / 1.5, 1e-2, AdjacencyType.REMOVE)
    assert_same(one, two, 1e-12)


def test_composition_is_that_of_dp_accounting() -> None:
    build = privacy_loss_distribution.from_gaussian_mechanism
    kinds = [(0.1, 1.0, 7), (0.02, 0.6, 30), (1.0, 5.0, 1), (0.3, 4.0, 2)]
    theirs = None
    for rate, noise, count in kinds:
        part = build(noise, sampling_prob=rate, value_discretization_interval=1e-2)
        part = part.self_compose(count)
        theirs = part if theirs is None else theirs.compose(part)
    assert theirs is not None
    for direction, pmf in (
        (AdjacencyType.REMOVE, theirs._pmf_remove),
        (AdjacencyType.ADD, theirs._pmf_add),
    ):
        parts = [(losses.step_losses(q, 1 / s, 1e-2, direction), n) for q, s, n in kinds]
        assert_same(compose(parts), dense(pmf), 1e-12)


def naive(parts: list[tuple[Masses, int]]) -> Masses:
    low, probs, finite = 0, np.ones(1), 1.0
    for part, count in parts:
        for _ in range(count):
            low, probs = low + part.low, np.convolve(probs, part.probs)
            finite *= 1 - part.infinite
    return Masses(low, probs, 1 - finite)


@pytest.mark.parametrize(
    "parts",
    [
        [(Masses(-3, np.array([0.2, 0.5, 0.3]), 0.0), 5)],
        [(Masses(4, np.array([1.0]), 0.0), 3)],
        [(Masses(0, np.array([0.9, *[0.0] * 400, 0.09]), 0.01), 4)],  # rare, large losses
        [(Masses(0, np.array([1 - 1e-9, *[0.0] * 900, 1e-9]), 0.0), 2)],
        [
            (Masses(-50, np.full(100, 0.01), 0.0), 2),
            (Masses(7, np.array([0.25, 0.75]), 0.1), 9),
            (Masses(-1, np.array([0.5, 0.0, 0.49]), 1e-6), 1),
        ],
    ],
)
def test_composition_matches_convolving_one_by_one(parts: list[tuple[Masses, int]]) -> None:
    assert_same(compose(parts), naive(parts), 3e-15)


def test_what_is_cut_off_counts_as_infinite() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random(300)
    part = Masses(-20, probs / probs.sum(), 0.0)
    found = compose([(part, 400)])
    assert found.probs.size < 400 * 300 / 4  # the tails are cut
    assert found.probs.sum() == pytest.approx(1.0, abs=1e-12)
    assert 1e-15 <= found.infinite < 1e-12


def hockey_stick(u: NDArray[np.float64], v: NDArray[np.float64], rate: float, eps: float) -> float:
    """The divergence when one unit contributes u and the other v, in the plane, by quadrature."""
    axis = np.linspace(-9, 9, 361)
    x, y = np.meshgrid(axis, axis)

    def density(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2) / (2 * np.pi))

    nobody = density(np.zeros(2))
    first = (1 - rate) * nobody + rate * density(u)
    second = (1 - rate) * nobody + rate * density(v)
    area = (axis[1] - axis[0]) ** 2
    return float(np.maximum(first - np.exp(eps) * second, 0).sum() * area)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(("rate", "eps"), [(0.1, 0.05), (0.1, 0.3), (0.5, 0.0), (0.5, 1.0)])
def test_opposite_units_are_the_worst(rate: float, eps: float) -> None:
    """The claim in the module that u = −v with full norm dominates every other exchange."""
    worst = hockey_stick(np.array([-1.0, 0.0]), np.array([1.0, 0.0]), rate, eps)
    angles = np.linspace(0, np.pi, 5)
    for a, b, angle in itertools.product((0.0, 0.5, 1.0), (0.0, 0.7, 1.0), angles):
        u = np.array([-a, 0.0])
        v = b * np.array([np.cos(angle), np.sin(angle)])
        assert hockey_stick(u, v, rate, eps) <= worst + 1e-9
    # The losses are this pair's.
    masses = losses.step_losses(rate, 1.0, 1e-3, AdjacencyType.REPLACE)
    loss = (np.arange(masses.probs.size) + masses.low) * 1e-3
    ours = masses.infinite + (np.maximum(-np.expm1(eps - loss), 0) * masses.probs).sum()
    assert ours == pytest.approx(worst, abs=2e-4)


def test_few_grids_are_used() -> None:
    for noise in np.geomspace(0.05, 500, 12):
        for steps in (1, 300, 20000):
            for adjacency in ("add-remove", "replace"):
                step = losses.grid([Spend(0.03, noise, steps)], adjacency)
                assert 2 * np.log10(step) == pytest.approx(round(2 * np.log10(step)))
