"""Rows that nobody has: for checks whose outcome may not hang on a site's own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fedmodel.seeds import Seed

__all__ = ["texts"]


def texts(
    tokenizer: PreTrainedTokenizerBase, lengths: Sequence[int], name: str
) -> list[NDArray[np.int64]]:
    """Return rows of random tokens, none of them a special one; the same for the same name.

    Args:
        tokenizer: whose tokens.
        lengths: tokens of each row.
        name: tells one use's rows from another's.
    """
    generator = Seed(0).child("made-up", name).numpy()
    special = set(tokenizer.all_special_ids)
    words = np.array([i for i in range(len(tokenizer)) if i not in special], dtype=np.int64)
    return [generator.choice(words, size=length) for length in lengths]
