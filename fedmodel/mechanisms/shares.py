"""Gaussian noise in shares: every site adds a part of it, and only their sum is looked at.

Site j adds N(0, s²) to each coordinate of its own real-valued sum x_j, rounds to the nearest
multiple of a public power of two, and the integers K_j are added modulo 2**bits under masks
(:mod:`fedmodel.secagg`). Against the coordinator together with so many sites, whose K_j are then
mere constants in the sum, the shares of the h honest sites that remain are what counts. With
s = S/√h their sum is, to all purposes, the Gaussian mechanism on X = Σ x_j with standard deviation
S, and its ε is that mechanism's: no term for rounding, none for the number of coordinates.

**Why.** Take the grid for the unit, so that 64 ≤ s < 128. With U uniform on (−½, ½),
P(K_j = k) is the density of x_j + N(0, s²) + U at k, so by Poisson's summation formula its Fourier
series is φ_j(θ) = Σ_m ψ_j(θ + 2πm), where ψ_j(t) = exp(itx_j − s²t²/2)·sinc(t/2). Compare

- Π_j φ_j, the series of the honest sites' sum ΣK_j, with
- Σ_m Π_j ψ_j(θ + 2πm), by the same formula that of R = round(X + N(0, S²) + U_2 + … + U_h),
  which is a function of X + N(0, S²) and of coins of its own: post-processing.

For |θ| ≤ π, |ψ_j| ≤ 1, and what aliasing adds to it, Σ_{m≠0} |ψ_j(θ + 2πm)|, is at most
a = 2.01·exp(−π²s²/2); so is what it adds to Π_j ψ_j. Hence the series differ by at most
(1 + a)^h − 1 + a, and so does every probability. Over the points within T = πsS + h/2 of X, and
with R's tail beyond them, 2·exp(−(T − h/2)²/2S²) ≤ a, the total variation between ΣK_j and R is at
most

    (2T + 1)·((1 + a)^h − 1 + a) + a  <  1e-8000    for 64 ≤ s < 128 and h ≤ 1e6

in each coordinate (:func:`distance` computes it for any s). Every coordinate of every step adds
as much to δ, (1 + exp(ε))-fold; no number of them makes it visible.

The variance of the sum is S² + h/12 grid units, at most 2.1e-5 above S²: so the ε claimed is never
below that of continuous noise of equal variance, and hardly above it. Sites beyond h only add
noise. Clipping each coordinate to what the ring holds is a contraction, so the
sensitivity stays C, and what wraps around is post-processing.

**Why not** the discrete Gaussian (Kairouz, Liu, Steinke, arXiv 2102.06387) or Skellam noise
(Agarwal, Kairouz, Liu, arXiv 2110.04995): there inputs are rounded before noise is added, which
costs sensitivity, a random rotation and conditional rounding, and an ε that depends on the number
of coordinates. Rounding input and noise together costs none of it. (The former also bounds sums of
noise that isn't closed under them by Poisson's formula.)

**Assumptions.** At least h sites that don't collude add their share to every sum that is unmasked:
the sites' own rules see to that, not this module. Real arithmetic and ideal noise: what
:mod:`fedmodel.mechanisms.noise` says of its sampler holds for each site's values, with 1e11 for
coordinates · steps · honest sites together (a cell of this grid is a union of cells of that one).
Input and noise are rounded once: the input's nearest grid point is set aside exactly, what is left
is below 2**11 with the noise, so its sum in float64 puts a cell's edge off by 2**-43 at most, and
multiplies a cell's probability by 1 ± 2**-42, far below the sampler's own error. What x_j lost to
rounding before it got here is its maker's to bound, as there.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.job import BITS
from fedmodel.mechanisms.noise import check_finite, tiles
from fedmodel.seeds import Entropy

__all__ = ["BITS", "GRID_BITS", "Shares", "as_reals", "bits_needed", "distance", "noised"]

GRID_BITS = 6  # a share's std is between 2**6 and 2**7 of the grid's steps
_LEAST = 2.0**GRID_BITS
_STD = (2.0**-100, 2.0**100)
_MOST = 10**6  # sites: what the bound above is worked out for
_TAIL = 12.0  # std of all shares that the ring has room for: exceeded with probability 4e-33
# In float32 a sum beyond 2**20 std has lost too much to its own rounding (see noise).
_LARGEST = 1 << (20 + GRID_BITS)

# Among floats from 2**52 to 2**53 neighbours are 1 apart, and the last 32 bits are the integer's.
_SHIFT = np.array(1.5 * 2.0**52)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How one sum's noise is shared, and onto which grid and into which ring it is put.

    All of it is public, and follows from the plan and the cohort.

    Args:
        std: standard deviation S that is guaranteed, in the units of the sum: σ·C.
        honest: h, sites at least whose shares an adversary doesn't know.
        parties: sites at most in a sum.
        bits: of the ring: 16, 20, 24, 28 or 32.

    Raises:
        ConfigError: for a number that isn't usable, or when the ring has no room for the noise.
    """

    std: float
    honest: int
    parties: int
    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.honest <= self.parties <= _MOST:
            raise ConfigError(
                f"shares need 1 ≤ honest ≤ parties ≤ {_MOST}, got honest={self.honest}, "
                f"parties={self.parties}"
            )
        if self.bits not in BITS:
            raise ConfigError(f"bits must be one of {', '.join(map(str, BITS))}, got {self.bits}")
        if not (_STD[0] <= self.std <= _STD[1] and _STD[0] <= self.share_std):
            raise ConfigError(f"the noise's std must be in [2**-100, 2**100], got {self.std}")
        if not _LEAST <= self.share_std / self.grid < 2 * _LEAST:
            raise ConfigError(
                f"a share's std must be 2**{GRID_BITS} to 2**{GRID_BITS + 1} steps of the grid, "
                f"got {self.share_std / self.grid}; please report it"
            )
        if self.largest < 1:
            raise ConfigError(
                f"{self.bits} bits have no room for the noise of {self.parties} sites; use more "
                "bits (secagg.bits)"
            )

    @property
    def share_std(self) -> float:
        """Standard deviation s of one site's share, S/√h."""
        return self.std / math.sqrt(self.honest)

    @property
    def grid(self) -> float:
        """Distance of the grid's points: a power of two, s/128 < grid ≤ s/64."""
        return math.ldexp(1.0, math.frexp(self.share_std)[1] - 1 - GRID_BITS)

    @property
    def reserve(self) -> int:
        """Steps of the grid kept free for the noise and the rounding of all sites.

        The noise goes beyond them with a probability below 1e-30 in each coordinate; then the
        sum is wrong there, but no less private.
        """
        noise = _TAIL * math.sqrt(self.parties) * self.share_std / self.grid
        return math.ceil(noise) + self.parties

    @property
    def largest(self) -> int:
        """How large a coordinate of one site's sum may be, in steps of the grid."""
        room = (1 << (self.bits - 1)) - 1 - self.reserve
        return min(room // self.parties, _LARGEST)

    @property
    def limit(self) -> float:
        """How large it may be in the units of the sum; what is beyond is clipped to it."""
        return self.largest * self.grid


def bits_needed(*, std: float, honest: int, parties: int, largest_coordinate: float) -> int:
    """Return the narrowest ring in which no coordinate up to a bound is clipped.

    Args:
        std: see :class:`Shares`.
        honest: likewise.
        parties: likewise.
        largest_coordinate: bound on a coordinate of one site's sum.

    Raises:
        ConfigError: when not even 32 bits do.
    """
    limit = 0.0
    for bits in BITS:
        try:
            limit = Shares(std=std, honest=honest, parties=parties, bits=bits).limit
        except ConfigError:
            if bits == BITS[-1]:
                raise
            continue
        if limit >= largest_coordinate:
            return bits
    raise ConfigError(
        f"sums with coordinates up to {largest_coordinate:.3g} don't fit into {BITS[-1]} bits "
        f"beside the noise (std {std:.3g}, {parties} sites), which leave room for ±{limit:.3g}; "
        "use a smaller train.batch_size, a larger noise or fewer sites"
    )


def noised(entropy: Entropy, total: NDArray[np.floating], shares: Shares) -> NDArray[np.uint32]:
    """Return a site's clipped sum with its share of the noise, as elements of the ring.

    By itself it has too little noise to be shown to anybody: mask it. This takes 3 MiB beside the
    result.

    Args:
        entropy: where the key of the noise comes from. Never a seed.
        total: float32 or float64, any shape, in the units of ``shares.std``. Coordinates beyond
            ±``shares.limit`` are clipped to it.
        shares: of this sum.

    Returns:
        uint32 of the same shape: multiples of the grid modulo 2**32, of which the lower ``bits``
        bits count.

    Raises:
        PrivacyError: for another type, or a value that isn't finite.
    """
    if total.dtype not in (np.float32, np.float64):
        raise PrivacyError(f"noise is added in float32 or float64, got {total.dtype}")
    flat = total.reshape(-1)
    out = np.empty(flat.size, dtype=np.uint32)
    if flat.size:
        check_finite(float(flat.min()), float(flat.max()))
        _fill(out, entropy, flat, shares)
    return out.reshape(total.shape)


def _fill(
    out: NDArray[np.uint32], entropy: Entropy, flat: NDArray[np.floating], shares: Shares
) -> None:
    # Arrays without dimensions keep float64 where a Python number would be made float32.
    low, high = np.array(-shares.limit), np.array(shares.limit)
    per_grid = np.array(1 / shares.grid)
    buffers = None
    for start, noise in tiles(entropy, flat.size, shares.share_std / shares.grid):
        if buffers is None:
            buffers = np.empty((3, len(noise)))
        rest, shifted, nearest = buffers[:, : len(noise)]
        place = slice(start, start + len(noise))
        np.clip(flat[place], low, high, out=rest)
        np.multiply(rest, per_grid, out=rest)
        np.add(rest, _SHIFT, out=shifted)
        np.subtract(shifted, _SHIFT, out=nearest)
        np.subtract(rest, nearest, out=rest)  # exact
        np.add(noise, rest, out=noise)
        np.add(noise, _SHIFT, out=noise)  # rounds to an integer
        whole = noise.view(np.int64)
        np.add(whole, shifted.view(np.int64), out=whole)
        np.copyto(out[place], whole, casting="unsafe")  # the last 32 bits


def as_reals(total: NDArray[np.integer[Any]], shares: Shares) -> NDArray[np.float64]:
    """Return a sum over sites in the units it was made in.

    Args:
        total: the unmasked sum modulo 2**bits, as any representative.
        shares: of this sum.

    Returns:
        float64 of the same shape.
    """
    half = np.int64(1 << (shares.bits - 1))
    centred = ((total + half) & (2 * half - 1)) - half
    return np.asarray(centred * shares.grid, dtype=np.float64)


def distance(share_std: float, honest: int) -> float:
    """Return the bound on the total variation from the module's text.

    Args:
        share_std: s, how many steps of the grid a share's std is: at least 1. From 13 on the
            bound is too small for a float, and 0.
        honest: h.
    """
    alias = 2.01 * math.exp(-((math.pi * share_std) ** 2) / 2)
    points = 2 * math.pi * share_std**2 * math.sqrt(honest) + honest + 1
    return points * (math.expm1(honest * math.log1p(alias)) + alias) + alias
