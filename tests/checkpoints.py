"""Small random checkpoints, as somebody may have published them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from fedmodel.models import tiny

__all__ = ["write_checkpoint"]

tf: Any = transformers


def write_checkpoint(
    folder: Path,
    config: Any,
    kind: str = "AutoModel",
    seed: int = 7,
    change: Callable[[torch.nn.Module], None] = lambda net: None,
) -> Path:
    """Write a network of random weights and a tokenizer of 300 words.

    Args:
        folder: where to.
        config: of the network.
        kind: transformers' class that makes it.
        seed: of the weights.
        change: what is done to the network before it is written, with the same randomness.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = getattr(tf, kind).from_config(config)
        change(net)
    net.save_pretrained(folder)
    words = list(tiny.vocabulary())[:300]
    tf.BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    return folder
