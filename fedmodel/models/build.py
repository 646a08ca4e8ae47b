"""Networks: a body and its head, read from a checkpoint or drawn."""

import logging
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from fedmodel import job, tasks
from fedmodel.errors import ModelError
from fedmodel.models import classes
from fedmodel.models.families import head_names
from fedmodel.models.modeling import (
    FedmodelConfig,
    FedmodelForSequenceClassification,
    encoder_loader,
)
from fedmodel.models.source import Source, explained, find
from fedmodel.models.tokenizer import tokenizer_length

__all__ = ["READS", "native", "pooled"]

logger = logging.getLogger(__name__)

READS = "fedmodel_max_length"
"""Name in an export's configuration: tokens that the head was trained to read."""


def _labels(model: job.Model) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(model.labels)),
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "problem_type": tasks.of(model.task).head.problem_type,
    }


def pooled(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    """Return an encoder with mean pooling and a linear head.

    Args:
        model: of the job.
        source: where the weights are; ``None``: they are drawn.
        config: as :func:`fedmodel.models.load` has prepared it.

    Raises:
        ModelError: if the files are damaged, or hold a trained head that this job would misread.
    """
    if isinstance(config, FedmodelConfig):
        return _own_export(model, source, config)
    _leave_head(model, source, config)
    with explained(source, "configuration"):
        auto, arguments = encoder_loader(config)
    encoder, _ = _read(auto, source, config, arguments, allowed=("pooler",))
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


def _leave_head(model: job.Model, source: Source | None, config: Any) -> None:
    """Say that a checkpoint's own head isn't used by ``pooling=mean``; an own export is refused."""
    if source is None:
        return
    if getattr(config, READS, None) is not None:
        raise ModelError(
            f"'{source.name}' was exported with model.pooling=cls, and its head reads what that "
            "gives; set model.pooling=cls"
        )
    if _has_head(config):
        logger.warning(
            "'%s' has a head of its own, which model.pooling=mean leaves out: a new one is "
            "trained. model.pooling=cls keeps it where its classes are the job's",
            source.name,
        )


def _has_head(config: Any) -> bool:
    """Return whether a checkpoint is that of a classifier, by its own word."""
    return any("SequenceClassification" in name for name in config.architectures or ())


def _own_export(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    found = classes.names_of(config, model.labels)
    net, _ = _read(FedmodelForSequenceClassification, source, config, {}, allowed=())
    name = source.name if source is not None else ""
    if found is not None and set(model.labels) <= set(found):
        _check_reading(model, name, config)
        classes.select(net, found, model.labels)
    else:
        classes.say_new(name, found, model.labels)
        net.classifier = _zero_head(net.classifier.in_features, model)
        net.num_labels = len(model.labels)
    net.config.update(
        {"normalize": model.normalize, "head_bias": model.head_bias, **_labels(model)}
    )
    return net  # type: ignore[no-any-return]


def _check_reading(model: job.Model, name: str, config: Any) -> None:
    """Check that a trained head that is kept will read what it was trained on.

    Raises:
        ModelError: naming the keys to set.
    """
    # An export of 0.1.0 doesn't say how many tokens it read; its tokenizer does.
    trained = {"max_length": getattr(config, READS, None)}
    if isinstance(config, FedmodelConfig):
        trained |= {"normalize": config.normalize, "head_bias": config.head_bias}
        trained["max_length"] = trained["max_length"] or tokenizer_length(find(model))
    asked = {key: getattr(model, key) for key in trained}
    other = [key for key, value in trained.items() if value is not None and value != asked[key]]
    if other:
        settings = " ".join(f"model.{key}={_written(trained[key])}" for key in other)
        raise ModelError(
            f"'{name}' is an export whose head was trained on other features than this job asks "
            f"for ({', '.join(f'model.{key}={_written(asked[key])}' for key in other)}); set "
            f"{settings}"
        )


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def native(model: job.Model, source: Source | None, config: Any) -> PreTrainedModel:
    """Return a network with its architecture's own head.

    Args:
        model: of the job.
        source: where the weights are; ``None``: they are drawn.
        config: as :func:`fedmodel.models.load` has prepared it.

    Raises:
        ModelError: if the files are damaged, or hold a trained head that this job would misread.
    """
    if isinstance(config, FedmodelConfig):
        raise ModelError(
            "the folder holds a mean-pooled model exported by fedmodel; use model.pooling=mean"
        )
    found, name = classes.names_of(config, model.labels), source.name if source is not None else ""
    if source is not None and found is not None and set(model.labels) <= set(found):
        config.update({"problem_type": _labels(model)["problem_type"]})
        net, new = _read_native(model, source, config, len(found))
        if not new:
            _check_reading(model, name, config)
            classes.select(net, found, model.labels)
            net.config.update(_labels(model))
            return net
    config.update(_labels(model))
    net, new = _read_native(model, source, config, len(model.labels))
    if source is not None and new and _has_head(config):
        classes.say_new(name, found, model.labels)
    if source is not None and not new:
        # As many classes, but others: one more, and the library makes the last layer anew.
        classes.say_new(name, found, model.labels)
        more = (*model.labels, "\0")
        config.update({"id2label": dict(enumerate(more))})
        net, _ = _read_native(model, source, config, len(more))
        classes.select(net, more, model.labels)
        net.config.update(_labels(model))
    return net


def _read_native(
    model: job.Model, source: Source | None, config: Any, count: int
) -> tuple[PreTrainedModel, bool]:
    """Return the network with a head of so many classes, and whether its last layer is new."""
    auto = getattr(transformers, tasks.of(model.task).head.auto_class)
    net, absent = _read(auto, source, config, {"ignore_mismatched_sizes": True}, allowed=None)
    output = classes.output_of(net, count)
    return net, output is None or f"{output[0]}.weight" in absent


def _read(
    auto: Any,
    source: Source | None,
    config: PreTrainedConfig,
    arguments: dict[str, Any],
    allowed: tuple[str, ...] | None,
) -> tuple[Any, list[str]]:
    """Make the model from ``source``'s weights, or from the seed when there is none.

    Args:
        auto: class whose ``from_pretrained`` or ``from_config`` is called.
        source: where the weights are.
        config: of the model.
        arguments: extra ones.
        allowed: top-level modules that the weights may lack; None: the head and a pooler.

    Returns:
        The model, and the names of the tensors that ``source`` doesn't have.
    """
    if source is None:
        arguments.pop("ignore_mismatched_sizes", None)
        return auto.from_config(config, **arguments), []
    with explained(source, "weights"):
        _check_files(source, config)
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
            f"calls for, such as {lost[0]}; expected a complete checkpoint of that architecture: "
            "download or save it again, config.json and all weights together"
        )
    if any(name.startswith(_poolers(net)) for name in absent):
        # No public source has this seeded pooler, so an export must carry the base weights.
        net.config.name_or_path = ""
    return net, absent


def _check_files(source: Source, config: PreTrainedConfig) -> None:
    """Refuse a checkpoint that sends the library to other files than those it is known by.

    A site's policy names base models by the digests of ``model.safetensors`` or its shards
    (:func:`fedmodel.models.checkpoint.checkpoint`), so nothing else may be read in their place.
    """
    if named := getattr(config, "transformers_weights", None):
        raise ModelError(
            f"config.json of model '{source.name}' has its weights in a file of another name "
            f"(transformers_weights={named!r:.80}); expected model.safetensors or its shards: load "
            "it and save it again with save_pretrained"
        )
    where = {key: value for key, value in source.arguments.items() if key != "trust_remote_code"}
    if find_adapter_config_file(source.name, **where) is not None:
        raise ModelError(
            f"'{source.name}' holds a peft adapter, which would be read with another base model; "
            "merge it into its base model first, and give the merged folder"
        )


def _poolers(net: PreTrainedModel) -> tuple[str, ...]:
    return (f"{net.base_model_prefix}.pooler",)
