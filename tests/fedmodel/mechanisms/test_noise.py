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

from fedmodel._hazmat import Keystream, keystream
from fedmodel.errors import PrivacyError
from fedmodel.mechanisms import noise, sampling
from fedmodel.mechanisms.clipping import clipped_sum, factors
from fedmodel.mechanisms.noise import gaussian
from fedmodel.mechanisms.sampling import poisson
from fedmodel.seeds import Entropy

N = 10_000_001
TILE = 2 * noise._PAIRS
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def normals() -> Floats:
    class Counter(Entropy):
        def bytes(self, count: int) -> bytes:
            return bytes(range(count))

    return gaussian(Counter(), N)


@pytest.mark.slow
@pytest.mark.long
def test_normals_have_the_cdf(normals: Floats) -> None:
    assert normals.shape == (N,)
    assert stats.kstest(normals, "norm").pvalue > 1e-3


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("power", range(1, 9))
def test_normals_have_the_moments(normals: Floats, power: int) -> None:
    expected = 0.0 if power % 2 else float(math.prod(range(1, power, 2)))
    spread = math.sqrt(math.prod(range(1, 2 * power, 2)) - expected**2)
    assert abs((normals**power).mean() - expected) < 4 * spread / math.sqrt(N)


@pytest.mark.parametrize("bound", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_normals_have_both_tails(normals: Floats, bound: float) -> None:
    expected = stats.norm.sf(bound)
    for found in ((normals > bound).sum(), (normals < -bound).sum()):
        assert stats.binomtest(int(found), N, expected).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.long
def test_a_pair_is_independent(normals: Floats) -> None:
    x, y = normals[:-1:2], normals[1::2]
    assert stats.kstest((x**2 + y**2) / 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.arctan2(y, x), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    bins = 128  # of equal probability in each direction
    edges = stats.norm.ppf(np.arange(1, bins) / bins)
    joint = np.bincount(np.searchsorted(edges, x) * bins + np.searchsorted(edges, y))
    assert stats.chisquare(joint).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.long
def test_places_are_independent(normals: Floats) -> None:
    # A pair, neighbouring pairs, and the same place in neighbouring tiles.
    for lag in (1, 2, TILE):
        a, b = normals[:-lag], normals[lag:]
        for f in (lambda v: v, np.abs, np.square):
            found = np.corrcoef(f(a), f(b))[0, 1]
            assert abs(found) < 4 / math.sqrt(N)


class FixedStream:
    """Words in place of a keystream; once they are used up, more of the last."""

    def __init__(self, *words: int) -> None:
        self._words = list(words)

    def fill(self, out: memoryview) -> None:
        words = out.cast("q")
        for i in range(len(words)):
            words[i] = self._words.pop(0) if len(self._words) > 1 else self._words[0]


WORDS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, -(2**32), 2**32 - 1, -1, 0, 1, 2**53, 2**53 + 1]),
)


@given(radius=WORDS, angle=WORDS, third=WORDS)
def test_values_are_accurate(radius: int, angle: int, third: int) -> None:
    if np.finfo(np.longdouble).nmant < 60:
        pytest.skip("there is nothing more precise to compare with")
    (start, found), *rest = noise._tiles(FixedStream(radius, angle, third), 2, 1.0)  # type: ignore[arg-type]
    assert (start, rest) == (0, [])
    u = np.longdouble(abs(radius))
    if abs(radius) < 2**32:
        u = abs(u + np.longdouble(third | 1) * 2**-64)
    assert u > 0
    pi = np.longdouble("3.14159265358979323846264338327950288")
    r = np.sqrt(-2 * np.log(u * np.longdouble(2.0**-63)))
    a = pi * (np.longdouble(angle % 4096) / 2048 - 1 + np.longdouble(angle) / 2**75)
    # Near radius 0 it is the rounding of u to float64 that counts.
    bound = np.minimum(2.0**-49 * r + 2.0**-52 / np.maximum(r, 2.0**-30), 2.0**-25)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 13.3
    assert abs(found[0] - r * np.cos(a)) <= bound
    assert abs(found[1] - r * np.sin(a)) <= bound


@pytest.mark.long
def test_the_logarithm_is_accurate() -> None:
    x = np.random.default_rng(0).random(1_000_000)
    for u in (x, 1 - x * 2.0**-20, 2.0 ** (-120 * x)):
        exact = np.log(u.astype(np.longdouble))
        found = np.log(u)
        assert (np.abs(found - exact) <= 4 * np.spacing(np.abs(found))).all()


def test_small_radius_words_get_more_bits() -> None:
    class Stream(FixedStream):
        def fill(self, out: memoryview) -> None:
            if not self._words:
                Keystream(Entropy()).fill(out)
            while self._words:
                np.frombuffer(out, dtype=np.int64)[:] = self._words.pop()

    (_, found), *_ = noise._tiles(Stream(5), 20_000, 1.0)  # type: ignore[arg-type]
    u = np.exp(-(found[::2] ** 2 + found[1::2] ** 2) / 2) * 2.0**63
    assert stats.kstest(u, "uniform", args=(4.5, 1)).pvalue > 1e-6
    (_, found), *_ = noise._tiles(FixedStream(0), 4, 1.0)  # type: ignore[arg-type]
    assert np.hypot(*found[:2]) == pytest.approx(math.sqrt(2 * 127 * math.log(2)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, TILE - 1, TILE, TILE + 1, 2 * TILE + 1])
def test_gaussian_counts(count: int, fake: Entropy) -> None:
    found = gaussian(fake, count)
    assert found.shape == (count,)
    assert np.unique(found).size == count
    with pytest.raises(PrivacyError, match="≥ 0"):
        gaussian(fake, -1)


def test_two_draws_differ() -> None:
    a, b = gaussian(Entropy(), 3 * TILE), gaussian(Entropy(), 3 * TILE)
    assert np.unique(np.concatenate([a, b])).size == 6 * TILE


def test_keystream_is_aes_256_in_counter_mode() -> None:
    # NIST SP 800-38A, F.5.5: key, counter, and plaintext exclusive-or ciphertext.
    key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
    texts = (
        ("6bc1bee22e409f96e93d7e117393172a", "601ec313775789a5b7a7f504bbf3d228"),
        ("ae2d8a571e03ac9c9eb76fac45af8e51", "f443e3ca4d62b59aca84e990cacaf5c5"),
    )
    known = b"".join((int(p, 16) ^ int(c, 16)).to_bytes(16) for p, c in texts)

    class Known(Entropy):
        def bytes(self, count: int) -> bytes:
            return bytes.fromhex(key) if count == 32 else bytes(range(0xF0, 0x100))

    assert keystream(Known(), 32) == known
    stream, out = Keystream(Known()), bytearray(3 << 20)
    for start, stop in ((0, 5), (5, 2 << 20), (2 << 20, 3 << 20)):
        stream.fill(memoryview(out)[start:stop])
    assert out == keystream(Known(), 3 << 20)


@pytest.mark.sample(1)
@pytest.mark.long
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


@pytest.mark.sample(1)
@pytest.mark.long
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


@pytest.mark.long
@settings(deadline=None)
@given(rows=ROWS, clip=st.floats(1e-3, 1e3))
def test_clipped_sum_matches_the_loop(rows: NDArray[np.float32], clip: float) -> None:
    found = clipped_sum(rows, clip)
    assert np.allclose(found, naive_sum(rows, clip), rtol=1e-9, atol=1e-9 * clip)


@pytest.mark.long
@settings(deadline=None)
@given(rows=ROWS.filter(lambda r: len(r) > 0), clip=st.floats(1e-3, 1e3))
def test_sensitivity_is_the_clip(rows: NDArray[np.float32], clip: float) -> None:
    change = clipped_sum(rows, clip) - clipped_sum(rows[1:], clip)
    assert np.linalg.norm(change) <= clip * (1 + 1e-12 * len(rows))


@pytest.mark.parametrize("sampler", [gaussian, lambda e, n: poisson(e, n, 0.5)])
def test_no_seeded_default(sampler: Callable[[Entropy, int], object]) -> None:
    with pytest.raises(AttributeError):
        sampler(0, 10)  # type: ignore[arg-type]
