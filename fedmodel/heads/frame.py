"""Frame: around which mean, and at which scale, a head reads vectors.

Adding the same to all logits changes neither a class's probability nor any loss, so a head of K
classes has one row and one bias more than it needs. The mean m of its rows is that centre, and the
mean s of its biases that scale: who has the head has the frame too, and nothing else travels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import ProtocolError
from fedmodel.update import Vector

__all__ = ["BIAS", "Frame", "HeadShape"]

BIAS = 0.25
"""A bias's gradient over that of its row, at vectors of length 1; and what a row's count weighs
beside its vector."""

_SCALES = (1e-3, 1e3)
F = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """A linear head as it stands in a vector of parameters: K biases, then K rows (sorted by name).

    Args:
        classes: K.
        width: of a row.
    """

    classes: int
    width: int

    @classmethod
    def of(cls, size: int, classes: int) -> "HeadShape":
        """Return the shape of a head of so many parameters.

        Raises:
            ProtocolError: when there is none.
        """
        width, left = divmod(size - classes, classes)
        if width < 1 or left:
            raise ProtocolError(
                f"{size} parameters aren't those of a linear head of {classes} classes with a bias"
            )
        return cls(classes=classes, width=width)

    def parts(self, vector: NDArray[np.floating]) -> tuple[F, F]:
        """Return rows ``[K, width]`` and biases ``[K]``, float64."""
        biases, rows = np.split(vector.astype(np.float64), [self.classes])
        return rows.reshape(self.classes, self.width), biases

    def vector(self, rows: F, biases: F) -> Vector:
        """Return the parameters of rows and biases, float32."""
        return np.concatenate([biases, rows.reshape(-1)]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Frame:
    """Where vectors are looked at from: x is seen as s·(x − m).

    Args:
        centre: m, float64 ``[width]``.
        scale: s.
    """

    centre: F
    scale: float

    @classmethod
    def of(cls, shape: HeadShape, vector: Vector) -> "Frame":
        """Return the frame that a head has been made in; of one that is 0 everywhere, none has.

        Raises:
            ProtocolError: when its scale isn't one.
        """
        if not vector.any():
            return cls(np.zeros(shape.width), 1.0)
        rows, biases = shape.parts(vector)
        scale = float(biases.mean())
        if not _SCALES[0] <= scale <= _SCALES[1]:
            raise ProtocolError(
                f"the head's scale (the mean of its biases) must be between {_SCALES[0]:g} and "
                f"{_SCALES[1]:g}, got {scale:g}"
            )
        return cls(rows.mean(axis=0), scale)

    def plain(self, shape: HeadShape, rows: F, biases: F) -> Vector:
        """Return the plain head that gives the same classes as one of this frame.

        Args:
            shape: of the head.
            rows: that read BIAS⁻¹·s·(x − m), ``[K, width]``.
            biases: added to that, ``[K]``.
        """
        factor = self.scale / BIAS
        rows, biases = rows - rows.mean(axis=0), biases - biases.mean()
        # Of mean 0 both, so that the means are what the frame puts there.
        own = biases - factor * rows @ self.centre
        return shape.vector(factor * rows + self.centre, own + self.scale)

    def framed(self, shape: HeadShape, vector: Vector) -> tuple[F, F]:
        """Return rows and biases of this frame: the inverse of :meth:`plain`."""
        rows, biases = shape.parts(vector)
        own = (rows - rows.mean(axis=0)) * BIAS / self.scale
        biases = biases - biases.mean() + self.scale / BIAS * own @ self.centre
        return own, biases - biases.mean()
