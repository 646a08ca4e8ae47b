"""Rows as tensors: token ids, and what a frozen body makes of them, computed once."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fedmodel.gradients.shapes import Shapes, widths
from fedmodel.gradients.units import Units
from fedmodel.tasks import Label
from fedmodel.training.learner import Learner
from fedmodel.training.padded import padded
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["EMBED_BATCH", "Examples", "prepare", "tokens_of"]

EMBED_BATCH = 32
_LARGEST = 2 << 30  # bytes of hidden states kept for one party; above that they're recomputed
_TOKENISED = 1000  # rows at a time
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
    """The examples of one party, ready for a learner. Sized; its content is secret.

    Args:
        learner: the network that reads them.
        tokens: of each row.
        targets: what the task's loss reads of each row's label.
        longest: tokens that the job keeps of a row.
        patients: whose each row is, where patients are the unit of privacy.
        keep: whether what frozen layers make of the rows is kept for the next time.
        watch: who is told how far the frozen layers are.
    """

    def __init__(
        self,
        learner: Learner,
        tokens: list[NDArray[np.int64]],
        targets: Tensor,
        longest: int,
        *,
        patients: Sequence[str] | None = None,
        keep: bool = True,
        watch: Watch = UNWATCHED,
    ) -> None:
        self._learner = learner
        self._tokens = tokens
        self._targets = targets.to(learner.device)
        self._longest, self._patients = longest, patients
        self._keep, self._watch = keep, watch
        self._frozen_run = False
        self._features: Tensor | None = None
        self._hidden: list[Tensor] | None = None
        self.lengths = np.array([len(t) for t in tokens], dtype=np.int64)
        self.own_widths = widths(self.lengths, longest)
        # A linear head on vectors reads nothing that is padded.
        flat = learner.head is not None
        self.widths = np.ones_like(self.own_widths) if flat else self.own_widths
        self.units = Units(self.widths, patients)

    def without(self, rows: NDArray[np.int64]) -> "Examples":
        """Return the same examples but for some rows, by number. Nothing kept is handed on."""
        left = np.setdiff1d(np.arange(len(self)), rows)
        return Examples(
            self._learner,
            [self._tokens[i] for i in left],
            self._targets[torch.from_numpy(left).to(self._targets.device)],
            self._longest,
            patients=None if self._patients is None else [self._patients[i] for i in left],
            keep=self._keep,
            watch=self._watch,
        )

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        return "Examples(…)"

    def labels(self, indices: NDArray[np.int64]) -> Tensor:
        """Return some rows' labels as the task encodes them, ``[B, …]``."""
        return self._targets[torch.from_numpy(indices).to(self._targets.device)]

    def batch(
        self, indices: NDArray[np.int64], width: int | None = None, size: int | None = None
    ) -> dict[str, Tensor]:
        """Return the model's input for some rows (see :class:`~.learner.Learner`).

        Args:
            indices: int64 ``[B]``: which rows.
            width: tokens to pad each row to; ``None``: as the longest of them needs.
            size: rows to fill up to with rows of no text; ``None``: none are added.
        """
        self.run_frozen()
        size = len(indices) if size is None else size
        if self._features is not None:
            found = self._features[torch.from_numpy(indices).to(self._features.device)]
            return {"features": functional.pad(found, (0, 0, 0, size - len(indices)))}
        width = int(self.lengths[indices].max()) if width is None else width
        inputs = self._pad(indices, width, size)
        if self._learner.frozen is None:
            return inputs
        if self._hidden is None:
            rows = self._frozen_rows(indices)
        else:
            rows = [self._hidden[i] for i in indices]
        hidden = rows[0].new_zeros(size, width, rows[0].shape[-1])
        for place, row in zip(hidden, rows, strict=False):
            place[: len(row)] = row
        return {**inputs, "hidden": hidden}

    def _pad(self, indices: NDArray[np.int64], width: int, size: int) -> dict[str, Tensor]:
        rows = [self._tokens[i] for i in indices]
        pad_id = self._learner.tokenizer.pad_token_id or 0
        return padded(rows, width, pad_id, self._learner.device, size)

    def chunks(self, indices: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
        """Cut rows into physical batches of similar length, so that little is padding.

        For what nothing private rests on: a row's numbers hang on who else is in its batch.
        """
        ordered = indices[np.argsort(self.lengths[indices], kind="stable")]
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def passes(
        self, indices: NDArray[np.int64], own: NDArray[np.int64], shapes: Shapes
    ) -> Iterator[tuple[NDArray[np.int64], int, int]]:
        """Cut rows into passes of proven shapes: row numbers, width and size of each.

        Args:
            indices: int64: which rows.
            own: int64 ``[rows]``: the width of each row there is.
            shapes: what a pass may look like.
        """
        for width in np.unique(own[indices]):
            rows, done = indices[own[indices] == width], 0
            for count, size in shapes.cut(int(width), len(rows)):
                yield rows[done : done + count], int(width), size
                done += count

    def run_frozen(self) -> None:
        """Run the frozen part of the network over the rows, unless that is done or not wanted.

        The first batch does it otherwise. What is kept is, bit for bit, what would be computed
        again. A learner's first time checks that skipping changes nothing, for which it sets
        parameters and resets them.
        """
        if self._frozen_run:
            return
        self._frozen_run = True
        learner = self._learner
        learner.settle()
        if learner.head is None and (learner.frozen is None or not self._keep):
            return
        frozen = "" if learner.frozen is None else learner.frozen.digest
        digest = hashlib.sha256()
        for ids in self._tokens:
            digest.update(len(ids).to_bytes(4, "big") + ids.tobytes())
        weights, longest = frozen or learner.digest, str(self.own_widths.max(initial=0))
        kept = _remember(
            (learner.reading, weights, digest.hexdigest(), learner.precision, longest),
            self._compute,
        )
        if isinstance(kept, Tensor):
            self._features = kept.to(learner.device)
        else:
            self._hidden = kept

    def _compute(self) -> Kept | None:
        tokens = int(self.lengths.sum())
        flat = self._learner.head is not None
        if not flat and tokens * 4 * (self._learner.hidden_size or 1024) > _LARGEST:
            return None
        with self._watch.stage("embedding", len(self)):
            rows = self._frozen_rows(np.arange(len(self)), self._watch)
        if not flat:
            return rows
        return torch.stack(rows) if rows else torch.zeros(0, 0)

    def _frozen_rows(self, indices: NDArray[np.int64], watch: Watch = UNWATCHED) -> list[Tensor]:
        """Return what the frozen part makes of rows: ``[H]`` each, or ``[tokens, H]``."""
        kinds, counts = np.unique(self.own_widths[indices], return_counts=True)
        for width, count in zip(kinds, counts, strict=True):
            self._learner.prove_frozen(int(width), int(count), EMBED_BATCH)
        shapes = self._learner.steady.shapes("frozen", EMBED_BATCH)
        found: dict[int, Tensor] = {}
        for rows, width, size in self.passes(indices, self.own_widths, shapes):
            made = self._learner.frozen_output(self._pad(rows, width, size))
            for i, row in zip(rows, made, strict=False):
                found[int(i)] = (row if row.dim() == 1 else row[: self.lengths[i]]).clone()
            watch.advance(len(rows))
        return [found[int(i)] for i in indices]


def prepare(
    learner: Learner,
    texts: Sequence[str],
    labels: Sequence[Label],
    names: Sequence[str],
    max_length: int,
    uses: int | None = None,
    patients: Sequence[str] | None = None,
    watch: Watch = UNWATCHED,
) -> Examples:
    """Tokenise rows; what a frozen body makes of them is computed once, at their first use.

    Args:
        learner: the network and its tokenizer.
        texts: one per row.
        labels: of each row, of the kind that the learner's task has.
        names: the job's labels in the order of the logits.
        max_length: tokens kept of each text.
        uses: how many rows will be asked for in all; fewer than there are rows isn't worth
            keeping hidden states for. ``None``: many. It decides time and memory alone.
        patients: whose each row is, where patients are the unit of privacy.
        watch: who is told how far it is, now and when the frozen body runs.

    Raises:
        DataError: for a label that isn't among ``names``, or of another kind.
    """
    targets = learner.task.targets(labels, names)
    tokens = tokens_of(learner, texts, max_length, watch)
    keep = uses is None or uses >= len(tokens)
    return Examples(learner, tokens, targets, max_length, patients=patients, keep=keep, watch=watch)


def tokens_of(
    learner: Learner, texts: Sequence[str], max_length: int, watch: Watch = UNWATCHED
) -> list[NDArray[np.int64]]:
    """Return the token ids of texts, int64 ``[tokens]`` each.

    Args:
        learner: whose tokenizer.
        texts: to read.
        max_length: tokens kept of each.
        watch: who is told how far it is.
    """
    tokens: list[NDArray[np.int64]] = []
    with watch.stage("tokenising", len(texts)):
        for start in range(0, len(texts), _TOKENISED):
            part = learner.tokenizer(
                list(texts[start : start + _TOKENISED]),
                truncation=True,
                max_length=max_length,
                return_attention_mask=False,
            )["input_ids"]
            # Attention to nothing at all isn't a number, and whether a site can take part mustn't
            # hang on one row: a text of which the tokenizer knows no piece is one unknown token.
            pieces = [ids or [_unknown(learner.tokenizer)] for ids in part]
            tokens += [np.asarray(ids, dtype=np.int64) for ids in pieces]
            watch.advance(len(part))
    return tokens


def _unknown(tokenizer: Any) -> int:
    for token in (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    return 0
