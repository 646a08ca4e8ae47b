"""Which shapes of a pass give every row the bits it has by itself, found by trying on this machine.

Kernels choose how to add up by a matrix's shape, and where in it a row stands may matter too. That
is a matter of the machine, not of numbers: so made-up rows tell, and nothing hangs on a site's own.
See :mod:`fedmodel.gradients.shapes` for what it is good for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmodel.gradients.shapes import Shapes, ladder, power_above, tokens_of

__all__ = ["LEAST", "ROWS", "Bits", "Run", "Steady", "Witness"]

_MIX = 0x9E3779B97F4A7C15 - (1 << 64)  # odd: spreads a number's bits

ROWS = 2  # made-up rows; each stands at every other place
LEAST = 4  # rows of a CPU's smallest pass: products of one or two are made in other ways
_SEEN = 64  # numbers of a row's at either end of a layer's output, and as many between

Bits = dict[str, Tensor]
# (row numbers, rows that the pass is filled up to) → by name, what must agree, int64 ``[rows]``.
Run = Callable[[NDArray[np.int64], int], Bits]


class Steady:
    """The shapes that are proven for one network, by kind of pass.

    Args:
        device: ``cpu`` or ``cuda``.
        hidden: numbers that the network has of a token, where that is known.
    """

    def __init__(self, device: str, hidden: int | None = None) -> None:
        self._device = device
        self._tokens = tokens_of(device, hidden)
        self._proven: dict[str, dict[int, tuple[int, int]]] = {}
        self._failed: set[tuple[str, int]] = set()

    def shapes(self, kind: str, size: int) -> Shapes:
        """Return what passes of a kind may look like.

        Args:
            kind: of pass: ``frozen``, ``evaluation``, or an engine's name.
            size: rows in one pass at most.
        """
        return Shapes(self._proven.setdefault(kind, {}), size, self._tokens)

    def due(self, kind: str, width: int, size: int, count: int) -> bool:
        """Return whether :meth:`prove` would have anything to try."""
        if (kind, width) in self._failed:
            return False
        known = self._proven.get(kind, {}).get(width)
        return known is None or known[1] < self._wanted(width, size, count)

    def prove(self, kind: str, width: int, size: int, count: int, run: Run) -> None:
        """Find the shapes in which so many rows of a width may come.

        The least is given (:data:`LEAST`; on a GPU, which chooses its products by shape, it is the
        largest too), and the others are tried up to what is wanted. Where a row's place decides
        already, it has to be alone.

        Args:
            kind: of pass.
            width: tokens of each row.
            size: rows in one pass at most.
            count: rows there are. It decides what is tried, not what comes of a row.
            run: computes :data:`ROWS` made-up rows, by number; the first is as long as the width,
                the others are shorter.
        """
        if not self.due(kind, width, size, count):
            return
        proven, wanted = self._proven.setdefault(kind, {}), self._wanted(width, size, count)
        least = self._least(width, size)
        reference = [run(np.array([i]), least) for i in range(ROWS)]
        if width not in proven:
            alike = _agree(reference, run, least)
            proven[width] = (least, least) if alike else (1, 1)
        while least <= proven[width][1] < wanted and _agree(reference, run, 2 * proven[width][1]):
            proven[width] = (least, 2 * proven[width][1])
        if proven[width][1] < wanted:
            self._failed.add((kind, width))

    def _wanted(self, width: int, size: int, count: int) -> int:
        least, largest = self._least(width, size), ladder(width, size, self._tokens)[-1]
        return max(least, min(largest, power_above(count)))

    def _least(self, width: int, size: int) -> int:
        largest = ladder(width, size, self._tokens)[-1]
        return largest if self._device == "cuda" else min(largest, LEAST)


def witness(values: Tensor, rows: int, count: int) -> Tensor | None:
    """Return a number for each row that tells its bits, int64 ``[count]``; ``None`` without rows.

    It is made of some hundred of a row's numbers, both ends among them: another order of adding up
    shows in most of them, and kernels treat ends in their own way.

    Args:
        values: with the batch's rows in the first dimension, alone or with their tokens.
        rows: in the pass.
        count: of them that aren't there to fill it up.
    """
    if values.dim() == 0 or len(values) % rows or not values.is_floating_point():
        return None
    flat = values.detach().reshape(rows, -1)[:count]
    if flat.shape[1] > 3 * _SEEN:
        between = flat[:, _SEEN : -_SEEN : flat.shape[1] // _SEEN]
        flat = torch.cat([flat[:, :_SEEN], between, flat[:, -_SEEN:]], 1)
    kind = {8: torch.int64, 4: torch.int32, 2: torch.int16}[flat.element_size()]
    odd = 2 * torch.arange(flat.shape[1], device=flat.device) + 1
    return (flat.contiguous().view(kind).long() * (odd * _MIX)).sum(1)


def _agree(reference: list[Bits], run: Run, size: int) -> bool:
    """Return whether rows have the reference's bits at every place of a pass, whoever is beside."""
    mixed = (np.arange(size) + size // 2) % ROWS
    # And the first row alone: it is as long as the pass is wide, so that nothing there is padding.
    # Libraries then leave out the mask, and other kernels do the work.
    return all(_has(reference, run(order, size), order) for order in (mixed, np.zeros_like(mixed)))


def _has(reference: list[Bits], found: Bits, order: NDArray[np.int64]) -> bool:
    # What has no dimension of rows (a table of positions) passes for one in a pass of one row.
    names = found.keys() & reference[0].keys()
    if not names:
        return False
    places = torch.from_numpy(order)
    for name in names:
        expected = torch.cat([bits[name] for bits in reference])
        if not torch.equal(found[name], expected[places.to(expected.device)]):
            return False
    return True


class Witness:
    """Within this context every layer's output, and the gradient there, is noted for each row.

    The last numbers alone would hide much: what is small beside something large is rounded away,
    until other parameters make it large.

    Args:
        module: whose layers.
        rows: in the pass.
        count: of them that aren't there to fill it up.
    """

    def __init__(self, module: nn.Module, rows: int, count: int) -> None:
        self._module, self._rows, self._count = module, rows, count
        self._handles: list[Any] = []
        self.bits: Bits = {}

    def __enter__(self) -> "Witness":
        for name, module in self._module.named_modules():
            if not any(True for _ in module.children()):
                self._handles.append(module.register_forward_hook(self._noting(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def note(self, name: str, values: Tensor) -> None:
        """Note something else of each row."""
        found = witness(values, self._rows, self._count)
        if found is not None:
            self.bits[f"{name} {len(self.bits)}"] = found

    def _noting(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def noting(_: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.note(name, output)
                if output.requires_grad:
                    output.register_hook(  # type: ignore[no-untyped-call]
                        lambda grad: self.note(f"{name}'s gradient", grad)
                    )

        return noting
