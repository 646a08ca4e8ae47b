"""What is released with noise: on a public grid, of the right probabilities, or not at all."""

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from fedmodel.errors import PrivacyError
from fedmodel.mechanisms import noise
from fedmodel.mechanisms.noise import add_gaussian, add_gaussian_, gaussian
from fedmodel.seeds import Entropy

Floats = NDArray[np.float64]
TYPES = [np.float32, np.float64]


def step(std: float) -> float:
    return 2.0 ** (math.floor(math.log2(std)) - 10)


def plain(entropy: Entropy, total: Floats, std: float) -> Floats:
    """Return what a textbook implementation releases."""
    return total + std * gaussian(entropy, total.size)


@pytest.mark.long
def test_the_import_is_light() -> None:
    code = "import sys, fedmodel.mechanisms.noise; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", TYPES)
def test_add_gaussian(fake: Entropy, dtype: type[np.floating]) -> None:
    total = np.full((1000, 300), 7.0, dtype=dtype)
    noisy = add_gaussian(fake, total, 2.5)
    assert noisy.dtype == dtype
    assert noisy.shape == total.shape
    assert (total == 7).all()
    assert stats.kstest((noisy.ravel() - 7) / 2.5, "norm").pvalue > 1e-3


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("std", [2.0**-100, 1e-9, 0.7, 1.0, 15.0, 2.0**100])
def test_values_are_on_the_grid(fake: Entropy, dtype: type[np.floating], std: float) -> None:
    total = (std * np.random.default_rng(0).normal(size=50_001)).astype(dtype)
    noisy = add_gaussian(fake, total, std)
    cells = noisy / step(std)
    assert (cells == np.rint(cells)).all()
    assert np.abs(noisy).min() < step(std) * 100
    assert stats.kstest(noisy / std, "norm", args=(0, math.sqrt(2))).pvalue > 1e-3


@given(start=st.floats(-4, 4), std=st.floats(2.0**-60, 2.0**60))
def test_rounding_is_to_nearest(start: float, std: float) -> None:
    total = np.full(999, start * std)
    released = add_gaussian(type_of_fake(), total, std)
    exact = total + std * gaussian(type_of_fake(), 999)
    # Where std² is rounded, the two differ in the last bit and may round apart.
    assert np.abs(released - exact).max() <= step(std) * (0.5 + 2.0**-30)


def type_of_fake() -> Entropy:
    class Zeros(Entropy):
        def bytes(self, count: int) -> bytes:
            return bytes(count)

    return Zeros()


def test_large_float32_totals_are_rounded_afterwards() -> None:
    # Beyond 2**13 std float32 is coarser than the grid: it rounds what float64 would release.
    total = np.linspace(-(2.0**20), 2.0**20, 5001).astype(np.float32)
    single = add_gaussian(type_of_fake(), total, 1.0)
    double = add_gaussian(type_of_fake(), total.astype(np.float64), 1.0)
    assert (single == double.astype(np.float32)).all()
    assert (single != total).mean() > 0.9


@pytest.mark.parametrize("offset", [0.0, 0.3137])
def test_cells_have_their_probabilities(fake: Entropy, offset: float) -> None:
    h = step(1.0)
    draws = 4_000_000
    noisy = add_gaussian(fake, np.full(draws, offset * h, dtype=np.float64), 1.0)
    cells = np.rint(noisy / h).astype(np.int64)
    inner = round(2.5 / h)
    found = np.bincount(cells[np.abs(cells) <= inner] + inner, minlength=2 * inner + 1)
    assert (found > 0).all()  # whatever the total, the same values occur
    edges = (np.arange(-inner, inner + 2) - 0.5 - offset) * h
    expected = draws * np.diff(stats.norm.cdf(edges))
    z = (found - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 5
    assert abs((z**2).sum() / len(z) - 1) < 5 * math.sqrt(2 / len(z))


def is_multiple(values: Floats, power: int) -> NDArray[np.bool_]:
    scaled = np.ldexp(values, power)
    return np.asarray(scaled == np.rint(scaled))


@pytest.mark.parametrize(
    ("release", "leaks"), [(plain, True), (add_gaussian, False)], ids=["plain", "grid"]
)
def test_low_bits_tell_nothing(
    fake: Entropy, release: Callable[[Entropy, Floats, float], Floats], leaks: bool
) -> None:
    # Mironov 2012: near 0, 1 + noise has no bits below 2**-53, whereas 0 + noise has.
    shares = []
    for secret in (0.0, 1.0):
        seen = release(fake, np.full(100_000, secret), 1.0)
        shares.append(is_multiple(seen[np.abs(seen) < 0.25], 53).mean())
    assert (shares[0] < 0.2) == leaks
    assert shares[1] == 1


def fits(seen: Floats, secret: float) -> Floats:
    """Return how far radius words would be from whole numbers, given what was added to."""
    x, y = (seen - secret).reshape(-1, 2).astype(np.longdouble).T
    square = x * x + y * y
    word = np.exp(-square[square > 5.4**2] / 2) * 2.0**63
    return np.abs(word - np.rint(word)).astype(np.float64)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("release", "leaks"), [(plain, True), (add_gaussian, False)], ids=["plain", "grid"]
)
def test_a_pair_does_not_tell_its_words(
    fake: Entropy, release: Callable[[Entropy, Floats, float], Floats], leaks: bool
) -> None:
    # Holohan & Braghin, arXiv 2107.10138: noise that is possible comes from a whole word.
    right, wrong = [], []
    for _ in range(16):
        seen = release(fake, np.full(2_000_000, 0.1), 1.0)
        right.append(fits(seen, 0.1))
        wrong.append(fits(seen, 0.0))
    assert (np.concatenate(right).max() < 0.15) == leaks
    assert np.concatenate(wrong).max() > 0.3


@pytest.mark.slow
@pytest.mark.long
def test_the_bound_on_squares_holds_on_a_smaller_copy() -> None:
    # 12 bits of radius and 14 of angle instead of 63 and 64; squares of side 1/2 at any place.
    h, offset = 0.5, np.array([0.123, 0.377])
    words = np.arange(1, 2**12 + 1)
    weights = np.where(words == 2**12, 0.5, 1.0) / 2**26  # of the two ends, half the words
    r = np.sqrt(-2 * np.log(words / 2**12))
    a = 2 * np.pi * np.arange(2**14) / 2**14
    side = 24
    found = np.zeros(side * side)
    for some, weight in zip(np.split(r, 16), np.split(weights, 16), strict=True):
        x = np.floor((np.outer(some, np.cos(a)) + offset[0] + 6) / h).astype(np.int64)
        y = np.floor((np.outer(some, np.sin(a)) + offset[1] + 6) / h).astype(np.int64)
        found += np.bincount((x * side + y).ravel(), np.repeat(weight, a.size), side * side)
    edges = np.arange(side + 1) * h - 6
    ideal = np.outer(*(np.diff(stats.norm.cdf(edges - o)) for o in offset))
    middle = [edges[:-1] + h / 2 - o for o in offset]
    distance = np.maximum(np.hypot(*np.meshgrid(*middle, indexing="ij")), h)
    u = np.exp(-(distance**2) / 2)
    radial = 2.0**-12 * 2 * math.sqrt(2) / (distance * h * u)  # spacing of radii · variation
    angular = 2.0**-14 * 8 * math.pi * distance / h
    near = u > 2.0**-9
    error = np.abs(found.reshape(side, side) / ideal - 1)
    assert near.sum() > 150
    assert (error <= radial + angular)[near].all()


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf, 2.0**-101, 2.0**101])
def test_no_noise_is_no_noise(std: float) -> None:
    with pytest.raises(PrivacyError, match="std"):
        add_gaussian(Entropy(), np.zeros(3), std)
    with pytest.raises(PrivacyError, match="std"):
        add_gaussian_(Entropy(), torch.zeros(3), std)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_totals_must_be_finite(value: float) -> None:
    for total in (np.array([1.0, value, 2.0]), np.array([value, 1.0], dtype=np.float32)):
        before = total.copy()
        with pytest.raises(PrivacyError, match="finite"):
            add_gaussian_(Entropy(), total, 1.0)
        assert np.array_equal(total, before, equal_nan=True)
    with pytest.raises(PrivacyError, match="finite"):
        add_gaussian_(Entropy(), torch.tensor([1.0, value]), 1.0)


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 2.0**20), (np.float64, 2.0**36)])
def test_totals_that_drown_the_noise_are_refused(dtype: type[np.floating], largest: float) -> None:
    std = 0.25
    for sign in (1, -1):
        total = np.array([0.0, sign * largest * std], dtype=dtype)
        noisy = add_gaussian(Entropy(), total, std)
        assert 0 < np.abs(noisy - total).max() < 14 * std
        over = np.nextafter(total, sign * np.inf, dtype=dtype)
        with pytest.raises(PrivacyError, match="clipped") as refusal:
            add_gaussian(Entropy(), over, std)
        assert f"{largest * std:.3g}" in str(refusal.value)  # and not the secret


def test_other_types_are_refused() -> None:
    for array in (np.zeros(3, dtype=np.float16), np.zeros(3, dtype=int)):
        with pytest.raises(PrivacyError, match="float32 or float64"):
            add_gaussian(Entropy(), array, 1.0)
    for tensor in (torch.zeros(3, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int64)):
        with pytest.raises(PrivacyError, match="float32 or float64"):
            add_gaussian_(Entropy(), tensor, 1.0)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 0), (3, 4), (200, 300)])
def test_in_place_is_the_same(shape: tuple[int, ...], dtype: type[np.floating]) -> None:
    total = np.random.default_rng(1).normal(size=shape).astype(dtype)
    expected = add_gaussian(type_of_fake(), total, 0.5)
    assert expected.shape == shape
    array, tensor = np.array(total), torch.nn.Parameter(torch.from_numpy(np.array(total)))
    add_gaussian_(type_of_fake(), array, 0.5)
    add_gaussian_(type_of_fake(), tensor, 0.5)
    assert array.dtype == dtype
    assert np.array_equal(array, expected)
    assert np.array_equal(tensor.detach().numpy(), expected)
    if total.size:
        elsewhere = torch.from_numpy(np.array(total)).view(-1)
        noise._by_host(type_of_fake(), elsewhere, 0.5)
        assert np.array_equal(elsewhere.numpy().reshape(shape), expected)


def test_in_place_where_memory_has_gaps(fake: Entropy) -> None:
    base = torch.full((300, 400), 9.0)
    add_gaussian_(fake, base[:, ::2].t(), 1.0)
    assert (base[:, 1::2] == 9).all()
    assert stats.kstest(base[:, ::2].numpy().ravel() - 9, "norm").pvalue > 1e-3
    array = np.full((400, 300), 9.0, order="F")
    add_gaussian_(fake, array[::2], 1.0)
    assert (array[1::2] == 9).all()
    assert stats.kstest(array[::2].ravel() - 9, "norm").pvalue > 1e-3


def test_another_device_in_stages(fake: Entropy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_STAGED", 40_000)
    flat = torch.zeros(100_001)
    noise._by_host(fake, flat, 1.0)
    assert stats.kstest(flat.numpy(), "norm").pvalue > 1e-3
    assert not torch.equal(flat[:20_001], flat[80_000:])
    with pytest.raises(PrivacyError, match="finite"):
        noise._by_host(fake, flat * math.nan, 1.0)
    with pytest.raises(PrivacyError, match="clipped"):
        noise._by_host(fake, flat + 2.0**21, 1.0)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    total = torch.full((1500, 1000), 7.0, device="cuda")
    add_gaussian_(Entropy(), total, 2.0)
    assert stats.kstest((total.cpu().numpy().ravel() - 7) / 2, "norm").pvalue > 1e-6


def test_it_takes_little_memory() -> None:
    total = np.zeros(1_000_000, dtype=np.float32)
    tracemalloc.start()
    try:
        add_gaussian_(Entropy(), total, 1.0)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert total.std() == pytest.approx(1, abs=0.01)
