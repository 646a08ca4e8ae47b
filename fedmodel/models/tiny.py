"""A two-layer BERT made from its configuration, for tests, examples and debugging.

Its vocabulary (``tiny_vocab.txt``) was trained once with the ``tokenizers`` WordPiece trainer on
fedmodel's own synthetic clinical notes, and holds every printable ASCII character alone and as a
continuation, so that any English text is tokenised.
"""

from functools import cache
from importlib.resources import files

from transformers import BertConfig, BertTokenizer, PreTrainedTokenizerBase

__all__ = ["config", "tokenizer", "vocabulary"]


@cache
def _lines() -> tuple[str, ...]:
    text = files("fedmodel.models").joinpath("tiny_vocab.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def vocabulary() -> dict[str, int]:
    """Return token → id, in the order of the file."""
    return {token: index for index, token in enumerate(_lines())}


def config() -> BertConfig:
    """Return the configuration: 2 layers of width 64, 2 heads, up to 256 positions."""
    return BertConfig(
        vocab_size=len(_lines()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=256,
    )


def tokenizer(max_length: int) -> PreTrainedTokenizerBase:
    """Return the lower-casing WordPiece tokenizer, truncating at ``max_length`` tokens."""
    return BertTokenizer(
        vocab=vocabulary(), do_lower_case=True, model_max_length=max_length, padding_side="right"
    )
