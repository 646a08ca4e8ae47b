"""Texts of which the tokenizer knows no piece: in another script, say, where it has no bytes."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.job import Performance
from fedmodel.training.evaluate import evaluate
from fedmodel.training.examples import prepare
from fedmodel.training.preflight import preflight
from tests.fedmodel.training.conftest import LABELS, NAMES, TEXTS

STRANGE = "Кашель"


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "lora"])
def test_a_text_of_no_token_is_one_unknown_token(
    method: str, learner_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the site's part, so that one row decided whether a site takes part."""
    learner = learner_of(method)
    tokenizer: Any = learner.tokenizer

    class Theirs:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def __len__(self) -> int:
            return len(tokenizer)

        def __call__(self, texts: list[str], **asked: Any) -> Any:
            found = tokenizer(texts, **asked)["input_ids"]
            return {"input_ids": [[] if t == STRANGE else f for t, f in zip(texts, found)]}  # noqa: B905

    monkeypatch.setattr(learner, "tokenizer", Theirs())
    texts = [*TEXTS[:-1], STRANGE]
    examples = prepare(learner, texts, LABELS, NAMES, 16)
    assert examples.lengths[-1] == 1
    assert examples._tokens[-1].tolist() == [tokenizer.unk_token_id]
    assert math.isfinite(evaluate(learner, examples)["loss"])
    preflight(learner, examples, Performance(device="cpu"))
    learner.module.eval()
    last = np.array([len(texts) - 1])
    with torch.inference_mode():
        alone = learner.logits(examples.batch(last))
        among = learner.logits(examples.batch(np.arange(len(texts))))[-1:]
    # Sums in another order, by machine; each logit is rounded by the size of the largest.
    assert (alone - among).abs().max() <= 1e-5 * among.abs().max()
