"""Bounds of one contribution: the first half of a mechanism (arXiv 1607.00133, section 3.1).

Clipping alone gives no privacy; it bounds what the noise must hide.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import PrivacyError
from fedmodel.update import Vector

__all__ = ["clip_update", "clipped_sum", "factors"]

_ROUNDING = 1 - 1e-6  # what float32 may add to a scaled update's norm, with some to spare


def factors(norms: NDArray[np.floating], clip: float) -> NDArray[np.floating]:
    """Return what to multiply each contribution with, so that its L2 norm is at most C.

    min(1, C/norm), rounded down: ``factor * norm <= clip`` holds in floating point too, for a
    clip that the norms' type can represent. A norm that is NaN or infinite gets 0: the
    contribution is dropped. Drop it, don't multiply it: 0·NaN is NaN. :func:`clipped_sum` does.

    Args:
        norms: float32 or float64, any shape. Not bf16 or float16: their rounding alone lets norms
            through that are 0.4 % too large.
        clip: C, finite and > 0.

    Returns:
        Same shape and type, in [0, 1].

    Raises:
        PrivacyError: for another type, a negative norm or an unusable clip.
    """
    if norms.dtype not in (np.float32, np.float64):
        raise PrivacyError(f"norms must be float32 or float64, got {norms.dtype}")
    if not 0 < clip < math.inf:
        raise PrivacyError(f"the clip norm must be finite and > 0, got {clip}")
    if (norms < 0).any():
        raise PrivacyError("a norm is negative: it isn't a norm")
    finite = np.isfinite(norms)
    result: NDArray[np.floating] = finite.astype(norms.dtype)
    over = finite & (norms.astype(np.float64) > clip)
    ratio = (clip / norms[over].astype(np.float64)).astype(norms.dtype)
    result[over] = np.nextafter(ratio, norms.dtype.type(0))
    return result


def clipped_sum(contributions: NDArray[np.floating], clip: float) -> NDArray[np.float64]:
    """Return the sum of contributions, each clipped to L2 norm C; a broken one counts as zero.

    Adding or removing one contribution changes the sum by at most C in L2 norm, up to float64
    rounding: the sensitivity that :class:`fedmodel.accounting.plan.Plan` states.

    Args:
        contributions: float32 or float64, shape ``[units, parameters]``; may have no rows.
        clip: C, finite and > 0.

    Returns:
        float64, shape ``[parameters]``.

    Raises:
        PrivacyError: as :func:`factors`, and for another shape.
    """
    if contributions.ndim != 2:
        raise PrivacyError(
            f"contributions must have shape [units, parameters], got {contributions.shape}"
        )
    wide = contributions.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite norm is handled: dropped
        norms = np.sqrt((wide * wide).sum(axis=1))
    scale = factors(norms, clip)
    kept = np.isfinite(norms)
    total: NDArray[np.float64] = scale[kept] @ wide[kept]
    return total


def clip_update(change: Vector, clip: float) -> Vector:
    """Return one site's whole update, scaled to L2 norm C at most; zeros if it isn't finite.

    Where a site is the unit of privacy, this is its contribution, and a sum of such updates has
    sensitivity C (arXiv 1710.06963). It keeps to C as it is returned, after rounding to float32.

    Args:
        change: float32 ``[trainable]``.
        clip: C, finite and > 0.

    Raises:
        PrivacyError: as :func:`factors`.
    """
    # Both run in float64 a piece at a time: a large model's update isn't copied.
    square = np.einsum("i,i->", change, change, dtype=np.float64)
    (factor,) = factors(np.sqrt(square.reshape(1)), clip * _ROUNDING)
    scaled = np.zeros_like(change)
    if factor > 0:
        np.multiply(change, factor, out=scaled, dtype=np.float64, casting="same_kind")
    return scaled
