"""The trainable parameters as one flat vector, in an order that every party agrees on."""

from dataclasses import dataclass
from itertools import accumulate
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmodel.errors import ProtocolError

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Names, shapes and places of the trainable parameters, sorted by name.

    Make it with :meth:`of`, after the parameters' ``requires_grad`` is set. Tied parameters stand
    in it once, under the first of their names.

    Args:
        names: of the parameters, sorted.
        shapes: one for each name.
        offsets: index of each parameter's first number in the vector.
        total: numbers in the vector.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    total: int

    @classmethod
    def of(cls, module: nn.Module) -> "Layout":
        """Return the layout of a module's trainable parameters."""
        found = sorted((n, tuple(p.shape)) for n, p in module.named_parameters() if p.requires_grad)
        ends = (0, *accumulate(prod(shape) for _, shape in found))
        return cls(
            names=tuple(name for name, _ in found),
            shapes=tuple(shape for _, shape in found),
            offsets=ends[:-1],
            total=ends[-1],
        )

    def flatten(self, module: nn.Module) -> NDArray[np.float32]:
        """Return a copy of the trainable parameters, float32 ``[total]``, from any device.

        Raises:
            ProtocolError: if the module's trainable parameters aren't this layout's.
        """
        parameters = self._parameters(module)
        vector = np.empty(self.total, dtype=np.float32)
        for parameter, part in zip(parameters, self._parts(vector), strict=True):
            part[...] = parameter.detach().to("cpu", torch.float32).numpy()
        return vector

    def load_vector(self, module: nn.Module, vector: NDArray[np.float32]) -> None:
        """Copy ``vector``, float32 ``[total]``, into the module's parameters in place.

        Raises:
            ProtocolError: if the size or type is wrong, a number isn't finite, or the module's
                trainable parameters aren't this layout's. Nothing is changed then.
        """
        self._check(vector)
        parameters = self._parameters(module)
        with torch.no_grad():
            for parameter, part in zip(parameters, self._parts(vector), strict=True):
                # A copy, because torch warns about arrays that it may not write to.
                parameter.copy_(torch.from_numpy(part.copy()))

    def named(self, vector: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the vector's parts by parameter name (copies, as safetensors wants them)."""
        self._check(vector)
        parts = (part.copy() for part in self._parts(vector))
        return dict(zip(self.names, parts, strict=True))

    def from_named(self, arrays: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the vector of :meth:`named` arrays.

        Raises:
            ProtocolError: if a name is missing or too many, or a shape or number isn't right.
        """
        if arrays.keys() != set(self.names):
            wrong = sorted(arrays.keys() ^ set(self.names))
            raise ProtocolError(
                f"expected exactly the {len(self.names)} trainable parameters of the model; "
                f"missing or unknown: {', '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}"
            )
        vector = np.empty(self.total, dtype=np.float32)
        for name, part in zip(self.names, self._parts(vector), strict=True):
            if arrays[name].shape != part.shape:
                raise ProtocolError(
                    f"parameter {name}: expected shape {part.shape}, got {arrays[name].shape}"
                )
            part[...] = arrays[name]
        self._check(vector)
        return vector

    def _parts(self, vector: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        places = zip(self.offsets, self.shapes, strict=True)
        return [vector[start : start + prod(shape)].reshape(shape) for start, shape in places]

    def _parameters(self, module: nn.Module) -> list[nn.Parameter]:
        if Layout.of(module) != self:
            raise ProtocolError(
                f"the layout ({len(self.names)} parameters, {self.total} numbers) was made for "
                "another model or method than this one's trainable parameters"
            )
        known = dict(module.named_parameters())
        return [known[name] for name in self.names]

    def _check(self, vector: NDArray[np.float32]) -> None:
        if vector.shape != (self.total,) or vector.dtype != np.float32:
            raise ProtocolError(
                f"expected one flat float32 array of {self.total} numbers, "
                f"got {vector.dtype} of shape {vector.shape}"
            )
        if not np.isfinite(vector).all():
            raise ProtocolError("the parameters hold a number that isn't finite (NaN or infinity)")
