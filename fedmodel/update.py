"""One site's contribution to a round, as a value that can be added."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedmodel.errors import ProtocolError

__all__ = ["Total", "Update", "Vector", "root_mean_square", "vector_sha256"]

# Trainable parameters, or a change of them: one flat float32 array.
Vector: TypeAlias = NDArray[np.float32]


def vector_sha256(vector: Vector) -> str:
    """Return the SHA-256 (hex) of parameters as they travel: float32, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(vector, dtype="<f4").data).hexdigest()


def root_mean_square(vector: Vector) -> float:
    """Return the root mean square of a vector's coordinates; 0 of none."""
    if not vector.size:
        return 0.0
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    return norm / math.sqrt(vector.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A weighted sum of parameter changes and metrics over one or more sites.

    Adding two updates adds their fields, so that the mean over any set of sites is the sum
    divided by its weight. Make one site's update with :meth:`of`.

    Args:
        vector: float32, shape ``[trainable parameters]``: the sum of weight times change.
        weight: the sum of weights, > 0 and finite.
        metrics: name → the sum of weight times value.
    """

    vector: Vector
    weight: float
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or self.vector.dtype != np.float32:
            raise ProtocolError(
                "an update's vector must be one flat float32 array, "
                f"got {self.vector.dtype} of shape {self.vector.shape}"
            )
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ProtocolError(f"an update's weight must be finite and > 0, got {self.weight}")

    @classmethod
    def of(
        cls, change: Vector, weight: float = 1.0, metrics: dict[str, float] | None = None
    ) -> "Update":
        """Return one site's contribution: its parameters after minus before, and its weight."""
        vector = change if weight == 1.0 else change * np.float32(weight)
        values = {name: weight * value for name, value in (metrics or {}).items()}
        return cls(vector=vector, weight=weight, metrics=values)

    @classmethod
    def total(cls, updates: Iterable["Update"]) -> "Update":
        """Return the sum of one or more updates, in their order; none is kept meanwhile."""
        total = Total()
        for update in updates:
            total.add(update)
        return total.sum()

    def mean(self) -> "Update":
        """Return the weighted mean as an update of weight 1."""
        return Update(
            vector=self.vector / np.float32(self.weight),
            weight=1.0,
            metrics={name: value / self.weight for name, value in self.metrics.items()},
        )

    def __add__(self, other: "Update") -> "Update":
        return Update.total((self, other))


class Total:
    """A sum of updates that are added one after the other: it keeps none of them."""

    def __init__(self) -> None:
        self._sum: Update | None = None

    def add(self, update: Update) -> None:
        """Add an update.

        Raises:
            ProtocolError: when it is of another size than those before.
        """
        if self._sum is None:
            # A copy: what is added is another's, and may lie in a file.
            self._sum = replace(update, vector=update.vector.copy())
            return
        vector, metrics = self._sum.vector, self._sum.metrics
        if update.vector.shape != vector.shape:
            raise ProtocolError(
                f"updates of different sizes: {vector.size} and {update.vector.size} parameters"
            )
        vector += update.vector
        names = sorted(metrics.keys() & update.metrics.keys())
        self._sum = Update(
            vector=vector,
            weight=self._sum.weight + update.weight,
            metrics={name: metrics[name] + update.metrics[name] for name in names},
        )

    def sum(self) -> Update:
        """Return the sum so far.

        Raises:
            ProtocolError: when nothing was added.
        """
        if self._sum is None:
            raise ProtocolError("expected one or more updates to sum, got none")
        return replace(self._sum, metrics=dict(self._sum.metrics))
