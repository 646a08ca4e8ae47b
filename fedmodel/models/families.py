"""Families of architectures: what differs from one to the next, as data."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["OFFSET", "POSITIONED", "TARGETS", "family", "head_names", "unwrap", "with_positions"]

TARGETS: dict[str, tuple[str, ...]] = {
    # Query and value, the choice of arXiv 2106.09685. DeBERTa passes its relative positions, which
    # have no batch dimension, through query and key: their per-record gradients would be wrong
    # without an error, so only the value is adapted.
    "albert": ("query", "value"),
    "bert": ("query", "value"),
    "camembert": ("query", "value"),
    "deberta-v2": ("value_proj",),
    "distilbert": ("q_lin", "v_lin"),
    "electra": ("query", "value"),
    "gemma": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "llama": ("q_proj", "v_proj"),
    "mistral": ("q_proj", "v_proj"),
    "modernbert": ("Wqkv",),
    "mpnet": ("q", "v"),
    "phi3": ("qkv_proj",),
    "qwen2": ("q_proj", "v_proj"),
    "qwen3": ("q_proj", "v_proj"),
    "roberta": ("query", "value"),
    "t5": ("q", "v"),
    "vit": ("q_proj", "v_proj"),
    "xlm-roberta": ("query", "value"),
}
"""Model type → names of the Linear modules that LoRA adapts unless told otherwise."""

POSITIONED = frozenset({"albert", "bert", "deberta-v2", "distilbert", "electra", "gpt2"})
"""Model types whose default position ids are ``[1, T]`` and can be passed as ``[B, T]``."""

OFFSET = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xlm-roberta"}
)
"""Model types that count positions from ``pad_token_id + 1``."""


def unwrap(model: nn.Module) -> "PreTrainedModel":
    """Return the transformers model inside a peft model, or ``model`` itself."""
    inner = getattr(model, "get_base_model", None)
    found: Any = inner() if inner is not None else model
    return found  # type: ignore[no-any-return]


def family(model: nn.Module) -> str:
    """Return the model type of the encoder, e.g. ``bert``."""
    config = unwrap(model).config
    return str(getattr(config, "encoder", config).model_type)


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Return the modules with parameters that stand beside the base model, in their order."""
    inner = unwrap(model)
    return tuple(
        name
        for name, child in inner.named_children()
        if name != inner.base_model_prefix and any(True for _ in child.parameters())
    )


def with_positions(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add ``position_ids`` ``[B, T]`` for the architectures that take them.

    Left to itself such a model makes them ``[1, T]``, and hooks that compute per-record gradients
    then see one record in the position table. Rows must be padded on the right. Other
    architectures (RoBERTa and its kin count from the padding id, rotary ones have no table) get
    the batch as it is.

    Args:
        model: as :func:`fedmodel.models.load` or :func:`fedmodel.models.attach` return it.
        batch: at least ``input_ids``, int64 ``[B, T]``.
    """
    import torch

    if "position_ids" in batch or family(model) not in POSITIONED:
        return batch
    ids = batch["input_ids"]
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape).contiguous()
    return {**batch, "position_ids": positions}
