"""The linear head alone: each row embedded once, then work on the vectors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmodel.models.families import head_names, unwrap

__all__ = ["HeadView", "head_only"]


@dataclass(frozen=True, slots=True)
class HeadView:
    """A frozen body and the single Linear on top of it.

    Args:
        model: the whole transformers model.
        linear: its head, the only module with trainable parameters.
    """

    model: Any
    linear: nn.Linear

    @torch.no_grad()
    def features(self, batch: dict[str, Tensor]) -> Tensor:
        """Return what the Linear reads for a batch of token inputs, float32 ``[B, H]``.

        Runs the body in evaluation mode (no dropout) without gradients. ``labels`` are ignored.
        """
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        seen: list[Tensor] = []
        hook = self.linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
        was_training = self.model.training
        self.model.eval()
        try:
            self.model(**inputs)
        finally:
            hook.remove()
            self.model.train(was_training)
        found = seen[0]
        return (found if found.dim() == 2 else self._last_token(found, inputs)).float()

    def logits(self, features: Tensor) -> Tensor:
        """Apply the Linear to features ``[B, H]``: logits ``[B, classes]``, with gradients."""
        result: Tensor = self.linear(features)
        return result

    def _last_token(self, hidden: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        # The rule of transformers' decoder classifiers: the rightmost token that isn't padding.
        ids = inputs["input_ids"]
        config: Any = self.model.config
        places = torch.arange(ids.shape[1], device=ids.device)
        last = (places * (ids != config.pad_token_id)).argmax(-1)
        return hidden[torch.arange(ids.shape[0], device=ids.device), last]


def head_only(model: nn.Module) -> HeadView | None:
    """Return a view that can embed once and train on the vectors, or None where that's not exact.

    It is exact when the only trainable parameters belong to one ``nn.Linear`` that reads the
    frozen body directly: the mean-pooled model's ``classifier``, a native ``classifier`` such as
    BERT's, or a decoder's ``score``. Heads of several layers (RoBERTa, DistilBERT, …) give None.
    """
    inner, names = unwrap(model), head_names(model)
    if inner is not model or len(names) != 1 or names[0] not in ("classifier", "score"):
        return None
    linear = inner.get_submodule(names[0])
    if type(linear) is not nn.Linear:
        return None
    trainable = {id(p) for p in inner.parameters() if p.requires_grad}
    if not trainable or trainable != {id(p) for p in linear.parameters()}:
        return None
    if names[0] == "score" and getattr(inner.config, "pad_token_id", None) is None:
        return None
    return HeadView(inner, linear)
