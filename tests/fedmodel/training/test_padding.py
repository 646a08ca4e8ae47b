"""Bodies that look at padding are known before anything is kept of them, and refused with DP."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from fedmodel.errors import ModelError, PrivacyError
from fedmodel.job import Lora, Model, Performance, Train
from fedmodel.models import tiny
from fedmodel.seeds import Seed
from fedmodel.training import padding
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from fedmodel.training.padding import reads_padding
from fedmodel.training.preflight import preflight

tf: Any = transformers
SMALL: dict[str, Any] = {
    "vocab_size": 1100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
LOOK = {
    "fnet": {},
    # other frequencies for all rows as soon as one of them has more than 16 tokens
    "llama": {
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 100.0,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "short_factor": [1.0] * 8,
            "long_factor": [4.0] * 8,
        }
    },
    "convbert": {"embedding_size": 32, "head_ratio": 1},
    "nystromformer": {"segment_means_seq_len": 8, "num_landmarks": 4},
    "yoso": {},
}
# Frequencies that grow with the longest batch so far do so beyond the model's own length only,
# which no job asks for.
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}
DONT: dict[str, Any] = {
    "llama": {"rope_parameters": DYNAMIC, "pad_token_id": 0},
    "bert": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": {},
    "squeezebert": {"embedding_size": 32},
}


def learner_of(family: str, more: Any, folder: Path, method: Any = "head") -> Learner:
    words = tiny.tokenizer(64)
    torch.manual_seed(0)
    config = tf.AutoConfig.for_model(family, **SMALL | {"vocab_size": len(words)} | more)
    tf.AutoModel.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)
    model = Model(source="hub", path=str(folder), labels=("a", "b"), max_length=32)
    train = Train(method=method, lora=Lora(layers=(-1,)))
    return Learner(model, train, Seed(0), torch.device("cpu"))


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("family", LOOK)
def test_a_body_that_looks_at_padding_is_refused(family: str, tmp_path: Path) -> None:
    learner = learner_of(family, LOOK[family], tmp_path)
    texts = ["chest pain and fever since monday", "cough", "no acute distress"]
    examples = prepare(learner, texts, ["a", "b", "a"], ("a", "b"), 32)
    before = learner.flatten()
    with pytest.raises(PrivacyError, match=f"'{family}' looks at padding"):
        preflight(learner, examples, Performance(device="cpu"))
    assert examples._features is None  # nothing was kept before
    assert (learner.flatten() == before).all()


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["head", "lora", "full"])
@pytest.mark.parametrize("family", DONT)
def test_others_pass(family: str, method: str, tmp_path: Path) -> None:
    if method == "lora" and family == "squeezebert":
        pytest.skip("its layers aren't linear ones")
    assert not reads_padding(learner_of(family, DONT[family], tmp_path, method))


def test_nobody_reads_further_than_the_longest_text_that_frequencies_are_made_for(
    tmp_path: Path,
) -> None:
    more = {"rope_parameters": DYNAMIC, "max_position_embeddings": 16}
    with pytest.raises(ModelError, match="reads at most 16 tokens"):
        learner_of("llama", more, tmp_path)


@pytest.mark.long
def test_no_row_is_padded_further_than_a_job_pads_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A decoder that could read 131,072 tokens would run out of memory, and be refused for it.
    widths = set()
    real = padding._layers

    def layers(learner: Learner, row: Any, width: int) -> Any:
        widths.add(width)
        return real(learner, row, width)

    monkeypatch.setattr(padding, "_layers", layers)
    learner = learner_of("bert", {"max_position_embeddings": 131_072}, tmp_path)
    learner.longest = 64
    assert not reads_padding(learner)
    assert max(widths) == 64
