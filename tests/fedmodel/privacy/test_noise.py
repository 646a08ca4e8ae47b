"""Noise, sampling and clipping: distributions with fixed bytes, bounds against naive loops."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from fedmodel.errors import PrivacyError
from fedmodel.privacy import add_gaussian, clipped_sum, factors, gaussian, noise, poisson, sampling
from fedmodel.seeds import Entropy

N = 400_001


def test_gaussian_is_standard_normal(fake: Entropy) -> None:
    x = gaussian(fake, N)
    assert x.shape == (N,)
    assert x.dtype == np.float64
    assert abs(x.mean()) < 4 / math.sqrt(N)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / N)
    assert abs(stats.skew(x)) < 4 * math.sqrt(6 / N)
    assert abs(stats.kurtosis(x)) < 4 * math.sqrt(24 / N)
    assert stats.kstest(x, "norm").pvalue > 1e-3


def test_gaussian_tails(fake: Entropy) -> None:
    x = np.abs(gaussian(fake, N))
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * N * stats.norm.sf(bound)
        assert abs((x > bound).sum() - expected) < 5 * math.sqrt(expected)


def test_gaussian_coordinates_are_independent(fake: Entropy) -> None:
    x = gaussian(fake, 1 << 18)
    half = noise._TILE // 2  # a cosine and the sine of the same pairs
    for lag in (1, 2, half, noise._TILE):
        pairs = len(x) - lag
        for f in (lambda v: v, np.abs, np.square):
            assert abs(np.corrcoef(f(x[:-lag]), f(x[lag:]))[0, 1]) < 4.5 / math.sqrt(pairs)


def test_uniforms_at_both_ends(monkeypatch: pytest.MonkeyPatch, fake: Entropy) -> None:
    for byte in (b"\x00", b"\xff"):

        def same(entropy: Entropy, count: int, byte: bytes = byte) -> bytearray:
            return bytearray(byte * count)

        monkeypatch.setattr(noise, "keystream", same)
        x = gaussian(fake, 10)
        assert np.isfinite(x).all()
        assert np.abs(x).max() < 17.2


@pytest.mark.parametrize("count", [0, 1, 2, 3, noise._TILE - 1, noise._TILE, noise._TILE + 1])
def test_gaussian_counts(count: int) -> None:
    assert gaussian(Entropy(), count).shape == (count,)


def test_two_draws_differ() -> None:
    a, b = gaussian(Entropy(), 1000), gaussian(Entropy(), 1000)
    assert not np.intersect1d(a, b).size
    assert np.unique(gaussian(Entropy(), 3 * noise._TILE)).size > 3 * noise._TILE - 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_gaussian(fake: Entropy, dtype: type[np.floating]) -> None:
    total = np.full((200, 300), 7.0, dtype=dtype)
    noisy = add_gaussian(fake, total, 2.5)
    assert noisy.dtype == dtype
    assert noisy.shape == total.shape
    assert (total == 7).all()
    assert stats.kstest((noisy.ravel() - 7) / 2.5, "norm").pvalue > 1e-3


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_no_noise_is_no_noise(std: float) -> None:
    with pytest.raises(PrivacyError, match="std"):
        add_gaussian(Entropy(), np.zeros(3), std)


def test_noise_arguments_are_checked() -> None:
    with pytest.raises(PrivacyError, match="float16"):
        add_gaussian(Entropy(), np.zeros(3, dtype=np.float16), 1.0)
    with pytest.raises(PrivacyError, match="finite"):
        add_gaussian(Entropy(), np.array([1.0, np.nan]), 1.0)
    with pytest.raises(PrivacyError, match="≥ 0"):
        gaussian(Entropy(), -1)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.75])
def test_poisson_rate(fake: Entropy, rate: float) -> None:
    rows, draws = 1000, 2000
    counts = np.zeros(rows)
    sizes = np.empty(draws)
    for i in range(draws):
        drawn = poisson(fake, rows, rate)
        assert drawn.dtype == np.int64
        assert (np.diff(drawn) > 0).all()
        counts[drawn] += 1
        sizes[i] = drawn.size
    variance = rows * rate * (1 - rate)
    assert abs(sizes.mean() - rows * rate) < 4 * math.sqrt(variance / draws)
    # A fixed batch size would have variance 0, dependent rows another one than the binomial's.
    assert abs(sizes.var() / variance - 1) < 4 * math.sqrt((2 + 1 / variance) / draws)
    assert abs(counts.var() / (draws * rate * (1 - rate)) - 1) < 5 * math.sqrt(2 / rows)


def test_poisson_limits(fake: Entropy) -> None:
    assert poisson(fake, 5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert poisson(fake, 5, 1e-300).size == 0
    assert poisson(fake, 0, 0.5).dtype == np.int64
    rows = 3 * sampling._TILE + 5
    drawn = poisson(fake, rows, 0.5)
    assert drawn[-1] > rows - 40
    assert abs(drawn.size - rows / 2) < 4 * math.sqrt(rows / 4)


def test_poisson_threshold_is_exact(monkeypatch: pytest.MonkeyPatch, fake: Entropy) -> None:
    values = np.array([0, (1 << 61) - 1, 1 << 61, (1 << 64) - 1], dtype="<u8")
    monkeypatch.setattr(sampling, "keystream", lambda entropy, count: bytearray(values.tobytes()))
    assert poisson(fake, 4, 0.125).tolist() == [0, 1]
    below_one = math.nextafter(1, 0)
    assert poisson(fake, 4, below_one).tolist() == [0, 1, 2]


def test_poisson_real_entropy_differs() -> None:
    assert poisson(Entropy(), 1000, 0.5).tolist() != poisson(Entropy(), 1000, 0.5).tolist()


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan])
def test_poisson_is_checked(rate: float) -> None:
    with pytest.raises(PrivacyError, match="rate"):
        poisson(Entropy(), 10, rate)
    with pytest.raises(PrivacyError, match="rows"):
        poisson(Entropy(), -1, 0.5)


FLOATS: dict[int, st.SearchStrategy[NDArray[np.floating]]] = {
    32: hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(0, width=32)),
    64: hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(0)),
}


@pytest.mark.parametrize("width", [32, 64])
def test_factors_bound_the_product(width: int) -> None:
    @settings(deadline=None)
    @given(norms=FLOATS[width], clip=st.floats(2.0**-40, 2.0**40, width=32))
    def check(norms: NDArray[np.floating], clip: float) -> None:
        found = factors(norms, clip)
        assert found.dtype == norms.dtype
        assert found.shape == norms.shape
        for factor, norm in zip(found, norms, strict=True):
            if not math.isfinite(norm):
                assert factor == 0
            elif norm <= clip:
                assert factor == 1
            else:
                assert 0 <= factor < 1
                assert factor * norm <= clip
                if norm < clip * 2.0**80:
                    assert factor * norm == pytest.approx(clip, rel=1e-6)

    check()


def test_broken_norms_are_dropped() -> None:
    norms = np.array([0.0, 1.0, np.nan, np.inf, 4.0])
    assert factors(norms, 2.0).tolist() == [1.0, 1.0, 0.0, 0.0, math.nextafter(0.5, 0)]


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_clip_is_checked(clip: float) -> None:
    with pytest.raises(PrivacyError, match="clip"):
        factors(np.ones(2), clip)


def test_clipping_arguments_are_checked() -> None:
    with pytest.raises(PrivacyError, match="float16"):
        factors(np.ones(2, dtype=np.float16), 1.0)
    with pytest.raises(PrivacyError, match="negative"):
        factors(np.array([-1.0]), 1.0)
    with pytest.raises(PrivacyError, match="shape"):
        clipped_sum(np.ones(3), 1.0)


def naive_sum(rows: NDArray[np.floating], clip: float) -> NDArray[np.float64]:
    total = np.zeros(rows.shape[1])
    for row in rows.astype(np.float64):
        norm = math.sqrt(sum(v * v for v in row)) if np.isfinite(row).all() else math.inf
        if math.isfinite(norm):
            total += row * (1.0 if norm <= clip else clip / norm)
    return total


ROWS = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 8), st.integers(1, 5)), elements=st.floats(width=32)
)


@settings(deadline=None)
@given(rows=ROWS, clip=st.floats(1e-3, 1e3))
def test_clipped_sum_matches_the_loop(rows: NDArray[np.float32], clip: float) -> None:
    found = clipped_sum(rows, clip)
    assert np.allclose(found, naive_sum(rows, clip), rtol=1e-9, atol=1e-9 * clip)


@settings(deadline=None)
@given(rows=ROWS.filter(lambda r: len(r) > 0), clip=st.floats(1e-3, 1e3))
def test_sensitivity_is_the_clip(rows: NDArray[np.float32], clip: float) -> None:
    change = clipped_sum(rows, clip) - clipped_sum(rows[1:], clip)
    assert np.linalg.norm(change) <= clip * (1 + 1e-12 * len(rows))


@pytest.mark.parametrize("sampler", [gaussian, lambda e, n: poisson(e, n, 0.5)])
def test_no_seeded_default(sampler: Callable[[Entropy, int], object]) -> None:
    with pytest.raises(AttributeError):
        sampler(0, 10)  # type: ignore[arg-type]
