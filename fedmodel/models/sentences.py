"""A mean-pooled model as a folder that sentence-transformers loads, without code to trust.

Its embedding of a text is the logits. Written as that library has read folders since its version 2,
in JSON and safetensors, so that it isn't needed here.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import MODEL_MAPPING

from fedmodel.errors import ModelError
from fedmodel.models.modeling import FedmodelForSequenceClassification, encoder_loader

__all__ = ["BODY", "check", "save"]

BODY = "0_Transformer"
"""Folder of the encoder.

It isn't the root, as is usual: there ``AutoModelForSequenceClassification`` would find the encoder,
and put a random head on it.
"""

_MODULES = "sentence_transformers.models."
_ENCODERS = frozenset({"mt5", "t5", "umt5"})
"""Encoder-decoders of which sentence-transformers takes the encoder, as we do."""


def check(net: Any) -> None:
    """Check that a network can be written so.

    Raises:
        ModelError: if its head isn't one linear layer on the mean of an encoder's tokens, or the
            library wouldn't load that encoder.
    """
    if not isinstance(net, FedmodelForSequenceClassification):
        raise ModelError(
            "form=sentence-transformers is for models trained with model.pooling=mean; with "
            "model.pooling=cls the head is the architecture's own, which transformers has: "
            "use form=merged, which loads without code to trust"
        )
    config = net.config.encoder
    auto, _ = encoder_loader(config)
    every: Any = MODEL_MAPPING
    if config.model_type not in _ENCODERS and (
        type(config) not in every or type(net.encoder) is not every[type(config)]
    ):
        raise ModelError(
            f"sentence-transformers has no encoder of model type '{config.model_type}' as "
            f"{auto.__name__} loads it; use form=merged or form=onnx"
        )


def save(net: Any, folder: Path, reads: int) -> Path:
    """Write all but the tokenizer.

    Args:
        net: whole; :func:`check` has passed.
        folder: where to write.
        reads: tokens of a text.

    Returns:
        The folder in which the tokenizer belongs.
    """
    body, width = folder / BODY, net.config.encoder.hidden_size
    encoder: dict[str, Any] = {"max_seq_length": reads, "do_lower_case": False}
    if arguments := encoder_loader(net.config.encoder)[1]:
        encoder["model_args"] = arguments
    steps: list[tuple[str, dict[str, Any]]] = [("Pooling", _pooling(width))]
    if net.config.normalize:
        steps.append(("Normalize", {}))
    steps.append(("Dense", _dense(net.classifier)))
    net.encoder.save_pretrained(body)
    _write(body / "sentence_bert_config.json", encoder)
    modules = [(BODY, "Transformer")]
    for number, (kind, values) in enumerate(steps, start=1):
        place = f"{number}_{kind}"
        modules.append((place, kind))
        _write(folder / place / "config.json", values)
    weights = {f"linear.{name}": x.contiguous() for name, x in net.classifier.state_dict().items()}
    save_file(weights, folder / modules[-1][0] / "model.safetensors")
    _write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": place, "type": f"{_MODULES}{kind}"}
            for number, (place, kind) in enumerate(modules)
        ],
    )
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": None},
    )
    return body


def _pooling(width: int) -> dict[str, Any]:
    modes = dict.fromkeys(("cls_token", "max_tokens", "mean_sqrt_len_tokens"), False)
    modes["mean_tokens"] = True
    return {
        "word_embedding_dimension": width,
        **{f"pooling_mode_{mode}": chosen for mode, chosen in modes.items()},
    }


def _dense(head: Any) -> dict[str, Any]:
    return {
        "in_features": head.in_features,
        "out_features": head.out_features,
        "bias": head.bias is not None,
        "activation_function": "torch.nn.modules.linear.Identity",
    }


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
