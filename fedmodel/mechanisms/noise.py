"""Gaussian noise from cryptographic bytes, released on a public grid.

A normal N(0, std²) is added, and the sum is rounded to a multiple of h, the power of two with
2**-11 < h / std ≤ 2**-10. The grid depends on std alone, never on data.

**Why.** Floating-point numbers have gaps. A textbook sampler gives some of them and never others,
and which ones occur tells what was added to what (Mironov 2012, "On significance of the least
significant bits", for Laplace; Holohan & Braghin, arXiv 2107.10138, for Box-Muller; Haney et al.,
arXiv 2207.13793, for most that add floats). Rounding *real* noise to a public grid is
post-processing: its ε is the Gaussian mechanism's, and the variance grows by h²/12 < 1e-7 std².
IEEE sums are correctly rounded, so here too the release is a function of the exact total + noise:
to a point of the grid belongs an interval of noise of length h (31/32 of it for the largest
totals). All that can differ from the ideal is how probable an interval is.

**How much it differs.** The sampler is Box & Muller's (1958), with 64 bits for the angle, 64 for
the radius, and 64 more below these where the radius is far out. A pair's two values are released
together, so what counts are squares of side h ≥ 2**-11 std:

- *There are enough bits.* A square at a distance of r std comes from more than 2**(103 - 0.73 r²)
  of the 2**128 pairs of words (of 2**192 in the far tail). On each radius their number is off its
  share by a few; over the radii, which are spaced by s, the sum is off the integral by s times the
  variation. The square's probability is right within a factor 1 ± 2**-22, where 1 ≤ r ≤ 4 within
  1 ± 2**-40.
- *Arithmetic is exact enough.* With a logarithm within 4 ulp, correctly rounded roots, sums and
  products, and sines and cosines within 2**-50, a value is off by at most 2**-49 r std. That moves
  a square's edges, and changes its probability by a factor within 1 ± 2**-36 r.
- *No tail is cut off.* The smallest radius word gives 13.2 std, which a normal exceeds with
  probability 1e-39.

So for one pair the logarithm of real over ideal likelihood is at most 2**-21, 2**-35 in root mean
square, and 2**-70 in expectation. Summed over 1e11 values (1e7 coordinates, 1e4 steps) it stays
within 2**-12 but for a probability below 1e-100 (Freedman 1975): what would be (ε, δ) with ideal
noise is (ε + 0.0005, 1.001 δ + 1e-99).

**What isn't proved.** That AES-256-CTR can't be told from random bytes. The logarithm's 4 ulp,
which numpy tests for but doesn't prove. The constants above, derived by hand; tests check them on a
smaller copy. What the total lost to rounding before it got here (arXiv 2207.10635) is its maker's
to bound; totals so large that this rounding nears the noise are refused. The time taken depends on
the values once in 2**31 pairs (those with a third word), but a table is read at secret places: who
shares the processor and watches its cache isn't kept out.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import Keystream
from fedmodel.errors import PrivacyError
from fedmodel.seeds import Entropy

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["add_gaussian", "add_gaussian_", "check_finite", "gaussian", "tiles"]

_PAIRS = 1 << 14  # of values at a time: 1.4 MiB of buffers, little beside the calls' overhead
_STAGED = 1 << 20  # values at a time that travel to another device and back

_GRID_BITS = 10
_STD = (2.0**-100, 2.0**100)  # nothing below overflows, nor is it subnormal in float32
# How large a total may be, in std: there a step of the type is std/16 and 2**-16 std.
_LARGEST = {np.dtype(np.float32): 2.0**20, np.dtype(np.float64): 2.0**36}

# An angle is a sector's start and an offset of at most ±π/4096 from it.
_SECTORS = 1 << 12
_TURNS = np.exp(2j * np.pi * (np.arange(_SECTORS) / _SECTORS - 0.5))
_UNIT = math.pi / _SECTORS * 2.0**-63  # what one in an angle's word stands for

# Arrays without dimensions are passed to ufuncs in half the time of Python's floats.
_SCALE, _ONE = np.array(2.0**-63), np.array(1.0)
_LAST = np.array(_SECTORS - 1)
_COS2, _COS4 = np.array(-(_UNIT**2) / 2), np.array(_UNIT**4 / 24)
_SIN1, _SIN3 = np.array(_UNIT), np.array(-(_UNIT**3) / 6)

_FEW = 2.0**32  # radius words below it get 64 more bits


def gaussian(entropy: Entropy, count: int) -> NDArray[np.float64]:
    """Return independent standard normals, in full precision.

    To release a sum with noise use :func:`add_gaussian`, which rounds to the grid: these values
    themselves show which generator they are from, and so do sums with them.

    Args:
        entropy: where the key of the stream comes from. Never a seed.
        count: how many, ≥ 0.

    Returns:
        float64, shape ``[count]``; every value finite and within ±13.3.

    Raises:
        PrivacyError: for a negative count.
    """
    if count < 0:
        raise PrivacyError(f"the number of noise values must be ≥ 0, got {count}")
    out = np.empty(count)
    for start, values in _tiles(Keystream(entropy), count, 1.0):
        out[start : start + len(values)] = values
    return out


def add_gaussian(entropy: Entropy, total: NDArray[np.floating], std: float) -> NDArray[np.floating]:
    """Return a clipped sum with noise: the second half of the Gaussian mechanism.

    Args:
        entropy: see :func:`gaussian`.
        total: float32 or float64, any shape: a sum of contributions of L2 norm at most C each.
        std: standard deviation in the units of ``total``, in [2**-100, 2**100]: σ·C.

    Returns:
        A new array of the same shape and type, of multiples of the grid's step (rounded to float32
        where they are beyond 2**13 std, which is post-processing).

    Raises:
        PrivacyError: for another type; a std outside its range; a value that isn't finite, or one
            so large that the sum can't have been exact enough: beyond 2**20 std in float32, 2**36
            in float64.
    """
    out = np.array(total, order="C")
    add_gaussian_(entropy, out, std)
    return out


def add_gaussian_(entropy: Entropy, total: "Tensor | NDArray[np.floating]", std: float) -> None:
    """Do what :func:`add_gaussian` does in place.

    Where ``total`` is contiguous this takes 2 MiB at most, for a tensor on another device 10 MiB:
    the noise is made on the processor, added there, and the result copied back.

    Args:
        entropy: see :func:`gaussian`. Each call draws a key.
        total: see :func:`add_gaussian`; a tensor may lie on any device.
        std: see :func:`add_gaussian`.

    Raises:
        PrivacyError: as for :func:`add_gaussian`; ``total`` is untouched then.
    """
    if not _STD[0] <= std <= _STD[1]:
        raise PrivacyError(f"the noise's std must be in [2**-100, 2**100], got {std}")
    if isinstance(total, np.ndarray):
        _into_array(entropy, total, std)
    else:
        _into_tensor(entropy, total, std)


def _into_array(entropy: Entropy, total: NDArray[np.floating], std: float) -> None:
    if total.dtype not in _LARGEST:
        raise PrivacyError(f"noise is added in float32 or float64, got {total.dtype}")
    if not total.size:
        return
    flat = total.reshape(-1)
    _check(float(flat.min()), float(flat.max()), std * _LARGEST[flat.dtype])
    _onto(Keystream(entropy), flat, std)
    if not np.may_share_memory(flat, total):
        total[...] = flat.reshape(total.shape)


def _into_tensor(entropy: Entropy, total: "Tensor", std: float) -> None:
    import torch

    if total.dtype not in (torch.float32, torch.float64):
        raise PrivacyError(f"noise is added in float32 or float64, got {total.dtype}")
    data = total.detach()
    if not data.is_contiguous():
        dense = data.contiguous()
        _into_tensor(entropy, dense, std)
        data.copy_(dense)
    elif data.device.type == "cpu":
        _into_array(entropy, data.numpy(), std)
    elif data.numel():
        _by_host(entropy, data.view(-1), std)


def _by_host(entropy: Entropy, flat: "Tensor", std: float) -> None:
    import torch

    single = flat.dtype == torch.float32
    low, high = torch.aminmax(flat)
    _check(low.item(), high.item(), std * _LARGEST[np.dtype(np.float32 if single else np.float64)])
    stream = Keystream(entropy)
    for start in range(0, flat.numel(), _STAGED):
        part = flat[start : start + _STAGED]
        host = part.cpu()
        _onto(stream, host.numpy(), std)
        part.copy_(host)


def check_finite(low: float, high: float) -> None:
    """Check a sum's least and largest value: an undefined one among them makes both undefined.

    Raises:
        PrivacyError: without naming a value, for they are secret.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise PrivacyError("the sum to add noise to has values that aren't finite")


def _check(low: float, high: float, largest: float) -> None:
    check_finite(low, high)
    if max(-low, high) > largest:
        raise PrivacyError(
            f"the sum to add noise to has values beyond {largest:.3g}, where its own rounding "
            "nears the noise; were the contributions clipped?"
        )


def _onto(stream: Keystream, flat: NDArray[np.floating], std: float) -> None:
    grid = math.ldexp(1.0, math.frexp(std)[1] - 1 - _GRID_BITS)
    # Among floats from 2**52 to 2**53 times the grid, it is what is between neighbours.
    shift = np.array(1.5 * 2.0**52 * grid)
    for start, values in _tiles(stream, flat.size, std):
        part = flat[start : start + len(values)]
        np.add(values, part, out=values)
        np.add(values, shift, out=values)
        np.subtract(values, shift, out=part, casting="same_kind")


def tiles(entropy: Entropy, count: int, std: float) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield independent normals N(0, std²) in parts: what shares of noise are made from.

    As with :func:`gaussian` the values are in full precision: round their sum with a total once,
    to a grid of at least 2**-11 std, and release nothing else.

    Args:
        entropy: see :func:`gaussian`.
        count: how many, ≥ 0.
        std: standard deviation, > 0.

    Yields:
        The place of a part, and the part: float64, shape ``[≤ 32768]``. The next one overwrites
        it, and it may be overwritten before.
    """
    yield from _tiles(Keystream(entropy), count, std)


def _tiles(stream: Keystream, count: int, std: float) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield ``count`` normals N(0, std²) in parts, with their places; each overwrites the last."""
    block, tile = np.empty(_Tile.WIDTH * min(_PAIRS, (count + 1) // 2)), None
    for start in range(0, count, 2 * _PAIRS):
        size = min(2 * _PAIRS, count - start)
        if tile is None or size < 2 * _PAIRS:
            tile = _Tile(stream, block, (size + 1) // 2, std)
        yield start, tile.draw()[:size]


class _Tile:
    """Pairs of normals N(0, std²), made in one block of memory."""

    WIDTH = 10  # floats of the block that a pair takes

    def __init__(
        self, stream: Keystream, block: NDArray[np.float64], pairs: int, std: float
    ) -> None:
        self._stream = stream
        rows = block[: self.WIDTH * pairs].reshape(self.WIDTH, pairs)
        self._words = rows[:2].view(np.int64)
        self._bytes = self._words.data.cast("B")
        self._sector = self._words[1]
        self._floats = rows[2:4]
        self._radius, self._offset = self._floats
        self._square, self._series = rows[4:6]
        self._turn = rows[6:8].reshape(-1).view(np.complex128)
        self._values = rows[8:].reshape(-1)
        self._pairs = self._values.view(np.complex128)
        self._cosines, self._sines = self._pairs.real, self._pairs.imag
        self._factor = np.array(-2.0 * std * std)

    def draw(self) -> NDArray[np.float64]:
        """Return two values of each pair; they are overwritten by the next call."""
        self._stream.fill(self._bytes)
        np.copyto(self._floats, self._words)  # to 53 bits
        self._set_radius()
        self._set_offset()
        np.bitwise_and(self._sector, _LAST, out=self._sector)
        _TURNS.take(self._sector, out=self._turn, mode="wrap")
        np.multiply(self._pairs, self._turn, out=self._pairs)
        return self._values

    def _set_radius(self) -> None:
        """Turn signed words into std·sqrt(-2 ln u), with u uniform in (0, 1]."""
        radius = self._radius
        np.absolute(radius, out=radius)
        if radius.min() < _FEW:
            self._refine()
        np.multiply(radius, _SCALE, out=radius)
        np.log(radius, out=radius)
        np.multiply(radius, self._factor, out=radius)
        np.sqrt(radius, out=radius)

    def _refine(self) -> None:
        """Replace the smallest by uniform values within 1/2 of them, none of which is 0."""
        few = np.flatnonzero(self._radius < _FEW)
        words = np.empty(len(few), dtype=np.int64)
        self._stream.fill(words.data.cast("B"))
        words |= 1
        self._radius[few] = np.abs(self._radius[few] + words * 2.0**-64)

    def _set_offset(self) -> None:
        """Make complex numbers of that radius and of an angle in a sector around 0."""
        x, square, series = self._offset, self._square, self._series
        np.multiply(x, x, out=square)
        np.multiply(square, _COS4, out=series)
        np.add(series, _COS2, out=series)
        np.multiply(series, square, out=series)
        np.add(series, _ONE, out=series)
        np.multiply(series, self._radius, out=self._cosines)
        np.multiply(square, _SIN3, out=series)
        np.add(series, _SIN1, out=series)
        np.multiply(series, x, out=series)
        np.multiply(series, self._radius, out=self._sines)
