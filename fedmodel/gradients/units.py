"""Units of privacy at one site: its rows, or its patients with all their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmodel.gradients.shapes import Shapes
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy

__all__ = ["Batch", "Units"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows for one forward pass, with whole units only.

    Args:
        rows: int64 ``[B]``: row numbers.
        unit: int64 ``[B]``: each row's unit, counted from 0 within this batch.
        count: units in it.
        width: tokens that every row is padded to.
        size: rows that the pass is filled up to, with rows of weight 0; ``B`` at least.
    """

    rows: NDArray[np.int64]
    unit: NDArray[np.int64]
    count: int
    width: int
    size: int


class Units:
    """The units of a site's rows. Sized; secret.

    Args:
        widths: tokens that each row is padded to, by its own length.
        patients: whose each row is; ``None``: every row is a unit.
    """

    def __init__(self, widths: NDArray[np.int64], patients: Sequence[str] | None) -> None:
        self._widths = widths
        self._rows: list[NDArray[np.int64]] | None = None
        if patients is not None:
            places: dict[str, list[int]] = {}
            for row, patient in enumerate(patients):
                places.setdefault(patient, []).append(row)
            self._rows = [np.array(rows, dtype=np.int64) for rows in places.values()]

    def __len__(self) -> int:
        return len(self._widths) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return "Units(…)"

    def batches(
        self, drawn: NDArray[np.int64], limit: int, entropy: Entropy, shapes: Shapes
    ) -> Iterator[Batch]:
        """Yield the rows of the drawn units in batches of one width each.

        A unit's rows are never split over two batches: its gradient is clipped as a whole. They
        are as wide as its widest, and meet only units of as many rows, so that nothing of its
        pass hangs on another unit.

        Args:
            drawn: int64: numbers of units.
            limit: at most so many rows of one patient, chosen at random: a patient's rows then
                all have their turn, and the choice depends on nobody else.
            entropy: for that choice.
            shapes: what a pass may look like.
        """
        alike: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
        for unit in drawn:
            rows = self._chosen(unit, limit, entropy)
            alike.setdefault((int(self._widths[rows].max()), len(rows)), []).append(rows)
        for (width, each), units in sorted(alike.items()):
            done = 0
            for count, size in shapes.cut(width, len(units), each):
                rows = np.concatenate(units[done : done + count])
                done += count
                yield Batch(rows, np.repeat(np.arange(count), each), count, width, size)

    def rows_of(self, unit: int) -> NDArray[np.int64]:
        """Return the numbers of a unit's rows."""
        return np.array([unit]) if self._rows is None else self._rows[unit]

    def _chosen(self, unit: np.int64, limit: int, entropy: Entropy) -> NDArray[np.int64]:
        if self._rows is None:
            return np.array([unit])
        return sampling.choose(entropy, self._rows[unit], limit)
