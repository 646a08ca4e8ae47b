"""Families of models and settings: a row of docs/models.md's table each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

tf: Any = transformers  # its configurations' arguments come from untyped tables here


CPU = torch.device("cpu")
METHODS = ("lora", "head", "full")
ENGINES = ("fast", "hooks")
DROPOUT = 0.1


TEXTS = (
    "patient has chest pain and fever",
    "no acute distress",
    "blood pressure is stable after surgery and the wound is clean",
    "history of diabetes",
    "x ray shows a fracture of the left arm",
)
LABELS = ("a", "b", "c", "a", "b")


_SMALL = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_BERT: dict[str, Any] = _SMALL | {
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
_LLAMA: dict[str, Any] = _BERT | {"num_key_value_heads": 1, "pad_token_id": 0}
_LLAMA |= {"bos_token_id": 2, "eos_token_id": 3}
_GPT2: dict[str, Any] = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 2}
_GPT2 |= {"n_positions": 64, "initializer_range": 0.2, "bos_token_id": 2, "eos_token_id": 3}
_T5: dict[str, Any] = {"vocab_size": 300, "d_model": 32, "num_layers": 2, "num_heads": 2}
_T5 |= {"d_ff": 48, "d_kv": 16, "pad_token_id": 0}
_VIT: dict[str, Any] = {k: v for k, v in _BERT.items() if "vocab" not in k and "posit" not in k}
_VIT |= {"image_size": 16, "patch_size": 4, "num_labels": 3}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: tf.BertConfig(**_BERT),
    "electra": lambda: tf.ElectraConfig(**_BERT, embedding_size=32),
    "albert": lambda: tf.AlbertConfig(**_BERT, embedding_size=16),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=48, initializer_range=0.2
    ),
    "roberta": lambda: tf.RobertaConfig(**_BERT),
    "mpnet": lambda: tf.MPNetConfig(**_BERT),
    "deberta-v2": lambda: tf.DebertaV2Config(**_BERT, **_DEBERTA, norm_rel_ebd="layer_norm"),
    "modernbert": lambda: tf.ModernBertConfig(
        **_BERT, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3
    ),
    "gpt2": lambda: tf.GPT2Config(**_GPT2),
    "llama": lambda: tf.LlamaConfig(**_LLAMA),
    "mistral": lambda: tf.MistralConfig(**_LLAMA),
    "qwen3": lambda: tf.Qwen3Config(**_LLAMA, head_dim=16),
    "phi3": lambda: tf.Phi3Config(**_LLAMA),
    "gemma": lambda: tf.GemmaConfig(**_LLAMA, head_dim=16),
    "t5": lambda: tf.T5Config(**_T5),
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a model and settings."""

    label: str
    kind: str
    settings: str = ""
    pooling: str = "cls"
    methods: tuple[str, ...] = METHODS
    frozen: tuple[str, ...] = ()
    targets: tuple[str, ...] | None = None
    bare: Callable[[], Any] | None = field(default=None, compare=False)


_BIAS = ("relative_attention_bias",)
_DISENTANGLED = ("rel_embeddings", "encoder.LayerNorm", "query_proj", "key_proj")


def _tied(config: Any) -> Any:
    config.tie_word_embeddings = True
    return config


ROWS = (
    Row("BERT", "bert"),
    Row("BERT, mean pooling", "bert", pooling="mean"),
    Row("ELECTRA", "electra"),
    Row("ALBERT", "albert"),
    Row("DistilBERT", "distilbert"),
    Row("RoBERTa", "roberta"),
    Row("MPNet", "mpnet"),
    Row("MPNet", "mpnet", f"train.frozen={list(_BIAS)}", methods=("full",), frozen=_BIAS),
    Row("DeBERTa-v2, v3", "deberta-v2"),
    Row(
        "DeBERTa-v2, v3",
        "deberta-v2",
        "train.lora.target_modules=[query_proj, key_proj]",
        methods=("lora",),
        targets=("query_proj", "key_proj"),
    ),
    Row(
        "DeBERTa-v2, v3",
        "deberta-v2",
        f"train.frozen={list(_DISENTANGLED)}",
        methods=("full",),
        frozen=_DISENTANGLED,
    ),
    Row("ModernBERT", "modernbert"),
    Row("GPT-2", "gpt2"),
    Row("Llama", "llama"),
    Row("Mistral", "mistral"),
    Row("Qwen3", "qwen3"),
    Row("Phi-3", "phi3"),
    Row("Gemma", "gemma"),
    Row(
        "Gemma", "gemma", "train.frozen=[embed_tokens]", methods=("full",), frozen=("embed_tokens",)
    ),
    Row("T5's encoder, mean pooling", "t5", pooling="mean"),
    Row(
        "T5's encoder, mean pooling",
        "t5",
        f"train.frozen={list(_BIAS)}",
        pooling="mean",
        methods=("full",),
        frozen=_BIAS,
    ),
    Row("BERT, masked LM, tied¹", "bert", bare=lambda: tf.BertForMaskedLM(CONFIGS["bert"]())),
    Row("GPT-2, LM, tied¹", "gpt2", bare=lambda: tf.GPT2LMHeadModel(CONFIGS["gpt2"]())),
    Row("Llama, LM, tied¹", "llama", bare=lambda: tf.LlamaForCausalLM(_tied(CONFIGS["llama"]()))),
    Row("Llama, LM, untied¹", "llama", bare=lambda: tf.LlamaForCausalLM(CONFIGS["llama"]())),
    Row("ViT¹", "vit", bare=lambda: tf.ViTForImageClassification(tf.ViTConfig(**_VIT))),
)
