"""Heads of noised sums, against what is meant: exact without noise, little of it with much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.heads.frame import BIAS, Frame, HeadShape
from fedmodel.heads.means import (
    PRIOR,
    TEMPERATURE,
    Centre,
    Sums,
    centred,
    head_of,
    shrunk,
    weighed,
)

WIDTH, CLASSES = 40, 3
SHAPE = HeadShape(classes=CLASSES, width=WIDTH)


def made(seed: int = 0, rows: int = 300, apart: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1, nearly parallel, of classes 1 : 2 : 3."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), [rows // 6, rows // 3, rows // 2])
    common, own = rng.normal(size=WIDTH), rng.normal(size=(CLASSES, WIDTH)) * apart
    x = common * 2 + own[labels] + rng.normal(size=(rows, WIDTH)) * apart
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def released(parts: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """What a round's gradient adds up to: each row's vector and BIAS, in its slot."""
    rows, biases = np.zeros((CLASSES, WIDTH)), np.zeros(CLASSES)
    np.add.at(rows, slots, parts)
    np.add.at(biases, slots, BIAS)
    return SHAPE.vector(rows, biases).astype(np.float64)


def test_without_noise_the_mean_is_the_mean() -> None:
    x, _ = made()
    found = centred(Sums.of(SHAPE, released(x, np.zeros(len(x), int)), 0.0))
    np.testing.assert_allclose(found.frame.centre, x.mean(axis=0), atol=1e-6)
    seen = (x - found.frame.centre) * found.frame.scale
    assert (seen**2).sum(axis=1).mean() == pytest.approx(1.0, abs=1e-4)
    assert found.error == 0


@pytest.mark.parametrize("std", [0.3, 3.0, 30.0, 3000.0])
def test_a_noisy_mean_is_shrunk_and_vectors_around_it_stay_about_1_long(std: float) -> None:
    x, _ = made()
    lengths, errors = [], []
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(0, std, SHAPE.width * CLASSES + CLASSES)
        noise[0] *= 0  # of the count
        found = centred(Sums.of(SHAPE, released(x, np.zeros(len(x), int)) + noise, std))
        seen = (x - found.frame.centre) * found.frame.scale
        lengths.append((seen**2).sum(axis=1).mean())
        errors.append(((found.frame.centre - x.mean(axis=0)) ** 2).sum())
    assert 0.5 < np.mean(lengths) < 1.6
    raw = WIDTH * (std / len(x)) ** 2
    assert np.mean(errors) < 1.1 * min(raw, 2.0) + 0.1


def test_without_noise_a_head_is_that_of_the_class_means() -> None:
    x, y = made()
    before = centred(Sums.of(SHAPE, released(x, np.zeros(len(x), int)), 0.0))
    z = (x - before.frame.centre) * before.frame.scale
    centre, rows, biases = head_of(Sums.of(SHAPE, released(z, y), 0.0), before, None)
    means = np.array([z[y == k].mean(axis=0) for k in range(CLASSES)])
    np.testing.assert_allclose(rows, TEMPERATURE * BIAS * (means - z.mean(axis=0)), atol=1e-5)
    shares = np.bincount(y) / len(y)
    expected = PRIOR * np.log(shares) - TEMPERATURE / 2 * ((means - z.mean(axis=0)) ** 2).sum(1)
    np.testing.assert_allclose(biases, expected, atol=1e-4)
    np.testing.assert_allclose(centre.frame.centre, x.mean(axis=0), atol=1e-6)
    # As a plain head it tells the classes apart.
    own, offsets = SHAPE.parts(centre.frame.plain(SHAPE, rows, biases))
    assert ((x @ own.T + offsets).argmax(axis=1) == y).mean() > 0.9


def test_a_lone_round_finds_the_centre_in_the_class_sums() -> None:
    x, y = made()
    centre, rows, biases = head_of(Sums.of(SHAPE, released(x, y), 0.0), None, None)
    np.testing.assert_allclose(centre.frame.centre, x.mean(axis=0), atol=1e-6)
    own, offsets = SHAPE.parts(centre.frame.plain(SHAPE, rows, biases))
    assert ((x @ own.T + offsets).argmax(axis=1) == y).mean() > 0.9


def test_class_sums_move_a_centre_that_was_noisy_to_the_true_one() -> None:
    x, y = made()
    rng = np.random.default_rng(1)
    error = 1e-3
    wrong = Frame(x.mean(axis=0) + rng.normal(0, error**0.5, WIDTH), 2.0)
    before = Centre(frame=wrong, error=error, spread=0.2)
    z = (x - wrong.centre) * wrong.scale
    std = 0.5
    noise = rng.normal(0, std, CLASSES * (WIDTH + 1))
    noise[:CLASSES] = 0
    centre, _, _ = head_of(Sums.of(SHAPE, released(z, y) + noise, std), before, None)
    off = ((centre.frame.centre - x.mean(axis=0)) ** 2).sum()
    assert off < 0.05 * ((wrong.centre - x.mean(axis=0)) ** 2).sum()
    assert centre.error < 0.05 * error


def test_no_shrinking_without_noise_and_towards_the_names_alone_with_much() -> None:
    rng = np.random.default_rng(3)
    means, names = rng.normal(size=(2, 4, 50))
    none, much = np.zeros(4), np.full(4, 1e6)
    np.testing.assert_allclose(shrunk(means, none, names), means)
    np.testing.assert_allclose(shrunk(means, none, None), means)
    assert not shrunk(means, much, None).any()
    near = 0.7 * names + 0.01 * rng.normal(size=(4, 50))
    np.testing.assert_allclose(shrunk(near, much, names), 0.7 * names, atol=0.02)
    # Names that point elsewhere are of no use, and do no harm.
    assert not shrunk(-near, much, names).any()


@given(st.integers(0, 2**32 - 1))
def test_shrunk_means_are_nearer_to_the_true_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, std = rng.normal(size=(4, 100)) * 0.1, 0.2
    told = true + rng.normal(0, std, true.shape)
    better = ((shrunk(told, np.full(4, std**2), None) - true) ** 2).sum()
    assert better < ((told - true) ** 2).sum()


def test_a_sites_sums_weigh_by_what_it_has_of_each_class() -> None:
    rng = np.random.default_rng(5)
    counts = np.array([[100.0, 10.0, 50.0], [10.0, 100.0, 50.0], [10.0, 10.0, 0.0]])
    rows = rng.normal(size=(3, CLASSES, WIDTH)) * counts[:, :, None]
    each = [SHAPE.vector(r, c * BIAS) for r, c in zip(rows, counts, strict=True)]
    means, found = SHAPE.parts(weighed(SHAPE, each))
    floored = np.maximum(counts, 1.0)
    for k in range(CLASSES):
        wanted = (floored[:, k, None] * rows[:, k]).sum(0) / (floored[:, k] * counts[:, k]).sum()
        np.testing.assert_allclose(means[k] / (found[k] / BIAS), wanted, rtol=1e-4)
    # Alone, or alike, nothing is weighted.
    np.testing.assert_allclose(weighed(SHAPE, each[:1]), each[0], rtol=1e-5)
    np.testing.assert_allclose(weighed(SHAPE, [each[1]] * 4), each[1], rtol=1e-5)


def test_weights_leave_the_noise_on_the_mean_as_it_is() -> None:
    rng = np.random.default_rng(6)
    counts = np.array([[300.0, 20.0, 5.0], [10.0, 100.0, 50.0]])
    empty = np.zeros((2, CLASSES, WIDTH))
    seen = []
    for _ in range(200):
        noised = empty + rng.normal(0, 1, empty.shape)
        each = [SHAPE.vector(r, c * BIAS) for r, c in zip(noised, counts, strict=True)]
        seen.append(SHAPE.parts(weighed(SHAPE, each))[0])
    np.testing.assert_allclose(np.std(seen, axis=(0, 2)), 2**-0.5, rtol=0.05)


def test_what_all_names_share_says_nothing() -> None:
    x, y = made()
    before = centred(Sums.of(SHAPE, released(x, np.zeros(len(x), int)), 1.0))
    z = (x - before.frame.centre) * before.frame.scale
    sums = Sums.of(SHAPE, released(z, y), 4.0)
    names = np.random.default_rng(7).normal(size=(CLASSES, WIDTH))
    _, one, _ = head_of(sums, before, names)
    _, other, _ = head_of(sums, before, names + 5.0)
    np.testing.assert_allclose(one, other, atol=1e-9)
    _, none, _ = head_of(sums, before, None)
    assert not np.allclose(one, none)


def test_another_unit_of_length_makes_no_difference() -> None:
    """Sums of vectors that are twice as long, and noise that is, are the same in half the unit."""
    x, y = made()
    rng = np.random.default_rng(8)
    frame = Frame(x.mean(axis=0) + rng.normal(0, 0.01, WIDTH), 2.0)
    z = (x - frame.centre) * frame.scale
    noise = rng.normal(0, 3.0, CLASSES * (WIDTH + 1))
    noise[:CLASSES] = 0
    sums = Sums.of(SHAPE, released(z, y) + noise, 3.0)
    twice = Sums(sums.vectors * 2, sums.counts, sums.variance * 4)
    before = Centre(frame=frame, error=1e-4, spread=0.1)
    wider = Centre(frame=Frame(frame.centre, 4.0), error=1e-4, spread=0.1)
    one, rows, biases = head_of(sums, before, None)
    other, same, too = head_of(twice, wider, None)
    np.testing.assert_allclose(rows, same)
    np.testing.assert_allclose(biases, too)
    assert one.frame.scale == pytest.approx(other.frame.scale)
    # The two sources of the mean together are as good as their precisions add up to.
    shares = sums.counts / sums.counts.sum()
    told = float((shares**2 * sums.variance / sums.counts**2).sum()) / frame.scale**2
    assert one.error == pytest.approx(1 / (1 / 1e-4 + 1 / told))
