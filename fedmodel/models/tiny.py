"""A two-layer BERT made from its configuration, for tests, examples and debugging.

Its vocabulary (``tiny_vocab.txt``) was trained once with the ``tokenizers`` WordPiece trainer on
fedmodel's own synthetic clinical notes, and holds every printable ASCII character alone and as a
continuation, so that any English text is tokenised.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertTokenizer, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["config", "tokenizer", "vocabulary"]


@cache
def _lines() -> tuple[str, ...]:
    text = files("fedmodel.models").joinpath("tiny_vocab.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def vocabulary() -> dict[str, int]:
    """Return token → id, in the order of the file."""
    return {token: index for index, token in enumerate(_lines())}


def config() -> BertConfig:
    """Return the configuration: 2 layers of width 128, 2 heads, up to 256 positions."""
    return BertConfig(
        vocab_size=len(_lines()),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=256,
        max_position_embeddings=256,
    )


@torch.no_grad()
def prepare(model: PreTrainedModel) -> None:
    """Give a fresh tiny model a body worth pooling, without training it.

    With BERT's own small initialisation the random layers drown the words: the pooled vectors of
    different texts point the same way to within 1 %, and nothing private can be learned from them.
    So the word embeddings are made much larger than all else (the pooled vector is then a random
    projection of the bag of words), and the last layer's bias takes away what all texts share, as
    measured on twenty made-up notes that come with the package.
    """
    body: Any = model.base_model
    body.get_input_embeddings().weight.normal_(0.0, 1.0)
    texts = files("fedmodel.models").joinpath("tiny_sample.txt").read_text(encoding="utf-8")
    sample = tokenizer(config().max_position_embeddings)(
        texts.splitlines(), padding=True, truncation=True, return_tensors="pt"
    )
    hidden = body(**sample).last_hidden_state[sample["attention_mask"].bool()]
    last: nn.LayerNorm = body.encoder.layer[-1].output.LayerNorm
    # On a coarse grid, so that machines that round differently get the same weights.
    last.bias.sub_((hidden.mean(dim=0) * 64).round() / 64)


def tokenizer(max_length: int) -> PreTrainedTokenizerBase:
    """Return the lower-casing WordPiece tokenizer, truncating at ``max_length`` tokens."""
    return BertTokenizer(
        vocab=vocabulary(), do_lower_case=True, model_max_length=max_length, padding_side="right"
    )
