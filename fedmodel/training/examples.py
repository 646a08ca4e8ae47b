"""Rows as tensors: token ids, and what a frozen body makes of them, computed once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fedmodel.errors import DataError
from fedmodel.gradients.units import Units
from fedmodel.tasks import Label
from fedmodel.training.learner import Learner

__all__ = ["Examples", "prepare"]

_EMBED_BATCH = 32
_LARGEST = 2 << 30  # bytes of hidden states kept for one party; above that they're recomputed
_CACHE = 4 << 30  # bytes kept for later runs of this process

# One party's features [rows, H], or the hidden states [tokens, H] of each row.
Kept = Tensor | list[Tensor]
# What frozen bodies made of texts, for all runs of this process; it never touches the disk.
_kept: OrderedDict[tuple[str, ...], Kept] = OrderedDict()


def _bytes(kept: Kept) -> int:
    return sum(t.nbytes for t in kept) if isinstance(kept, list) else kept.nbytes


def _remember(key: tuple[str, ...], compute: Callable[[], Kept | None]) -> Kept | None:
    """Return what is kept under a key, computing it on first use; the oldest make room."""
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    made = compute()
    if made is not None:
        _kept[key] = made
        while sum(map(_bytes, _kept.values())) > _CACHE and len(_kept) > 1:
            _kept.popitem(last=False)
    return made


class Examples:
    """The examples of one party, ready for a learner. Sized; its content is secret."""

    def __init__(
        self,
        tokens: list[NDArray[np.int64]],
        targets: Tensor,
        pad_id: int,
        device: torch.device,
        patients: Sequence[str] | None = None,
    ) -> None:
        self._tokens = tokens
        self._targets = targets.to(device)
        self._pad_id = pad_id
        self._device = device
        self._features: Tensor | None = None
        self._hidden: list[Tensor] | None = None
        self._pending: tuple[Learner, str] | None = None
        self.lengths = np.array([len(t) for t in tokens], dtype=np.int64)
        self.units = Units(self.lengths, patients)

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        return "Examples(…)"

    def labels(self, indices: NDArray[np.int64]) -> Tensor:
        """Return some rows' labels as the task encodes them, ``[B, …]``."""
        return self._targets[torch.from_numpy(indices).to(self._device)]

    def batch(self, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the model's input for some rows (see :class:`~.learner.Learner`)."""
        self.run_frozen()
        if self._features is not None:
            return {"features": self._features[torch.from_numpy(indices).to(self._device)]}
        tokens = self._pad([self._tokens[i] for i in indices])
        if self._hidden is None:
            return tokens
        hidden = pad_sequence([self._hidden[i] for i in indices], batch_first=True)
        return {**tokens, "hidden": hidden}

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

    def embed(self, learner: Learner, texts_digest: str, uses: int | None) -> None:
        """Have the frozen part of the network run once per row, when the first batch is asked for.

        Args:
            learner: the network.
            texts_digest: names these rows' tokens in the cache.
            uses: how many rows will be asked for in all; fewer than there are rows isn't worth
                keeping hidden states for. ``None``: many.
        """
        if learner.head is not None or (
            learner.frozen is not None and (uses is None or uses >= len(self))
        ):
            self._pending = (learner, texts_digest)

    def run_frozen(self) -> None:
        """Run the frozen part of the network over the rows, unless that is done or not wanted.

        The first batch does it otherwise. A learner's first time checks on a batch that skipping
        changes nothing, for which it sets parameters and resets them.
        """
        if self._pending is None:
            return
        (learner, texts), self._pending = self._pending, None
        frozen = "" if learner.frozen is None else learner.frozen.digest
        weights = frozen or learner.digest
        kept = _remember(
            (learner.reading, weights, texts, learner.precision),
            lambda: self._compute_hidden(learner) if frozen else self._compute_features(learner),
        )
        if isinstance(kept, Tensor):
            self._features = kept.to(self._device)
        else:
            self._hidden = kept

    def _compute_features(self, learner: Learner) -> Tensor:
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

    def _compute_hidden(self, learner: Learner) -> list[Tensor] | None:
        rows: dict[int, Tensor] = {}
        for part in self.chunks(np.arange(len(self)), _EMBED_BATCH):
            hidden = learner.hidden(self.batch(part))
            if hidden is None or int(self.lengths.sum()) * hidden.shape[-1] * 4 > _LARGEST:
                return None
            for i, row in zip(part, hidden.float(), strict=True):
                rows[int(i)] = row[: self.lengths[i]].clone()
        return [rows[i] for i in range(len(self))]


def prepare(
    learner: Learner,
    texts: Sequence[str],
    labels: Sequence[Label],
    names: Sequence[str],
    max_length: int,
    uses: int | None = None,
    patients: Sequence[str] | None = None,
) -> Examples:
    """Tokenise rows; what a frozen body makes of them is computed once, at their first use.

    Args:
        learner: the network and its tokenizer.
        texts: one per row.
        labels: of each row, of the kind that the learner's task has.
        names: the job's labels in the order of the logits.
        max_length: tokens kept of each text.
        uses: see :meth:`Examples.embed`.
        patients: whose each row is, where patients are the unit of privacy.

    Raises:
        DataError: for a label that isn't among ``names``, or of another kind.
    """
    targets = learner.task.targets(labels, names)
    encoded = learner.tokenizer(
        list(texts), truncation=True, max_length=max_length, return_attention_mask=False
    )["input_ids"]
    tokens = [np.asarray(ids, dtype=np.int64) for ids in encoded]
    digest = hashlib.sha256()
    for ids in tokens:
        digest.update(len(ids).to_bytes(4, "big") + ids.tobytes())
    examples = Examples(
        tokens,
        targets,
        learner.tokenizer.pad_token_id or 0,
        learner.device,
        patients,
    )
    examples.embed(learner, digest.hexdigest(), uses)
    return examples
