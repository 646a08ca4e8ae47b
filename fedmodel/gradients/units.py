"""Units of privacy at one site: its rows, or its patients with all their rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """

    rows: NDArray[np.int64]
    unit: NDArray[np.int64]
    count: int


class Units:
    """The units of a site's rows. Sized; secret.

    Args:
        lengths: tokens of each row.
        patients: whose each row is; ``None``: every row is a unit.
    """

    def __init__(self, lengths: NDArray[np.int64], patients: Sequence[str] | None) -> None:
        self._lengths = lengths
        self._rows: list[NDArray[np.int64]] | None = None
        if patients is not None:
            places: dict[str, list[int]] = {}
            for row, patient in enumerate(patients):
                places.setdefault(patient, []).append(row)
            self._rows = [np.array(rows, dtype=np.int64) for rows in places.values()]

    def __len__(self) -> int:
        return len(self._lengths) if self._rows is None else len(self._rows)

    def __repr__(self) -> str:
        return "Units(…)"

    def batches(
        self, drawn: NDArray[np.int64], size: int, limit: int, entropy: Entropy
    ) -> Iterator[Batch]:
        """Yield the rows of the drawn units in batches of similar length.

        A unit's rows are never split over two batches: its gradient is clipped as a whole. So a
        batch has more than ``size`` rows where one patient has.

        Args:
            drawn: int64: numbers of units.
            size: rows in one forward pass.
            limit: at most so many rows of one patient, chosen at random: a patient's rows then
                all have their turn, and the choice depends on nobody else.
            entropy: for that choice.
        """
        if self._rows is None:
            ordered = drawn[np.argsort(self._lengths[drawn], kind="stable")]
            for start in range(0, len(ordered), size):
                rows = ordered[start : start + size]
                yield Batch(rows, np.arange(len(rows)), len(rows))
            return
        chosen = [sampling.choose(entropy, self._rows[unit], limit) for unit in drawn]
        chosen.sort(key=lambda rows: int(self._lengths[rows].max()))
        held: list[NDArray[np.int64]] = []
        for rows in chosen:
            if held and sum(map(len, held)) + len(rows) > size:
                yield _batch(held)
                held = []
            held.append(rows)
        if held:
            yield _batch(held)


def _batch(units: list[NDArray[np.int64]]) -> Batch:
    sizes = [len(rows) for rows in units]
    return Batch(np.concatenate(units), np.repeat(np.arange(len(units)), sizes), len(units))
