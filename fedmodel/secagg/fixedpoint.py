"""Real numbers as integers of a ring, with room for the sum proved beforehand."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, RangeError
from fedmodel.job import BITS

__all__ = ["FixedPoint"]

_FINE = 16  # units that a contribution's range must have at least
_EXPONENT = 64  # of 2, for a range: scaling stays far from float32's limits


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """How one party's real numbers become integers whose sum can't wrap around.

    A party's integers are at most L = floor((2**(bits-1) - 1 - reserve) / parties) in absolute
    value, so that |sum| ≤ parties · L + reserve < 2**(bits-1). One unit stands for ``step``, the
    smallest power of two with range / step ≤ L: scaling by it is exact in binary floating point.
    Rounding is to the nearest integer, halves to even, so a decoded value is off by at most
    step / 2 per party.

    >>> import numpy as np
    >>> code = FixedPoint(bits=24, parties=10, range=8.0)
    >>> code.step == 2**-16
    True
    >>> ring = np.empty(3, np.uint32)
    >>> code.encode(np.array([0.5, -8.0, 1e-6], np.float32), ring, clip=False)
    >>> code.decode(ring.view(np.int32).astype(np.int64))
    array([ 0.5, -8. ,  0. ])

    Args:
        bits: of the ring: 16, 20, 24, 28 or 32.
        parties: that are summed at most.
        range: largest absolute value of one party's numbers.
        reserve: units kept free beyond the parties' values, for noise.

    Raises:
        ConfigError: when the ring has too little room for this.
    """

    bits: int
    parties: int
    range: float
    reserve: int = 0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ConfigError(
                f"secagg.bits must be one of {', '.join(map(str, BITS))}, got {self.bits}"
            )
        if self.parties < 1 or self.reserve < 0:
            raise ConfigError(
                "a sum needs at least one party and a reserve of at least 0 units, "
                f"got {self.parties} and {self.reserve}"
            )
        if not 2.0**-_EXPONENT <= self.range <= 2.0**_EXPONENT:
            raise ConfigError(
                f"secagg.range must be in [2**-{_EXPONENT}, 2**{_EXPONENT}], got {self.range}"
            )
        if self._most < _FINE:
            raise ConfigError(
                f"{self.bits} bits leave {max(self._most, 0)} units for each of {self.parties} "
                f"parties' ranges of {self.range:g} beside a reserve of {self.reserve}, and a sum "
                f"needs at least {_FINE}; use more secagg.bits, fewer parties or less noise"
            )
        if self.parties * self.largest + self.reserve >= 2 ** (self.bits - 1):
            raise ConfigError(
                f"the sum of {self.parties} parties can wrap around in {self.bits} bits; use more "
                "secagg.bits or a smaller secagg.range"
            )

    @property
    def _most(self) -> int:
        return ((1 << (self.bits - 1)) - 1 - self.reserve) // self.parties

    @property
    def step(self) -> float:
        """The real value of one unit: a power of two."""
        fraction, exponent = math.frexp(self.range / self._most)
        return math.ldexp(1.0, exponent - (fraction == 0.5))

    @property
    def largest(self) -> int:
        """The largest absolute value of one party's integers."""
        return round(self.range / self.step)

    def encode(self, values: NDArray[np.floating], out: NDArray[np.uint32], *, clip: bool) -> None:
        """Overwrite ``out`` with the ring elements of some numbers (modulo 2**32).

        Args:
            values: float16, float32 or float64, shape ``[n]``.
            out: uint32, contiguous, shape ``[n]``.
            clip: what to do beyond the range: ``True``: replace by its end, ``False``: raise.

        Raises:
            RangeError: for NaN or infinite values, or values beyond the range unless ``clip``.
        """
        if not values.size:
            return
        beyond = self._beyond(values)
        if beyond and not clip:
            raise RangeError(
                f"a value is beyond secagg.range ({self.range:g}), so the sum could be wrong; "
                "use a larger secagg.range, or secagg.overflow=clip"
            )
        # A power of two scales exactly, and rint of a float is exact: float32 loses nothing here.
        kind = np.float64 if values.dtype == np.float64 else np.float32
        scaled = out.view(np.float32) if kind is np.float32 else np.empty(values.shape, kind)
        if beyond:
            limit = _at_most(self.range, kind)
            values = np.clip(values.astype(kind, copy=False), -limit, limit)
        np.multiply(values, kind(1 / self.step), out=scaled, dtype=kind)
        np.rint(scaled, out=scaled)
        np.copyto(out.view(np.int32), scaled, casting="unsafe")

    def decode(self, total: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return what a sum of integers stands for: float64, the same shape.

        Args:
            total: integers, any shape, centred around 0.
        """
        return total.astype(np.float64) * self.step

    def _beyond(self, values: NDArray[np.floating]) -> bool:
        low, high = float(values.min()), float(values.max())  # NaN if there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise RangeError(
                "an update has values that are NaN or infinite; lower train.lr, or look for them "
                "in the site's own log"
            )
        return low < -self.range or high > self.range


def _at_most(value: float, kind: type[np.floating]) -> np.floating:
    near = kind(value)
    return np.nextafter(near, kind(0)) if float(near) > value else near
