"""The fifth trap: gradients of one row that are another's, where tokens pass for rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from fedmodel.errors import PrivacyError
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.job import Lora, Model, Performance, Train
from fedmodel.seeds import Seed
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.preflight import preflight
from tests.checkpoints import write_checkpoint
from tests.fedmodel.training.traps import CPU, ENGINES, NAMES

tf: Any = transformers  # its configurations take arguments that its types don't know


_SMALL: dict[str, Any] = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
_SMALL |= {"num_attention_heads": 2, "max_position_embeddings": 64}
_BERT = _SMALL | {"intermediate_size": 48, "initializer_range": 0.2}

CONFIGS: dict[str, Any] = {
    "deberta": lambda: tf.DebertaV2Config(
        **_BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
    ),
    "mpnet": lambda: tf.MPNetConfig(**_BERT),
    "t5": lambda: tf.T5Config(
        vocab_size=300, d_model=32, num_layers=2, num_heads=2, d_ff=48, d_kv=16, pad_token_id=0
    ),
    "opt": lambda: tf.OPTConfig(**_SMALL, ffn_dim=48, word_embed_proj_dim=32, init_std=0.2),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a maker of folders with small random checkpoints."""

    def make(kind: str) -> Path:
        folder = tmp_path_factory.getbasetemp() / f"traps-{kind}"
        return folder if folder.exists() else write_checkpoint(folder, CONFIGS[kind]())

    return make


def learner_from(folder: Path, pooling: Any = "cls", **train: Any) -> Learner:
    model = Model(labels=NAMES, max_length=16, source="hub", path=str(folder), pooling=pooling)
    return Learner(model, Train(**train), Seed(0), CPU)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_5_debertas_shared_key(engine: Any, folder_of: Any, examples_of: Any) -> None:
    learner = learner_from(
        folder_of("deberta"),
        method="lora",
        lora=Lora(target_modules=("query_proj", "key_proj")),
    )
    before = {n: t.clone() for n, t in learner.module.state_dict().items()}
    with pytest.raises(PrivacyError, match=r"(query|key)_proj"):
        preflight(learner, examples_of(learner), Performance(engine=engine))
    after = learner.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    good = learner_from(folder_of("deberta"), method="lora")
    preflight(good, examples_of(good), Performance(engine=engine))
    assert good.preflights_passed == {(engine, False)}


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("kind", ["mpnet", "t5"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("words", [1, 2])
def test_5_a_bias_over_positions_with_as_many_tokens_as_rows(
    kind: str, engine: Any, words: int, folder_of: Any
) -> None:
    # With the same number of both, a table of [T, T] passes for one of [B, …].
    learner = learner_from(folder_of(kind), "mean" if kind == "t5" else "cls", method="full")
    text = " ".join(["a"] * words)  # of two or three tokens with what the tokenizer adds
    texts = [text] * 5
    examples = prepare(learner, texts, ["a", "b", "c", "a", "b"], NAMES, 16)
    assert {2, 3, 4} >= set(examples.lengths.tolist())
    with pytest.raises(PrivacyError, match="relative_attention_bias"):
        preflight(learner, examples, Performance(engine=engine))


@pytest.mark.parametrize("engine", ["fast", "hooks"])
def test_5_no_engine_can_tell_by_itself(engine: str, folder_of: Any) -> None:
    # So the preflight takes care never to have as many rows as tokens.
    learner = learner_from(folder_of("mpnet"), method="full")
    examples = prepare(learner, ["a b c"] * 9, ["a", "b", "c"] * 3, NAMES, 16)
    rows = np.arange(examples.lengths[0])
    assert len(rows) <= len(examples)
    table = learner.module.get_parameter("mpnet.encoder.relative_attention_bias.weight")
    learner.module.train()

    def losses(chosen: Any) -> Tensor:
        return example_losses(learner, examples.batch(chosen), examples.labels(chosen))

    alone = [torch.autograd.grad(losses(rows[i : i + 1]).sum(), table)[0] for i in rows]
    made: Any = make_engine(engine, learner.module)
    with made.attached():
        made.begin(len(rows))
        made.backward(losses(rows), Groups.records(len(rows), CPU))  # no error
        norms = made.squares()[table].sqrt()
    true = torch.stack([g.double().square().sum() for g in alone]).sqrt()
    assert float(((norms - true).abs() / true).max()) > 0.1
    learner.module.zero_grad(set_to_none=True)


@pytest.mark.slow
@pytest.mark.long
def test_5_tokens_for_rows_in_opts_flattened_layers(folder_of: Any, examples_of: Any) -> None:
    lora = Lora(target_modules=("fc1",))
    learner = learner_from(folder_of("opt"), method="lora", lora=lora)
    preflight(
        learner, examples_of(learner), Performance(engine="fast")
    )  # knows whose tokens they are
    for engine in ("hooks",):
        with pytest.raises(PrivacyError, match="fc1"):
            preflight(learner, examples_of(learner), Performance(engine=engine))
