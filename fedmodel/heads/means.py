"""A head from noised sums: the mean of all vectors, then each class's around it, shrunk.

All of it is post-processing of what was released: it costs no privacy. The noise's variance is
public, so that it can be told how much of a sum is noise: means are shrunk by that (James & Stein
1961, its positive part) towards multiples of the embeddings of the classes' names, which are known
anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmodel.heads.frame import BIAS, Frame, HeadShape

__all__ = ["Centre", "Sums", "centred", "head_of", "shrunk", "weighed"]

TEMPERATURE = 40.0  # by which shrunk means around the centre become rows
PRIOR = 0.5  # of the logarithm of a class's share
_LEAST_SPREAD = 1e-4  # of vectors of length 1 around their mean: squared
F = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """What a round of an opening released, for all units together.

    Args:
        vectors: sums of vectors in the round's frame, ``[K, width]``.
        counts: how many were summed, ``[K]``.
        variance: of the noise on each coordinate of ``vectors``; 0 without.
    """

    vectors: F
    counts: F
    variance: float

    @classmethod
    def of(cls, shape: HeadShape, released: NDArray[np.floating], std: float) -> "Sums":
        """Return the sums that a released vector holds.

        Args:
            shape: of the head whose gradient was released.
            released: Σ over units of what :data:`BIAS` says: a vector, and beside it BIAS.
            std: standard deviation of the noise on each of its coordinates.
        """
        vectors, counts = shape.parts(released)
        return cls(vectors, counts / BIAS, std**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """What is known of where vectors lie.

    Args:
        frame: around the mean, as far as it is known, and scaled to length 1 in the mean square.
        error: variance of each coordinate of the mean.
        spread: mean square distance of vectors from their true mean.
    """

    frame: Frame
    error: float
    spread: float


def centred(sums: Sums) -> Centre:
    """Return the mean of vectors of length 1 from its noised sum (in the first row).

    Where noise is most of it, less of it is taken off: the mean is shrunk towards 0, and no mean is
    longer than 1.
    """
    count = float(_floored(sums)[0])
    return _around(sums.vectors[0] / count, sums.variance / count**2)


def _floored(sums: Sums) -> F:
    """Return counts that can be divided by: none is below 1, nor below its own noise.

    What is within a standard deviation of 0 says nothing but how large the noise is; divided by
    less, the noise on the vectors would become as large as one likes.
    """
    found: F = np.maximum(sums.counts, max(1.0, sums.variance**0.5 / BIAS))
    return found


def _around(told: F, variance: float) -> Centre:
    """Return the centre at a noised mean of vectors of length 1."""
    square, noise = float(told @ told), variance * told.size
    kept = max(0.0, 1 - noise / square) if square > 0 else 0.0
    kept = min(kept, square**-0.5) if square > 1 else kept
    spread = max(1 - max(square - noise, 0.0), _LEAST_SPREAD)
    error = min(kept * variance, 2 / told.size)
    return Centre(
        frame=Frame(kept * told, float((spread + error * told.size) ** -0.5)),
        error=error,
        spread=spread,
    )


def weighed(shape: HeadShape, released: Sequence[NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return the mean of sites' own noised sums, each class's weighted by how many it has of it.

    By the count, itself noised, so that a class's mean is the sites' weighted by the square of
    their counts: by one over the variance of each. The squares of a class's weights have mean 1,
    so that the noise on the result is that on a mean of as many without weights.

    Args:
        shape: of the head whose gradient they are.
        released: of each site, in counted rows (see :meth:`Sums.of`).
    """
    parts = [shape.parts(each) for each in released]
    counts = np.maximum([biases / BIAS for _, biases in parts], 1.0)
    weights = counts / np.sqrt((counts**2).mean(axis=0))
    rows = np.mean([w[:, None] * r for w, (r, _) in zip(weights, parts, strict=True)], axis=0)
    biases = np.mean([w * b for w, (_, b) in zip(weights, parts, strict=True)], axis=0)
    return shape.vector(rows, biases)


def shrunk(means: F, variances: F, towards: F | None) -> F:
    """Return means ``[K, width]`` without what is likely noise.

    Args:
        means: around their common mean.
        variances: of the noise on each class's coordinates, ``[K]``.
        towards: a direction for each, whose common multiple is taken that fits them best (weighted
            least squares; none that is negative); ``None``: 0.
    """
    target = np.zeros_like(means)
    if towards is not None:
        weights = 1 / np.maximum(variances, 1e-12)[:, None]
        size = float((weights * towards**2).sum())
        if size > 0:
            target = max(0.0, float((weights * means * towards).sum()) / size) * towards
    rest = means - target
    squares = np.maximum((rest**2).sum(axis=1), 1e-12)
    kept = np.clip(1 - (means.shape[1] - 2) * variances / squares, 0.0, 1.0)
    found: F = target + kept[:, None] * rest
    return found


def head_of(sums: Sums, before: Centre | None, names: F | None) -> tuple[Centre, F, F]:
    """Return where vectors lie, and a head: rows ``[K, width]`` and biases ``[K]`` of that frame.

    Args:
        sums: of each class's vectors, in the frame of ``before``.
        before: what the round before has found; ``None``: there was none.
        names: embeddings of the classes' names, ``[K, width]``, of length 1; ``None``: not known.
    """
    counts = _floored(sums)
    means, variances = sums.vectors / counts[:, None], sums.variance / counts**2
    shares = counts / counts.sum()
    middle = shares @ means
    error = float(shares**2 @ variances)
    centre = _around(middle, error) if before is None else _moved(before, middle, error)
    scale = centre.frame.scale / (1.0 if before is None else before.frame.scale)
    towards = None if names is None else names - names.mean(axis=0)
    found = shrunk((means - middle) * scale, variances * scale**2, towards)
    biases = PRIOR * np.log(shares) - TEMPERATURE / 2 * (found**2).sum(axis=1)
    return centre, TEMPERATURE * BIAS * found, biases


def _moved(before: Centre, middle: F, error: float) -> Centre:
    """Return the centre moved to where the vectors around it have their middle."""
    frame = before.frame
    known = before.error * frame.scale**2
    share = known / (known + error) if known > 0 else 0.0
    left = before.error * (1 - share)
    scale = float((before.spread + left * middle.size) ** -0.5)
    return Centre(
        frame=Frame(frame.centre + share * middle / frame.scale, scale),
        error=left,
        spread=before.spread,
    )
