"""Notes of the layers on one batch: what their weights' gradients are made of."""

import torch
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip.parts import Part

__all__ = ["Notes"]


class Notes:
    """What layers note during one backward pass, for whoever clips and sums afterwards."""

    def __init__(self) -> None:
        self.anchor = torch.zeros((), requires_grad=True)
        self.rows = 0
        self.parts: dict[nn.Parameter, list[Part]] = {}
        self.copies: list[tuple[nn.Parameter, Tensor]] = []

    def clear(self, rows: int = 0) -> None:
        """Forget the last batch; the next one has so many rows."""
        self.rows = rows
        self.parts.clear()
        self.copies.clear()

    def note(self, parameter: nn.Parameter, part: Part) -> None:
        """Keep a part of a parameter's gradient."""
        self.parts.setdefault(parameter, []).append(part)

    def by_row(self, x: Tensor, name: str) -> Tensor:
        """Return a layer's input or output gradient as ``[B, T, D]``.

        Raises:
            PrivacyError: if it has no dimension of rows: nobody knows then whose it is.
        """
        x = x.detach()
        if x.dim() >= 2 and x.shape[0] == self.rows:
            return x.reshape(self.rows, -1, x.shape[-1])
        if x.dim() == 2 and self.rows and x.shape[0] % self.rows == 0:
            return x.view(self.rows, -1, x.shape[-1])  # tokens of all rows in one dimension
        raise self._nobodys(x, name)

    def check_rows(self, x: Tensor, name: str) -> None:
        """Refuse an input without a dimension of rows, for layers that need it to be the first."""
        if x.dim() < 2 or x.shape[0] != self.rows:
            raise self._nobodys(x, name)

    def _nobodys(self, x: Tensor, name: str) -> PrivacyError:
        return PrivacyError(
            f"'{name}' works on what belongs to no single row (expected {self.rows} rows, got "
            f"shape {list(x.shape)}), so its per-unit gradient is unknown; freeze it (another "
            "train.method, train.frozen or train.lora.target_modules)"
        )

    def expanded(self, parameter: nn.Parameter, dims: int, name: str) -> Tensor:
        """Return a copy of a parameter for every row, which broadcasts against ``dims`` dimensions.

        Returns:
            ``[B, 1, …, *shape]`` of a vector, ``[B, …]`` of a parameter ``[1, …]``.
        """
        p = parameter.detach()
        shape = (1,) * max(dims - p.dim(), 1) + tuple(p.shape) if p.dim() == 1 else tuple(p.shape)
        copy = p.view(shape).expand(self.rows, *shape[1:]).contiguous().requires_grad_()
        self.copies.append((parameter, copy))
        return copy
