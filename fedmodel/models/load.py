"""A job's model: pretrained body, new head, dropout and labels as the job says."""

import hashlib
import json
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fedmodel import job, tasks
from fedmodel.errors import ModelError
from fedmodel.models import tiny
from fedmodel.models.context import quiet, seeded
from fedmodel.models.families import OFFSET, head_names
from fedmodel.models.modeling import (
    FedmodelConfig,
    FedmodelForSequenceClassification,
    encoder_loader,
)
from fedmodel.models.source import Source, explained, find
from fedmodel.seeds import Seed

__all__ = ["digest", "load", "load_tokenizer"]


def load(model: job.Model, seed: Seed) -> PreTrainedModel:
    """Return the model of a job on the CPU, float32, in evaluation mode.

    With mean pooling the linear head starts at zero; with ``cls`` the architecture's own head
    starts from ``seed`` (a head in the checkpoint is kept if it has as many classes). The process's
    own random generators aren't disturbed.

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
        net: Any = (_pooled if model.pooling == "mean" else _native)(model, source, config)
        if model.source == "tiny":
            tiny.prepare(net.eval())
    return net.eval()  # type: ignore[no-any-return]


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
    with quiet(), explained(source, "tokenizer"):
        tokenizer: Any = AutoTokenizer.from_pretrained(source.name, **source.arguments)
        # transformers makes an empty tokenizer when the files are missing.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise OSError("no vocabulary was found")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ModelError(
            f"the tokenizer of '{source.name}' has no padding and no end-of-text token"
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.model_max_length = model.max_length
    return tokenizer  # type: ignore[no-any-return]


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
    if hasattr(body, "use_cache"):
        body.use_cache = False
    if source is not None:
        _match_tokenizer(body, load_tokenizer(model))
    return config  # type: ignore[no-any-return]


def _match_tokenizer(body: PreTrainedConfig, tokenizer: Any) -> None:
    rows = getattr(body, "vocab_size", None)
    if isinstance(rows, int) and len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer knows {len(tokenizer)} tokens, but the model only {rows}; "
            "they don't belong together"
        )
    if body.model_type not in OFFSET:
        # A decoder's own head looks for the last token that isn't padding, so both must agree.
        body.pad_token_id = tokenizer.pad_token_id


def _check_fit(model: job.Model, body: PreTrainedConfig) -> None:
    limit = getattr(body, "max_position_embeddings", None)
    if isinstance(limit, int) and limit > 0:
        if body.model_type in OFFSET:
            limit -= (getattr(body, "pad_token_id", None) or 0) + 1
        if model.max_length > limit:
            raise ModelError(
                f"model.max_length={model.max_length}, but this model reads at most {limit} tokens"
            )
    if getattr(body, "quantization_config", None) is not None:
        raise ModelError("the model is quantised; expected plain float weights")


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


def _labels(model: job.Model) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(model.labels)),
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "problem_type": tasks.of(model.task).head.problem_type,
    }


def _pooled(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    if isinstance(config, FedmodelConfig):
        return _own_export(model, source, config)
    with explained(source, "configuration"):
        auto, arguments = encoder_loader(config)
    encoder = _read(auto, source, config, arguments, allowed=("pooler",))
    name = source.name if source is not None else ""
    outer = FedmodelConfig(
        encoder=encoder.config,
        normalize=model.normalize,
        head_bias=model.head_bias,
        name_or_path=name,
        **_labels(model),
    )
    with torch.device("meta"):  # the encoder it makes is replaced at once
        net = FedmodelForSequenceClassification(outer)
    net.encoder = encoder
    net.classifier = _zero_head(encoder.config.hidden_size, model)
    return net


def _zero_head(width: int, model: job.Model) -> nn.Linear:
    head = nn.Linear(width, len(model.labels), bias=model.head_bias)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


def _own_export(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    same = tuple(config.id2label.values()) == model.labels and (config.head_bias == model.head_bias)
    net = _read(FedmodelForSequenceClassification, source, config, {}, allowed=())
    net.config.update(
        {"normalize": model.normalize, "head_bias": model.head_bias, **_labels(model)}
    )
    if not same:
        net.classifier = _zero_head(net.classifier.in_features, model)
        net.num_labels = len(model.labels)
    return net  # type: ignore[no-any-return]


def _native(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    if isinstance(config, FedmodelConfig):
        raise ModelError(
            "the folder holds a mean-pooled model exported by fedmodel; use model.pooling=mean"
        )
    config.update(_labels(model))
    auto = getattr(transformers, tasks.of(model.task).head.auto_class)
    return _read(auto, source, config, {"ignore_mismatched_sizes": True}, allowed=None)  # type: ignore[no-any-return]


def _read(
    auto: Any,
    source: Source | None,
    config: PreTrainedConfig,
    arguments: dict[str, Any],
    allowed: tuple[str, ...] | None,
) -> Any:
    """Make the model from ``source``'s weights, or from the seed when there is none.

    Args:
        auto: class whose ``from_pretrained`` or ``from_config`` is called.
        source: where the weights are.
        config: of the model.
        arguments: extra ones.
        allowed: top-level modules that the weights may lack; None: the head and a pooler.
    """
    if source is None:
        arguments.pop("ignore_mismatched_sizes", None)
        return auto.from_config(config, **arguments)
    with explained(source, "weights"):
        net, report = auto.from_pretrained(
            source.name,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            **source.arguments,
            **arguments,
        )
    absent = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    tops = allowed if allowed is not None else (*head_names(net), *_poolers(net))
    lost = sorted(name for name in absent if not name.startswith(tuple(f"{t}." for t in tops)))
    if lost:
        raise ModelError(
            f"the weights of model '{source.name}' lack {len(lost)} tensors that its config.json "
            f"calls for, such as {lost[0]}; expected a complete checkpoint of that architecture"
        )
    if any(name.startswith(_poolers(net)) for name in absent):
        # No public source has this seeded pooler, so an export must carry the base weights.
        net.config.name_or_path = ""
    return net


def _poolers(net: PreTrainedModel) -> tuple[str, ...]:
    return (f"{net.base_model_prefix}.pooler",)
