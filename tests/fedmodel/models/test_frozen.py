"""Skipping the frozen layers changes no logits and no gradient, or isn't done."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedmodel.job import Lora, Train
from fedmodel.models import attach, frozen_prefix, load
from fedmodel.seeds import Seed

FAMILIES = ["bert", "roberta", "gpt2", "llama", "modernbert", "distilbert", "mpnet", "deberta-v2"]


def gradients(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    model(**inputs).logits.square().sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize("kind", FAMILIES)
def test_skipping_gives_the_same_logits_and_gradients_or_says_that_it_doesnt(
    kind: str, model_of: Callable[..., Any], batch_of: Callable[..., Any]
) -> None:
    train = Train(method="lora", lora=Lora(layers=(-1,)))
    model: Any = attach(load(model_of(kind), Seed(0)), train, Seed(1))
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(2), std=0.1)
    prefix = frozen_prefix(model)
    inputs = batch_of([5, 9, 3])
    if prefix is None or not prefix.agrees(inputs):
        assert kind not in {"bert", "roberta", "gpt2", "llama"}
        return
    assert prefix.depth == 1
    expected = gradients(model, inputs)
    with prefix.skipped(prefix.hidden(inputs)):
        found = gradients(model, inputs)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(gradients(model, inputs), expected)  # nothing stays replaced


@pytest.mark.long
def test_there_is_nothing_to_skip_when_the_first_layer_or_the_embeddings_train(
    model_of: Callable[..., Any],
) -> None:
    for train in (
        Train(method="lora"),
        Train(method="full"),
        Train(method="head"),
        Train(method="ffa", lora=Lora(layers=(0,))),
    ):
        model = attach(load(model_of("bert"), Seed(0)), train, Seed(1))
        assert frozen_prefix(model) is None


def test_a_wrong_hidden_state_is_noticed(
    model_of: Callable[..., Any], batch_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Train(method="lora", lora=Lora(layers=(1,)))
    model = attach(load(model_of("bert"), Seed(0)), train, Seed(1))
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.1)
    prefix = frozen_prefix(model)
    assert prefix is not None
    assert prefix.agrees(batch_of([4, 6]))
    real = type(prefix).hidden
    monkeypatch.setattr(type(prefix), "hidden", lambda self, inputs: real(self, inputs) * 1.1)
    assert not prefix.agrees(batch_of([4, 6]))


def test_the_digest_depends_on_frozen_weights_only(model_of: Callable[..., Any]) -> None:
    train = Train(method="ffa", lora=Lora(layers=(1,)))
    digests = set()
    for seed in (1, 2):
        prefix = frozen_prefix(attach(load(model_of("bert"), Seed(0)), train, Seed(seed)))
        assert prefix is not None
        digests.add(prefix.digest)
    assert prefix is not None
    with torch.no_grad():
        next(iter(prefix.layers[0].parameters())).add_(1.0)
    digests.add(prefix.digest)
    assert len(digests) == 2
