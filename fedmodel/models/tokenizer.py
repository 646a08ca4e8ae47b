"""Tokenizer of a job's model: pads on the right, cuts at the job's length."""

import copy
import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from fedmodel import job
from fedmodel.errors import ModelError
from fedmodel.models import tiny
from fedmodel.models.context import quiet
from fedmodel.models.source import Source, explained, find

__all__ = ["INPUTS", "load_tokenizer", "save_tokenizer", "tokenizer_length"]

INPUTS = ("input_ids", "attention_mask")
"""What a tokenizer gives and a model is trained on, int64 ``[B, T]`` both."""

# Of no language: a tokenizer that has no token for what it doesn't know fails here, and not at one
# row of one site.
_STRANGE = "zqxjkvb \u4e2d\u0635 \U0001f9ec \ufffd"

# What transformers takes from a tokenizer.json of how it was called.
_AS_CALLED = ("max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


def load_tokenizer(model: job.Model) -> PreTrainedTokenizerBase:
    """Return the job's tokenizer: pads on the right, truncates at ``model.max_length``.

    A tokenizer without a padding token (GPT-2, Llama) pads with its end-of-text token.

    Raises:
        ModelError: if there is none, or it doesn't fit the model.
        MissingExtraError: if ``minilm``'s package isn't installed.
    """
    source = find(model)
    if source is None:
        return tiny.tokenizer(model.max_length)
    tokenizer = _read(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"the tokenizer of '{source.name}' has no padding, end-of-text or unknown "
            "token to fill short texts up with; give it one of them (pad_token in "
            "tokenizer_config.json, of a token that its vocabulary has)"
        )
    _check_reads_anything(source, tokenizer)
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.model_max_length = model.max_length
    return tokenizer  # type: ignore[no-any-return]


def _check_reads_anything(source: Source, tokenizer: Any) -> None:
    try:
        tokenizer(_STRANGE)
    except Exception as error:  # the tokenizers library raises no narrower one
        raise ModelError(
            f"the tokenizer of '{source.name}' can't read every text ({error}): expected one that "
            "has bytes or a token for what it doesn't know; give it an unknown token (unk_token), "
            "in tokenizer.json too"
        ) from error


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer that gives what the model was trained on.

    It cuts where the head was trained to, pads nothing itself, and gives no segment ids, which
    GPT-2 reads as tokens.

    How it was called last, or had been called before it was published, would else stand in its
    file; plain transformers passes that over, other readers of ``tokenizer.json`` go by it.

    Args:
        tokenizer: as :func:`load_tokenizer` returned it; it isn't changed.
        folder: that there is.
    """
    made: Any = copy.deepcopy(tokenizer)
    if made.is_fast:
        made.backend_tokenizer.no_padding()
        made.backend_tokenizer.enable_truncation(made.model_max_length)
    for key in _AS_CALLED:
        made.init_kwargs.pop(key, None)
    made.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"model_input_names": list(INPUTS)}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def tokenizer_length(source: Source | None) -> int | None:
    """Return how many tokens the tokenizer of a model's files says that it reads."""
    if source is None:
        return None
    return int(_read(source).model_max_length)


def _read(source: Source) -> Any:
    with quiet(), explained(source, "tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(source.name, **source.arguments)
        # transformers makes an empty tokenizer when the files are missing.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("no vocabulary was found")
    return tokenizer
