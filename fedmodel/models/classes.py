"""Classes of a checkpoint's own head: matched with a job's by their names, never by position."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from fedmodel._text import listed
from fedmodel.errors import ModelError
from fedmodel.models.families import head_names, with_positions

__all__ = ["names_of", "output_of", "say_new", "select"]

logger = logging.getLogger(__name__)

_SHOWN = 6
_TOLERANCE = 1e-4  # of logits; another order of adding up gives below 1e-6


def names_of(config: PreTrainedConfig, wanted: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Return a checkpoint's class names in the order of its logits.

    ``LABEL_0``, ``LABEL_1``, …, which transformers fills in where nobody has named any, stand for
    the integers 0, 1, …, unless the job's classes are called so themselves.

    Args:
        config: as it was read. JSON may have its numbers in the order of their digits (0, 1, 10).
        wanted: the job's classes.

    Returns:
        The names; ``None`` where they don't tell the classes apart.
    """
    named = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    names = [named.get(number, "") for number in range(len(named))]
    unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    if unnamed and not (wanted and set(wanted) <= set(names)):
        names = [name.removeprefix("LABEL_") for name in names]
    return tuple(names) if names and len(set(names)) == len(names) and all(names) else None


def output_of(net: PreTrainedModel, count: int) -> tuple[str, nn.Linear] | None:
    """Return the last linear layer of the head, by name, if it has so many outputs."""
    tops = tuple(f"{name}." for name in head_names(net))
    linears = [
        (name, module)
        for name, module in net.named_modules()
        if f"{name}.".startswith(tops) and isinstance(module, nn.Linear)
    ]
    found = [pair for pair in linears if pair[1].out_features == count]
    return found[-1] if found else None


def select(net: Any, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Make the head answer for the wanted classes, in their order, with what it knows of each.

    Args:
        net: a network with a head for ``found``; changed in place, its configuration isn't.
        found: class names in the order of its logits.
        wanted: class names among them.

    Raises:
        ModelError: when the head isn't made in a way that allows it.
    """
    if tuple(found) == tuple(wanted):
        return
    rows = torch.tensor([list(found).index(name) for name in wanted])
    output = output_of(net, len(found))
    before = _logits(net)
    if output is not None:
        name, old = output
        new = nn.Linear(old.in_features, len(rows), bias=old.bias is not None)
        with torch.no_grad():
            new.weight.copy_(old.weight[rows])
            if old.bias is not None:
                new.bias.copy_(old.bias[rows])
        net.set_submodule(name, new)
        net.num_labels = len(rows)
    expected = before[:, rows] if before.shape[1] == len(found) else before
    after = _logits(net)
    scale = max(1.0, float(before.abs().max()))
    if after.shape != expected.shape or (after - expected).abs().max() > _TOLERANCE * scale:
        raise ModelError(
            "this architecture's head can't be taken over for other classes, or in another order: "
            f"its classes are {_shown(found)}, the job's {_shown(wanted)}. Set model.labels to "
            "the same classes in the same order, or use model.pooling=mean, which makes a new head"
        )


@torch.no_grad()
def _logits(net: Any) -> torch.Tensor:
    """Return the logits of a made-up text, ``[1, classes]``."""
    was_training = net.training
    net.eval()
    rows = net.get_input_embeddings().weight.shape[0]
    ids = torch.arange(5, 12).remainder(rows).unsqueeze(0)
    if isinstance(end := getattr(net.config, "eos_token_id", None), int) and end < rows:
        ids[0, -1] = end  # where encoder-decoders look
    batch = with_positions(net, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    logits: torch.Tensor = net(**batch).logits
    net.train(was_training)
    return logits.float()


def say_new(name: str, found: Sequence[str] | None, wanted: Sequence[str]) -> None:
    """Say that a head in a checkpoint isn't used, for its classes aren't the job's."""
    logger.warning(
        "the head in '%s' isn't kept: its classes are %s, the job's %s. A new one is trained; to "
        "keep it, its classes must have the names that the data give them",
        name,
        "not named" if found is None else _shown(found),
        _shown(wanted),
    )


def _shown(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names], _SHOWN)
