from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import constants

from fedmodel import job
from tests.checkpoints import write_checkpoint

tf: Any = transformers  # its configurations' arguments come from untyped tables here

_SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_BERT = _SMALL | {"intermediate_size": 48, "max_position_embeddings": 300, "initializer_range": 0.2}
_T5: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "d_ff": 48, "d_kv": 16, "pad_token_id": 0}
_ROTARY: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: tf.BertConfig(**_BERT),
    "electra": lambda: tf.ElectraConfig(**_BERT, embedding_size=32),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=48, initializer_range=0.2
    ),
    "roberta": lambda: tf.RobertaConfig(**_BERT),
    "mpnet": lambda: tf.MPNetConfig(**_BERT),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=300, initializer_range=0.2
    ),
    "llama": lambda: tf.LlamaConfig(**_BERT, pad_token_id=-1),
    "modernbert": lambda: tf.ModernBertConfig(**_BERT, **_ROTARY, cls_token_id=2, sep_token_id=3),
    "deberta-v2": lambda: tf.DebertaV2Config(
        **_BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
    ),
    "t5": lambda: tf.T5Config(vocab_size=300, d_model=32, **_T5),
}

ModelOf = Callable[..., job.Model]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment is read at import, which may have happened in another folder's tests.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """Return a maker of jobs' models whose folder holds a small random checkpoint."""
    folders: dict[str, Path] = {}

    def make(kind: str, pooling: str = "mean", **more: Any) -> job.Model:
        if kind not in folders:
            folder = tmp_path_factory.mktemp(kind)
            config = CONFIGS[kind]()
            folders[kind] = write_checkpoint(folder, config)
        values: dict[str, Any] = {"labels": ("a", "b", "c"), "max_length": 64} | more
        return job.Model(source="hub", path=str(folders[kind]), pooling=pooling, **values)  # type: ignore[arg-type]

    return make


@pytest.fixture
def batch_of() -> Callable[..., dict[str, torch.Tensor]]:
    """Return a maker of right-padded batches of token ids."""

    def make(lengths: list[int], pad: int | None = 0, low: int = 5) -> dict[str, torch.Tensor]:
        made = torch.Generator().manual_seed(3)
        width = max(lengths)
        ids = torch.randint(low, 300, (len(lengths), width), generator=made)
        mask = torch.arange(width).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
        ids = torch.where(mask, ids, torch.full_like(ids, pad or 0))
        return {"input_ids": ids, "attention_mask": mask.long()}

    return make
