"""A decoder's attention has another kernel where no row of a pass is padded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from fedmodel.job import Lora, Model, Performance, Train
from fedmodel.models import tiny
from fedmodel.seeds import Seed
from fedmodel.training import replay
from fedmodel.training.learner import Learner

tf: Any = transformers
WIDTH = 48


@pytest.fixture
def decoder(tmp_path: Path) -> Learner:
    words = tiny.tokenizer(64)
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=len(words),
        pad_token_id=words.pad_token_id,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
    )
    tf.AutoModel.from_config(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model = Model(source="hub", path=str(tmp_path), labels=("a", "b", "c"), max_length=WIDTH)
    train = Train(method="lora", lora=Lora(target_modules=("q_proj", "k_proj")))
    return Learner(model, train, Seed(0), torch.device("cpu"))


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("engine", ["fast", "hooks"])
def test_one_padded_row_changes_nothing_of_rows_as_long_as_the_job_keeps(
    decoder: Learner, engine: Any
) -> None:
    performance = Performance(device="cpu", physical_batch=32, engine=engine)
    more = replay._examples(decoder, [WIDTH - 1, *[WIDTH] * 8], "full")
    fewer = more.without(more.units.rows_of(0))
    name, _ = replay._last_linear(decoder) or ("", None)
    place = decoder.layout.names.index(name)
    begin, shape = decoder.layout.offsets[place], decoder.layout.shapes[place]
    with replay.borrowed(decoder):
        for examples in (more, fewer):
            replay.prove_steps(decoder, examples, performance)
        # Saturated attention: queries' and keys' gradients are rounding, and the head's is small.
        start = replay._nudged(decoder)
        own = slice(begin, begin + int(np.prod(shape)))
        vector = 10_000 * start
        vector[own] = 1e-3 * start[own]
        decoder.load_vector(vector)
        sums = [replay._sum(decoder, e, performance) for e in (more, fewer)]
    assert np.linalg.norm(sums[0] - sums[1]) <= replay._CLIP
