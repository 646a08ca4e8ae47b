"""Metrics against numbers worked out by hand, and rows as tensors."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.errors import DataError
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training.evaluate import evaluate


def test_the_metrics_are_the_textbooks(
    learner_of: Any, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("head")
    labels = ["a", "a", "a", "b", "b", "c"]
    guesses = [0, 0, 1, 1, 0, 0]
    examples = rows_as_tensors.prepare(learner, texts[:6], labels, ("a", "b", "c"), 16)

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        # Class scores are log 2 for the guess and 0 else, so that softmax gives 1/2 and 1/4.
        out = torch.zeros(len(batch["features"]), 3)
        for i, row in enumerate(batch["features"]):
            (place,) = [
                k
                for k in range(6)
                if torch.equal(examples.batch(np.array([k]))["features"][0], row)
            ]
            out[i, guesses[place]] = math.log(2)
        return out

    monkeypatch.setattr(learner, "logits", logits)
    found = evaluate(learner, examples)
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["majority"] == pytest.approx(3 / 6)
    # a: precision 2/4, recall 2/3; b: 1/2 and 1/2; c is never guessed.
    assert found["macro_f1"] == pytest.approx((4 / 7 + 1 / 2 + 0) / 3)
    assert found["loss"] == pytest.approx((3 * math.log(2) + 3 * math.log(4)) / 6)


@pytest.mark.parametrize("method", ["head", "lora"])
def test_evaluation_over_several_batches_changes_nothing(
    method: str, learner_of: Any, examples_of: Any, start_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmodel.training import evaluate as module

    learner = learner_of(method)
    learner.load_vector(start_of(learner))
    before = learner.flatten()
    whole = evaluate(learner, examples_of(learner))
    monkeypatch.setattr(module, "SIZE", 3)
    parts = evaluate(learner, examples_of(learner))
    assert parts == pytest.approx(whole, rel=1e-5)
    assert (learner.flatten() == before).all()


def test_cached_features_give_the_whole_networks_logits(
    learner_of: Any, examples_of: Any, start_of: Any, texts: list[str]
) -> None:
    learner = learner_of("head")
    learner.load_vector(start_of(learner))
    learner.module.eval()
    batch = learner.tokenizer(
        texts, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        cached = learner.logits(examples_of(learner).batch(np.arange(len(texts))))
        whole = learner.module(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
    torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-5)


def test_chunks_hold_each_row_once_and_sort_by_length(learner_of: Any, examples_of: Any) -> None:
    examples = examples_of(learner_of("lora"))
    rows = np.array([7, 3, 3, 0, 12])
    parts = list(examples.chunks(rows, 2))
    assert [len(p) for p in parts] == [2, 2, 1]
    joined = np.concatenate(parts)
    assert sorted(joined) == sorted(rows)
    assert (np.diff(examples.lengths[joined]) >= 0).all()


def test_rows_never_show_in_a_repr_and_unknown_labels_are_refused(
    learner_of: Any, examples_of: Any, texts: list[str]
) -> None:
    learner = learner_of("head")
    assert repr(examples_of(learner)) == "Examples(…)"
    with pytest.raises(DataError, match="labels the job doesn't know"):
        rows_as_tensors.prepare(learner, texts[:2], ["a", "zzz"], ("a", "b"), 16)
