"""Rows as tensors: token ids for a whole network, cached features for a linear head."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmodel.errors import DataError
from fedmodel.training.learner import Learner

__all__ = ["Examples", "prepare"]

_EMBED_BATCH = 32
_CACHE_ENTRIES = 64
# Features of frozen bodies, shared by all runs of this process; they never touch the disk.
_features: OrderedDict[tuple[str, str, str], Tensor] = OrderedDict()


class Examples:
    """The examples of one party, ready for a learner. Sized; its content is secret."""

    def __init__(
        self, tokens: list[NDArray[np.int64]], labels: Tensor, pad_id: int, device: torch.device
    ) -> None:
        self._tokens = tokens
        self._labels = labels.to(device)
        self._pad_id = pad_id
        self._device = device
        self._features: Tensor | None = None
        self.lengths = np.array([len(t) for t in tokens], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        return "Examples(…)"

    def labels(self, indices: NDArray[np.int64]) -> Tensor:
        """Return class numbers, int64 ``[B]``."""
        return self._labels[torch.from_numpy(indices).to(self._device)]

    def batch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the model's input for some rows (see :class:`~.learner.Learner`)."""
        if self._features is not None:
            return {"features": self._features[torch.from_numpy(indices).to(self._device)]}
        return self._pad([self._tokens[i] for i in indices])

    def _pad(self, rows: Sequence[NDArray[np.int64]]) -> dict[str, Tensor]:
        width = max(len(r) for r in rows)
        ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            mask[i, : len(row)] = 1
        return {
            "input_ids": torch.from_numpy(ids).to(self._device),
            "attention_mask": torch.from_numpy(mask).to(self._device),
        }

    def chunks(self, indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Cut rows into physical batches of similar length, so that little is padding."""
        ordered = indices[np.argsort(self.lengths[indices], kind="stable")]
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def embed(self, learner: Learner, texts_digest: str) -> None:
        """Compute the frozen body's features once; later batches are ``features``."""
        if learner.head is None:
            return
        key = (learner.digest, texts_digest, learner.precision)
        if key not in _features:
            _features[key] = self._compute(learner)
            while len(_features) > _CACHE_ENTRIES:
                _features.popitem(last=False)
        _features.move_to_end(key)
        self._features = _features[key].to(self._device)

    def _compute(self, learner: Learner) -> Tensor:
        head = learner.head
        if head is None:
            raise DataError("features exist only for a linear head on a frozen body")
        out: Tensor | None = None
        for part in self.chunks(np.arange(len(self)), _EMBED_BATCH):
            features = head.features(self.batch(part)).float()
            if out is None:
                out = torch.empty(len(self), features.shape[1], device=features.device)
            out[torch.from_numpy(part)] = features
        return torch.zeros(0, 0) if out is None else out


def prepare(
    learner: Learner,
    texts: Sequence[str],
    labels: Sequence[str],
    names: Sequence[str],
    max_length: int,
) -> Examples:
    """Tokenise rows (and embed them, for a head on a frozen body).

    Args:
        learner: the network and its tokenizer.
        texts: one per row.
        labels: one class name per row.
        names: class names in the order of the logits.
        max_length: tokens kept of each text.

    Raises:
        DataError: for a label that isn't among ``names``.
    """
    numbers = {name: i for i, name in enumerate(names)}
    unknown = sorted(set(labels) - set(numbers))
    if unknown:
        raise DataError(f"labels the job doesn't know: {unknown[:5]}; it knows {list(names)}")
    encoded = learner.tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False
    )["input_ids"]
    tokens = [np.asarray(ids, dtype=np.int64) for ids in encoded]
    digest = hashlib.sha256()
    for ids in tokens:
        digest.update(len(ids).to_bytes(4, "big") + ids.tobytes())
    examples = Examples(
        tokens,
        torch.tensor([numbers[label] for label in labels], dtype=torch.int64),
        learner.tokenizer.pad_token_id or 0,
        learner.device,
    )
    examples.embed(learner, digest.hexdigest())
    return examples
