"""Groups of a batch's rows by the unit that each belongs to."""

import torch
from torch import Tensor

__all__ = ["Groups"]


class Groups:
    """Rows of a batch by unit.

    Args:
        unit: int64 ``[B]``: each row's unit, 0 to units - 1, each at least once.
    """

    def __init__(self, unit: Tensor) -> None:
        self.unit = unit
        self.rows = len(unit)
        self.count = int(unit.max()) + 1 if self.rows else 0
        self.sizes = torch.bincount(unit, minlength=self.count)
        self.single = self.count == self.rows and bool(
            (unit == torch.arange(self.rows, device=unit.device)).all()
        )
        self._places: Tensor | None = None

    @classmethod
    def records(cls, rows: int, device: torch.device) -> "Groups":
        """Return the groups of a batch whose units are its rows."""
        return cls(torch.arange(rows, device=device))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over each unit's rows: ``[B, …]`` to ``[U, …]``."""
        if self.single:
            return values
        return values.new_zeros(self.count, *values.shape[1:]).index_add_(0, self.unit, values)

    def spread(self, values: Tensor) -> Tensor:
        """Return each row's unit's value: ``[U, …]`` to ``[B, …]``."""
        return values if self.single else values[self.unit]

    def join(self, values: Tensor) -> Tensor:
        """Return each unit's rows one after another, with zeros where a unit has fewer.

        Args:
            values: ``[B, T, D]``.

        Returns:
            ``[U, R * T, D]``, R being the most rows of a unit.
        """
        if self.single:
            return values
        padded = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
        return padded[self._table()].flatten(1, 2)

    def _table(self) -> Tensor:
        """Return ``[U, R]``: numbers of each unit's rows; B where there is none."""
        if self._places is None:
            order = torch.argsort(self.unit, stable=True)
            starts = torch.cumsum(self.sizes, 0) - self.sizes
            column = torch.arange(self.rows, device=order.device) - starts[self.unit[order]]
            table = order.new_full((self.count, int(self.sizes.max())), self.rows)
            table[self.unit[order], column] = order
            self._places = table
        return self._places
