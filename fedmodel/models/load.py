"""A job's model: pretrained body, new head, dropout and labels as the job says."""

import hashlib
import json
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from fedmodel import job, tasks
from fedmodel.errors import ModelError
from fedmodel.models import tiny
from fedmodel.models.build import native, pooled
from fedmodel.models.context import quiet, seeded
from fedmodel.models.families import OFFSET
from fedmodel.models.modeling import (
    FedmodelConfig,
)
from fedmodel.models.source import Source, explained, find
from fedmodel.models.tokenizer import load_tokenizer
from fedmodel.seeds import Seed

__all__ = ["digest", "headed", "load", "longest_input"]


def load(model: job.Model, seed: Seed) -> PreTrainedModel:
    """Return the model of a job on the CPU, float32, in evaluation mode.

    With mean pooling the linear head starts at zero; with ``cls`` the architecture's own head
    starts from ``seed``. A head in the checkpoint, or in an own export, is kept if it has a class
    by the name of each of the job's. The process's own random generators aren't disturbed.

    Args:
        model: what to load; its ``labels`` must be set.
        seed: of everything that isn't read from files.

    Raises:
        ModelError: if there is no such model, its files are damaged, it needs foreign code, or it
            doesn't fit the job.
        MissingExtraError: if ``minilm``'s package isn't installed.
    """
    fewest = tasks.of(model.task).fewest_labels
    if len(model.labels) < fewest:
        raise ModelError(
            f"model.labels must name at least {fewest} classes for model.task={model.task}, got "
            f"{list(model.labels)}; set it, or give training data with so many different labels"
        )
    source = find(model)
    with quiet(), seeded(seed.child("model")):
        config = _config(model, source)
        make = pooled if model.pooling == "mean" else native
        net: Any = make(model, source, config)
        if model.source == "tiny":
            tiny.prepare(net.eval())
    return net.eval()  # type: ignore[no-any-return]


def headed(model: job.ProposedModel) -> bool:
    """Return whether a model's files are an export whose trained head training goes on from.

    Raises:
        ModelError: when its configuration can't be read.
    """
    source = find(model)
    if source is None or model.pooling != "mean":
        return False
    with explained(source, "configuration"):
        found, _ = PreTrainedConfig.get_config_dict(source.name, **source.arguments)
    return bool(found.get("model_type") == FedmodelConfig.model_type)


def digest(module: nn.Module) -> str:
    """Return the SHA-256 (hex) of a module's state: names, types, shapes and bytes.

    The same on every device; any changed bit changes it. Tensors are taken in order of name.
    """
    total = hashlib.sha256(b"fedmodel.weights/1\n")
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        total.update(json.dumps([name, str(flat.dtype), list(flat.shape)]).encode() + b"\n")
        total.update(memoryview(flat.reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def _config(model: job.Model, source: Source | None) -> PreTrainedConfig:
    if source is None:
        config: Any = tiny.config()
    else:
        with explained(source, "configuration"):
            found, _ = PreTrainedConfig.get_config_dict(source.name, **source.arguments)
            if found.get("model_type") == FedmodelConfig.model_type:
                config = FedmodelConfig.from_pretrained(source.name, **source.arguments)
            else:
                config = AutoConfig.from_pretrained(source.name, **source.arguments)
    body = config.encoder if isinstance(config, FedmodelConfig) else config
    _check_fit(model, body)
    _set_dropout(body, model.dropout)
    _set_plain(body)
    if source is not None:
        _match_tokenizer(body, load_tokenizer(model))
    return config  # type: ignore[no-any-return]


def _match_tokenizer(body: PreTrainedConfig, tokenizer: Any) -> None:
    rows = getattr(body, "vocab_size", None)
    if isinstance(rows, int) and len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer knows {len(tokenizer)} tokens, but the model only {rows}; "
            "they don't belong together: take both from the same checkpoint"
        )
    if body.model_type not in OFFSET:
        # A decoder's own head looks for the last token that isn't padding, so both must agree.
        body.pad_token_id = tokenizer.pad_token_id


def longest_input(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a body has positions for; ``None`` where its configuration is silent.

    Args:
        config: of the body, or of a model around it.
    """
    body = getattr(config, "encoder", config)
    limit = getattr(body, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    if body.model_type in OFFSET:
        limit -= (getattr(body, "pad_token_id", None) or 0) + 1
    return limit


def _check_fit(model: job.Model, body: PreTrainedConfig) -> None:
    limit = longest_input(body)
    if limit is not None and model.max_length > limit:
        raise ModelError(
            f"model.max_length={model.max_length}, but this model reads at most {limit} tokens; "
            f"set model.max_length={limit} or less, or choose a model that reads longer texts"
        )
    if getattr(body, "quantization_config", None) is not None:
        raise ModelError(
            "the model is quantised; expected plain float weights: give the checkpoint that it was "
            "quantised from"
        )


def _set_plain(config: PreTrainedConfig) -> None:
    """Undo what a checkpoint's author had set for runs of their own: none of it is the model's."""
    config.return_dict = True
    config.output_hidden_states = False
    config.output_attentions = False
    config.chunk_size_feed_forward = 0  # a row's width needn't be a multiple of it
    if hasattr(config, "use_cache"):
        config.use_cache = False
    if config._attn_implementation not in (None, "eager", "sdpa"):
        config._attn_implementation = None  # torch has these two wherever it runs


def _set_dropout(config: PreTrainedConfig, probability: float) -> None:
    """Replace every dropout probability; layer and path dropping are switched off."""
    for name, value in config.to_dict().items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if "layerdrop" in name or "drop_path" in name:
            # Whether a layer exists in a step would be drawn for all records at once.
            setattr(config, name, 0.0)
        elif "dropout" in name or name.endswith(("pdrop", "_drop", "drop_rate")):
            setattr(config, name, probability)
