"""A whole update clipped, where a site is the unit of privacy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedmodel.errors import PrivacyError
from fedmodel.mechanisms.clipping import clip_update, clipped_sum
from tests.examples import examples

FUZZ = settings(max_examples=examples(300), deadline=None, derandomize=True)
ANY = arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))


def norm(vector: np.ndarray) -> float:
    return math.sqrt(math.fsum(float(x) ** 2 for x in vector))


@pytest.mark.long
@FUZZ
@given(ANY, st.floats(1e-3, 1e6))
def test_no_update_is_longer_than_c(change: np.ndarray, clip: float) -> None:
    before = change.copy()
    found = clip_update(change, clip)
    assert found.dtype == np.float32
    assert found.shape == change.shape
    assert np.array_equal(change, before, equal_nan=True)
    if not np.isfinite(change).all():
        assert not found.any()
        return
    assert norm(found) <= clip
    if norm(change) <= clip * (1 - 2e-6):
        assert np.array_equal(found, change)
    else:
        assert norm(found) > clip * (1 - 3e-6)


def test_a_long_one_keeps_its_direction() -> None:
    change = np.random.default_rng(1).standard_normal(100_003).astype(np.float32)
    found = clip_update(change, 0.7)
    wanted = clipped_sum(change[None], 0.7)
    assert norm(found) <= 0.7
    np.testing.assert_allclose(found, wanted, rtol=3e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_that_isnt_finite_is_zeros(bad: float) -> None:
    change = np.ones(5, dtype=np.float32)
    change[3] = bad
    assert clip_update(change, 1.0).tolist() == [0.0] * 5


def test_the_largest_floats_dont_overflow() -> None:
    change = np.full(1000, np.finfo(np.float32).max, dtype=np.float32)
    assert 0.1 * (1 - 1e-5) < norm(clip_update(change, 0.1)) <= 0.1


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_an_unusable_clip_is_refused(clip: float) -> None:
    with pytest.raises(PrivacyError, match="clip norm must be finite"):
        clip_update(np.ones(2, dtype=np.float32), clip)
