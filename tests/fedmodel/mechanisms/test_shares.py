"""Noise in shares, as it is made: rounded once, onto the grid, into the ring, out of it again."""

import math
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.mechanisms import noise
from fedmodel.mechanisms.shares import BITS, Shares, as_reals, bits_needed, noised
from fedmodel.seeds import Entropy

Floats = NDArray[np.float64]
TILE = 2 * noise._PAIRS
SHARES = Shares(std=0.8, honest=3, parties=5, bits=24)
LEVEL = 1e-3  # of every statistical test here; the bytes are fixed


class Counted(Entropy):
    """Bytes that repeat from run to run: another number gives others."""

    def __init__(self, number: int = 0) -> None:
        self._number = number

    def bytes(self, count: int) -> bytes:
        return bytes((self._number + 7 * i) % 251 for i in range(count))


def normals(count: int, shares: Shares, number: int = 0) -> Floats:
    """Return the noise that a share is made from, in steps of the grid."""
    out = np.empty(count)
    for start, values in noise.tiles(Counted(number), count, shares.share_std / shares.grid):
        out[start : start + len(values)] = values
    return out


def signed(ring: NDArray[np.uint32]) -> NDArray[np.int64]:
    return ring.view(np.int32).astype(np.int64)


def summed(totals: list[Floats], shares: Shares, first: int = 0) -> Floats:
    """Return what comes out of a secure sum: added in the ring, cut to its bits, and made real."""
    ring = np.zeros(totals[0].shape, dtype=np.uint32)
    for number, total in enumerate(totals):
        ring += noised(Counted(first + number), total, shares)
    return as_reals((ring & np.uint32(2**shares.bits - 1)).astype(np.int64), shares)


# -- the numbers ---------------------------------------------------------------------------------

ANY: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    std=st.floats(2.0**-60, 2.0**60),
    honest=st.integers(1, 60),
    parties=st.integers(60, 300),
    bits=st.sampled_from(BITS),
)


def made(**numbers: Any) -> Shares | None:
    """Return shares, or nothing where the ring has no room for the noise alone."""
    try:
        return Shares(**numbers)
    except ConfigError:
        std = math.sqrt(numbers["parties"]) * 64
        assert numbers["parties"] * 1.5 + 24 * std > 2 ** (numbers["bits"] - 1) - 1
        return None


@pytest.mark.long
@given(ANY)
def test_there_is_headroom_for_the_noise_of_all(numbers: dict[str, Any]) -> None:
    shares = made(**numbers)
    if shares is None:
        return
    assert shares.parties * shares.largest + shares.reserve < 2 ** (shares.bits - 1)
    assert math.frexp(shares.grid)[0] == 0.5
    assert 2.0**-7 < shares.grid / shares.share_std <= 2.0**-6
    assert shares.share_std == pytest.approx(shares.std / math.sqrt(shares.honest))
    assert shares.limit == shares.largest * shares.grid
    # Rounding takes at most 1/2 of each; what is left is 12 std of the noise of all.
    left = shares.reserve - shares.parties / 2
    std = math.sqrt(shares.parties) * shares.share_std / shares.grid
    assert 2 * stats.norm.sf(left / std) < 1e-30


@pytest.mark.parametrize("std", [1.0, 2.0 - 2.0**-52, math.nextafter(1.0, 0), 2.0**-100, 2.0**100])
def test_the_grid_at_its_edges(std: float) -> None:
    shares = Shares(std=std, honest=1, parties=1, bits=24)
    assert 64 <= shares.share_std / shares.grid < 128


@pytest.mark.parametrize(
    "change",
    [
        {"std": 0.0},
        {"std": math.nan},
        {"std": math.inf},
        {"std": 2.0**-101},
        {"std": 2.0**-100, "honest": 2},
        {"honest": 0},
        {"honest": 6},
        {"parties": 0},
        {"parties": 10**6 + 1},
        {"bits": 18},
        {"bits": 64},
        {"bits": 16, "parties": 1000},
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Shares(**{"std": 0.8, "honest": 3, "parties": 5, "bits": 24, **change})


@given(
    largest=st.floats(1e-3, 1e4),
    honest=st.integers(1, 20),
    parties=st.integers(20, 40),
)
def test_the_narrowest_ring_that_will_do(largest: float, honest: int, parties: int) -> None:
    cohort: dict[str, Any] = {"std": 1.0, "honest": honest, "parties": parties}
    found = bits_needed(**cohort, largest_coordinate=largest)
    assert Shares(**cohort, bits=found).limit >= largest
    for narrower in BITS[: BITS.index(found)]:
        shares = made(**cohort, bits=narrower)
        assert shares is None or shares.limit < largest


def test_no_ring_will_do() -> None:
    with pytest.raises(ConfigError, match="don't fit into 32 bits"):
        bits_needed(std=1.0, honest=3, parties=5, largest_coordinate=1e8)


# -- one share -----------------------------------------------------------------------------------


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000, TILE - 1, TILE, TILE + 1, 2 * TILE + 1])
def test_input_and_noise_are_rounded_together_and_once(dtype: Any, count: int) -> None:
    total = np.random.default_rng(0).normal(size=count).astype(dtype)
    total[: count // 2] *= SHARES.limit / 6  # of any size
    ring = noised(Counted(), total, SHARES)
    assert (ring.dtype, ring.shape) == (np.dtype(np.uint32), total.shape)
    grid = Fraction(SHARES.grid)
    drawn = normals(count, SHARES)
    expected = [
        round(Fraction(x) / grid + Fraction(z))
        for x, z in zip(total.astype(np.float64).tolist(), drawn.tolist(), strict=True)
    ]
    assert signed(ring).tolist() == expected


def test_coordinates_are_clipped_to_the_limit() -> None:
    drawn = np.rint(normals(7, SHARES)).astype(np.int64)
    beyond = math.nextafter(SHARES.limit, math.inf)
    total = np.array([1e300, -1e300, beyond, -beyond, SHARES.limit, SHARES.limit / 2, 0.0])
    found = signed(noised(Counted(), total, SHARES)) - drawn
    most = SHARES.largest
    assert found[:5].tolist() == [most, -most, most, -most, most]
    assert abs(found[5] - most / 2) <= 1
    assert found[6] == 0
    # In float32 the limit itself may not be a number: none above it may pass.
    narrow = Shares(std=0.8, honest=3, parties=41, bits=32)
    assert int(np.float32(narrow.largest)) > narrow.largest
    single = np.full(4, 1e30, dtype=np.float32)
    found = signed(noised(Counted(), single, narrow)) - np.rint(normals(4, narrow))
    assert (found == narrow.largest).all()


def test_any_layout_and_nothing_is_changed() -> None:
    total = np.random.default_rng(1).normal(size=(60, 50))
    kept = total.copy()
    turned = noised(Counted(), total.T, SHARES)
    assert turned.shape == (50, 60)
    assert (turned == noised(Counted(), np.ascontiguousarray(total.T), SHARES)).all()
    assert (total == kept).all()
    total.flags.writeable = False
    noised(Counted(), total, SHARES)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_not_named(value: float) -> None:
    total = np.full(2 * TILE, 0.123456)
    total[TILE + 5] = value
    with pytest.raises(PrivacyError, match="aren't finite") as caught:
        noised(Counted(), total, SHARES)
    assert "0.12" not in str(caught.value)
    assert "nan" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex128])
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(PrivacyError, match="float32 or float64"):
        noised(Counted(), np.ones(3, dtype=dtype), SHARES)


def test_the_noise_is_fresh_and_never_seeded() -> None:
    total = np.zeros(1000)
    first, second = (noised(Entropy(), total, SHARES) for _ in range(2))
    assert (first != second).mean() > 0.95
    with pytest.raises(AttributeError):
        noised(0, total, SHARES)  # type: ignore[arg-type]


def test_memory_is_bounded() -> None:
    total = np.zeros(1_000_000, dtype=np.float32)
    noised(Counted(), total[:10], SHARES)
    tracemalloc.start()
    noised(Counted(), total, SHARES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * total.size + 3 * 2**20


# -- sums ----------------------------------------------------------------------------------------

COUNT = 200_000


@pytest.mark.parametrize("sites", [1, 2, 3, 5])
def test_variances_of_shares_add_up(sites: int) -> None:
    """With exactly h sites the variance is the promised S²; with more it is above."""
    spread = np.random.default_rng(2).normal(size=(5, COUNT)) * 3
    found = summed(list(spread[:sites]), SHARES) - spread[:sites].sum(axis=0)
    variance = sites / 3 * SHARES.std**2 + sites / 12 * SHARES.grid**2
    assert (variance > SHARES.std**2) == (sites >= 3)
    low, high = stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], COUNT) / COUNT
    assert low < (found**2).mean() / variance < high
    assert abs(found.mean()) < stats.norm.isf(LEVEL / 2) * math.sqrt(variance / COUNT)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("sites", [1, 3, 5])
def test_the_sum_is_normal_about_the_inputs(sites: int) -> None:
    spread = np.random.default_rng(3).uniform(-9, 9, size=(sites, COUNT))
    found = summed(list(spread), SHARES) - spread.sum(axis=0)
    # A rounded value is spread evenly over its cell, for inputs that are.
    std = math.sqrt(sites / 3) * SHARES.std
    assert stats.kstest(found / std, "norm").pvalue > LEVEL
    assert stats.kstest(found * 1.02 / std, "norm").pvalue < LEVEL  # 2 % would be seen


def test_sites_and_places_are_independent() -> None:
    first, second = (noised(Counted(i), np.zeros(COUNT), SHARES) for i in range(2))
    for a, b in ((first, second), (first[:-1], first[1:]), (first[:-TILE], first[TILE:])):
        assert abs(np.corrcoef(signed(a), signed(b))[0, 1]) < 4 / math.sqrt(COUNT)


def test_sums_lie_on_the_grid() -> None:
    spread = np.random.default_rng(4).normal(size=(5, 5000))
    cells = summed(list(spread), SHARES) / SHARES.grid
    assert (cells == np.rint(cells)).all()
    assert len(set((cells % 16).tolist())) == 16


def test_low_bits_tell_nothing_of_the_inputs() -> None:
    counts = []
    for place, shift in enumerate((0.0, 0.25, 0.5, 3.0, 7.49)):
        inputs = [np.full(COUNT, part * shift * SHARES.grid) for part in (0.4, 0.6, 0.0)]
        cells = summed(inputs, SHARES, first=20 + 3 * place) / SHARES.grid
        counts.append(np.bincount((cells % 16).astype(int), minlength=16))
        assert stats.chisquare(counts[-1]).pvalue > LEVEL
    assert stats.chi2_contingency(np.array(counts)).pvalue > LEVEL


@pytest.mark.parametrize("bits", BITS)
def test_the_ring_holds_the_largest_sum_with_its_noise(bits: int) -> None:
    shares = Shares(std=0.8, honest=3, parties=5, bits=bits)
    for sign in (1, -1):
        most = np.full(1000, sign * 2 * shares.limit)
        found = summed([most] * 5, shares)
        assert np.abs(found - sign * 5 * shares.limit).max() < 6 * 0.8 * math.sqrt(5 / 3)


def test_any_representative_is_the_same_sum() -> None:
    shares = Shares(std=1.0, honest=1, parties=1, bits=16)
    values = np.array([0, 1, -1, 2**15 - 1, -(2**15), 12345], dtype=np.int64)
    expected = values * shares.grid
    for turns in (0, 1, -1, 2**20):
        found = as_reals(values + turns * 2**16, shares)
        assert found.dtype == np.float64
        assert (found == expected).all()
    assert (as_reals(np.array([2**15]), shares) == -(2**15) * shares.grid).all()
