"""Keeping what frozen layers compute changes the time a round takes, not its result."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.job import Lora, Model, Performance, Train
from fedmodel.seeds import Seed
from fedmodel.training import local
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from fedmodel.training.preflight import preflight
from fedmodel.training.round import Round, Start
from tests.jobs import make_job

NAMES = ("a", "b")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "ffa"])
def test_a_round_is_the_same_with_and_without(method: Any, texts: list[str], fake: Any) -> None:
    train = Train(method=method, lr=0.5, head_lr=1.0, batch_size=4, lora=Lora(layers=(-1,)))
    model = Model(labels=NAMES, max_length=16)
    learner = Learner(model, train, Seed(0), torch.device("cpu"))
    labels = [NAMES[i % 2] for i in range(len(texts))]
    kept = prepare(learner, texts, labels, NAMES, 16)
    assert "hidden" in kept.batch(np.array([0, 1]))
    plain = copy.copy(kept)
    plain._hidden = None  # computed again for each batch
    preflight(learner, kept, Performance(engine="fast"))
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    vector = (learner.initial + nudge).astype(np.float32)

    def change(examples: Any) -> Any:
        return local.train(
            learner,
            examples,
            make_job(model=model, train=train),
            Start(vector=vector),
            Round(entropy=fake),
            steps=4,
            plan=None,
            seed=Seed(3),
        ).change

    first = change(kept)
    assert np.abs(first).max() > 1e-3
    np.testing.assert_allclose(first, change(plain), atol=1e-5)


@pytest.mark.long
def test_dropout_or_too_little_memory_runs_the_whole_network(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Train(method="lora", lora=Lora(layers=(-1,)))
    wet = Learner(Model(labels=NAMES, dropout=0.1), train, Seed(0), torch.device("cpu"))
    dry = Learner(Model(labels=NAMES), train, Seed(9), torch.device("cpu"))
    monkeypatch.setattr("fedmodel.training.examples._LARGEST", 1000)
    examples = prepare(wet, texts, ["a"] * len(texts), NAMES, 16)
    assert set(examples.batch(np.array([0]))) == {"input_ids", "attention_mask"}
    # What there is no room for is computed again, the same to the last bit.
    again = prepare(dry, texts, ["a"] * len(texts), NAMES, 16)
    everybody = np.arange(len(texts))
    found = again.batch(everybody)["hidden"]
    assert again._hidden is None
    monkeypatch.undo()
    kept = prepare(dry, texts, ["a"] * len(texts), NAMES, 16)
    assert torch.equal(kept.batch(everybody)["hidden"], found)
    assert kept._hidden is not None
    # And from there the network goes on as if it had run whole, however long the rows are.
    nudge = np.random.default_rng(5).standard_normal(dry.initial.size) * 0.1
    dry.load_vector((dry.initial + nudge).astype(np.float32))
    dry.module.eval()
    batch = kept.batch(everybody)
    whole = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = dry.logits(whole)
        assert len(set(expected.flatten().tolist())) > len(texts)
        torch.testing.assert_close(dry.logits(batch), expected, atol=1e-5, rtol=1e-4)
