"""An encoder, the mean of its token vectors and a linear head, for plain ``transformers``.

This file stands alone (torch and transformers only): an exported folder carries a copy of it as
``modeling_fedmodel.py``, so that ``AutoModelForSequenceClassification.from_pretrained(folder,
trust_remote_code=True)`` works where fedmodel isn't installed. Mean pooling as in Sentence-BERT
(arXiv 1908.10084).
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

__all__ = ["FedmodelConfig", "FedmodelForSequenceClassification", "encoder_loader"]


def encoder_loader(config: PreTrainedConfig) -> tuple[Any, dict[str, Any]]:
    """Return the auto class and extra arguments that make only the encoder of ``config``.

    Encoder-decoders give their encoder stack; a pooler is left out where the architecture can do
    without, since mean pooling never reads it.

    Raises:
        ValueError: if transformers has no such encoder.
    """
    # Asked first, because T5's is another class; its encoder also unsets `is_encoder_decoder`.
    text: Any = MODEL_FOR_TEXT_ENCODING_MAPPING
    every: Any = MODEL_MAPPING
    auto, mapping = (AutoModelForTextEncoding, text) if type(config) in text else (AutoModel, every)
    if type(config) not in mapping or (mapping is every and config.is_encoder_decoder):
        raise ValueError(f"transformers has no text encoder for model type '{config.model_type}'")
    known = inspect.signature(mapping[type(config)]).parameters
    return auto, {"add_pooling_layer": False} if "add_pooling_layer" in known else {}


class FedmodelConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """Configuration of :class:`FedmodelForSequenceClassification`.

    Args:
        encoder: the encoder's own configuration (or it as a dict with ``model_type``).
        pooling: only ``mean`` exists.
        normalize: scale the pooled vector to length 1 before the head.
        head_bias: whether the head adds a bias.
        **kwargs: of ``PreTrainedConfig``; ``id2label`` gives the number of classes.
    """

    model_type = "fedmodel-pooled"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012
    has_no_defaults_at_init = True

    def __init__(
        self,
        encoder: PreTrainedConfig | dict[str, Any] | None = None,
        pooling: str = "mean",
        normalize: bool = True,
        head_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        if isinstance(encoder, dict):
            values = dict(encoder)
            encoder = AutoConfig.for_model(values.pop("model_type"), **values)
        if pooling != "mean":
            raise ValueError(f"pooling must be 'mean', got {pooling!r}")
        self.encoder = encoder if encoder is not None else AutoConfig.for_model("bert")
        self.pooling = pooling
        self.normalize = normalize
        self.head_bias = head_bias
        super().__init__(**kwargs)


class FedmodelForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Encoder, attention-masked mean of the last hidden state, linear head."""

    config_class = FedmodelConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: FedmodelConfig) -> None:
        super().__init__(config)
        auto, arguments = encoder_loader(config.encoder)
        self.num_labels = int(config.num_labels or 0)
        self.encoder = auto.from_config(config.encoder, **arguments)
        self.classifier = nn.Linear(
            config.encoder.hidden_size, self.num_labels, bias=config.head_bias
        )
        self._accepts = frozenset(inspect.signature(self.encoder.forward).parameters)
        self.post_init()  # type: ignore[no-untyped-call]

    def features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the pooled vectors, float ``[B, H]``: exactly what the head reads.

        Args:
            input_ids: int64 ``[B, T]``.
            attention_mask: ``[B, T]``, 1 for a token and 0 for padding; all 1 if left out.
            token_type_ids: int64 ``[B, T]``; ignored by encoders without segments.
            position_ids: int64 ``[B, T]``; ignored by encoders that take none.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        optional = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        given = {k: v for k, v in optional.items() if v is not None and k in self._accepts}
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **given)
        hidden = output.last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled: Tensor = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return functional.normalize(pooled, dim=-1) if self.config.normalize else pooled

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits ``[B, classes]`` and, given ``labels``, the mean loss.

        It goes by ``config.problem_type``: binary cross-entropy for
        ``multi_label_classification`` (labels are 0 or 1, float ``[B, classes]``), else
        cross-entropy (labels are int64 ``[B]``).

        Other keyword arguments (``return_dict``, ``output_attentions``, …) are accepted and
        ignored, as peft and trainers pass them.
        """
        logits = self.classifier(
            self.features(input_ids, attention_mask, token_type_ids, position_ids)
        )
        loss = None
        if labels is not None and self.config.problem_type == "multi_label_classification":
            loss = functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        elif labels is not None:
            loss = functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
