"""Rows of token ids as the tensors that a network reads."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["padded"]


def padded(
    rows: Sequence[NDArray[np.int64]],
    width: int,
    pad_id: int,
    device: torch.device,
    size: int | None = None,
) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``attention_mask``, int64 ``[size, width]``, padded on the right.

    Args:
        rows: token ids of each row, ``width`` at most.
        width: tokens to pad each row to.
        pad_id: what to pad with.
        device: where the tensors are to be.
        size: rows to fill up to with rows of no text; ``None``: none are added.
    """
    size = len(rows) if size is None else size
    ids = np.full((size, width), pad_id, dtype=np.int64)
    mask = np.zeros((size, width), dtype=np.int64)
    mask[len(rows) :, 0] = 1  # attention to nothing at all isn't a number
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }
