"""The frame of a head: in its own gauge, and nothing but it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.errors import ProtocolError
from fedmodel.heads.frame import BIAS, Frame, HeadShape

SHAPE = HeadShape(classes=3, width=5)
seeds = st.integers(0, 2**32 - 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    exact = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = exact / exact.sum(axis=1, keepdims=True)
    return found


@given(seeds, st.sampled_from([0.5, 1.0, 7.4, 80.0]))
def test_a_plain_head_says_what_its_frames_says(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    frame = Frame(rng.normal(size=5) / 3, scale)
    rows, biases = rng.normal(size=(3, 5)), rng.normal(size=3)
    vector = frame.plain(SHAPE, rows, biases)
    assert vector.dtype == np.float32
    assert vector.shape == (18,)
    x = rng.normal(size=(20, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    inside = (x - frame.centre) * scale / BIAS @ rows.T + biases
    own, offsets = SHAPE.parts(vector)
    tolerance = 1e-6 * (1 + np.abs(own).max() + np.abs(offsets).max())
    np.testing.assert_allclose(softmax(x @ own.T + offsets), softmax(inside), atol=tolerance)


@given(seeds, st.sampled_from([0.5, 1.0, 7.4]))
def test_a_head_carries_its_frame(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    frame = Frame(rng.normal(size=5) / 3, scale)
    rows, biases = rng.normal(size=(3, 5)), rng.normal(size=3)
    vector = frame.plain(SHAPE, rows, biases)
    again = Frame.of(SHAPE, vector)
    np.testing.assert_allclose(again.centre, frame.centre, atol=3e-6 * scale)
    assert again.scale == pytest.approx(scale, rel=1e-4)
    found, offsets = again.framed(SHAPE, vector)
    np.testing.assert_allclose(found, rows - rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(offsets, biases - biases.mean(), atol=1e-3)


def test_a_head_of_zeros_is_seen_as_it_is() -> None:
    zeros = np.zeros(18, np.float32)
    frame = Frame.of(SHAPE, zeros)
    assert (frame.centre == 0).all()
    assert frame.scale == 1
    rows, biases = frame.framed(SHAPE, zeros)
    assert not rows.any()
    assert not biases.any()


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-4, 1e4])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    vector = SHAPE.vector(np.ones((3, 5)), np.full(3, scale))
    with pytest.raises(ProtocolError, match=r"scale \(the mean of its biases\) must be between"):
        Frame.of(SHAPE, vector)


@pytest.mark.parametrize(("size", "classes"), [(18, 4), (3, 3), (1, 3), (0, 2)])
def test_what_is_no_head_is_refused(size: int, classes: int) -> None:
    with pytest.raises(ProtocolError, match="aren't those of a linear head"):
        HeadShape.of(size, classes)
    assert HeadShape.of(18, 3) == SHAPE
