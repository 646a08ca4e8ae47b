"""Gaussian noise from cryptographic bytes.

What is guaranteed: bytes nobody can predict or replay (a fresh AES-256 key per tile, from the
operating system), 53-bit uniforms in (0, 1], and each output the sum of four independent normals
over 2.

What isn't: floating-point numbers have gaps, so textbook sampling on them isn't exactly Gaussian,
and which values can occur may tell what was added to what (Mironov 2012, "On significance of the
least significant bits", for Laplace; Holohan & Braghin 2021, arXiv 2107.10138, for Box-Muller and
other Gaussian samplers). Their mitigation (arXiv 2107.10138, section 5.1, n = 2) is used here: an
attacker who sees a noisy value must search over all four summands together instead of one. It
makes the known attack infeasible; it isn't a proof. A proof needs discrete noise on integers.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import keystream
from fedmodel.errors import PrivacyError
from fedmodel.seeds import Entropy

__all__ = ["add_gaussian", "gaussian"]

_SUMMANDS = 4
_TILE = 1 << 15  # outputs at a time: bounds the memory to about 3 MiB


def gaussian(entropy: Entropy, count: int) -> NDArray[np.float64]:
    """Return independent standard normals for noise that protects somebody.

    Args:
        entropy: where the keys of the streams come from. Never a seed.
        count: how many, ≥ 0.

    Returns:
        float64, shape ``[count]``; every value finite and within ±17.2 (a normal is beyond that
        with probability 1e-65).

    Raises:
        PrivacyError: for a negative count.
    """
    if count < 0:
        raise PrivacyError(f"the number of noise values must be ≥ 0, got {count}")
    out = np.empty(count)
    for start in range(0, count, _TILE):
        tile = out[start : start + _TILE]
        tile[:] = _normals(entropy, tile.size)
    return out


def add_gaussian(entropy: Entropy, total: NDArray[np.floating], std: float) -> NDArray[np.floating]:
    """Return a clipped sum with noise: the second half of the Gaussian mechanism.

    The sum is taken in float64 and rounded to the input's type last, which is post-processing.

    Args:
        entropy: see :func:`gaussian`.
        total: float32 or float64, any shape: a sum of contributions of L2 norm at most C each.
        std: standard deviation in the units of ``total``, finite and > 0: σ·C.

    Returns:
        A new array of the same shape and type.

    Raises:
        PrivacyError: for another type, a value that isn't finite, or a std that is no noise.
    """
    if total.dtype not in (np.float32, np.float64):
        raise PrivacyError(f"noise is added in float32 or float64, got {total.dtype}")
    if not 0 < std < math.inf:
        raise PrivacyError(f"the noise's std must be finite and > 0, got {std}")
    if not np.isfinite(total).all():
        raise PrivacyError("the sum to add noise to has values that aren't finite")
    noise = gaussian(entropy, total.size).reshape(total.shape)
    noise *= std
    noise += total
    return noise.astype(total.dtype, copy=False)


def _normals(entropy: Entropy, count: int) -> NDArray[np.float64]:
    half = (count + 1) // 2
    cosines, sines = _box_muller(entropy, _SUMMANDS * half)
    # Four different pairs in each output: a pair's own two values together are one rotated pair.
    both = np.concatenate(
        [cosines.reshape(_SUMMANDS, half).sum(axis=0), sines.reshape(_SUMMANDS, half).sum(axis=0)]
    )
    both /= math.sqrt(_SUMMANDS)
    return both[:count]


def _box_muller(entropy: Entropy, pairs: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two times ``pairs`` independent standard normals (Box & Muller 1958)."""
    bits = np.frombuffer(keystream(entropy, 16 * pairs), dtype="<u8") >> np.uint64(11)
    uniform = bits.astype(np.float64)
    # 1 to 2**53 over 2**53: never 0, whose logarithm is infinite, and exactly 1 is allowed.
    uniform += 1.0
    uniform *= 2.0**-53
    radius, angle = uniform[:pairs], uniform[pairs:]
    np.log(radius, out=radius)
    radius *= -2.0
    np.sqrt(radius, out=radius)
    angle *= 2.0 * math.pi
    return radius * np.cos(angle), radius * np.sin(angle)
