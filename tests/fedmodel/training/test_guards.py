"""The preflight passes where per-example gradients are right, and only there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn.functional import linear

from fedmodel import models
from fedmodel.errors import PrivacyError
from fedmodel.job import Lora, Model, Train
from fedmodel.models import tiny
from fedmodel.seeds import Seed
from fedmodel.training import guards
from fedmodel.training.learner import Learner

tf: Any = transformers  # its configurations take arguments that its types don't know
METHODS = ["head", "lora", "ffa", "full"]
CPU = torch.device("cpu")
MODEL = Model(labels=("a", "b", "c"), max_length=16)


def everything(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.module.state_dict().items()}


def assert_same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("method", METHODS)
def test_it_passes_once_and_leaves_the_weights_bit_for_bit(
    method: str,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = learner_of(method)
    learner.load_vector(start_of(learner))
    before = everything(learner)
    guards.preflight(learner, examples_of(learner))
    assert learner.preflight_passed
    assert_same(before, everything(learner))
    assert all(p.grad is None for p in learner.module.parameters())

    def refuse(*_: Any) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(guards, "_batched", refuse)
    guards.preflight(learner, examples_of(learner))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_passes_in_bf16(method: str, learner_of: Any, examples_of: Any) -> None:
    learner = learner_of(method, "bf16")
    guards.preflight(learner, examples_of(learner))
    assert learner.preflight_passed


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_dropout_is_no_reason_to_refuse(pooling: Any, examples_of: Any) -> None:
    model = Model(labels=("a", "b", "c"), max_length=16, dropout=0.2, pooling=pooling)
    learner = Learner(model, Train(method="lora"), Seed(0), CPU)
    guards.preflight(learner, examples_of(learner))
    assert learner.preflight_passed


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_mixes_its_examples_is_refused(
    method: str, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(method)
    examples, before, honest = examples_of(learner), everything(learner), learner.logits

    def mixing(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = honest(batch)
        return logits - 0.5 * logits.mean(dim=0)

    monkeypatch.setattr(learner, "logits", mixing)
    with pytest.raises(PrivacyError, match="is wrong for this model"):
        guards.preflight(learner, examples)
    assert not learner.preflight_passed
    assert_same(before, everything(learner))


def test_a_mixing_layer_inside_the_network_is_refused(
    learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("lora")
    body = models.unwrap(learner.module)
    layer: Any = body.get_submodule("encoder.encoder.layer.0.output")
    honest = layer.forward
    monkeypatch.setattr(
        layer, "forward", lambda *a: (lambda x: x - 0.5 * x.mean(0, keepdim=True))(honest(*a))
    )
    with pytest.raises(PrivacyError, match="is wrong for this model"):
        guards.preflight(learner, examples_of(learner))


def test_a_shared_weight_that_the_hooks_see_only_once_is_refused(
    learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("head")
    head, honest = learner.head, learner.logits

    def tied(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return honest(batch) + linear(batch["features"].square(), head.linear.weight)  # type: ignore[no-any-return]

    monkeypatch.setattr(learner, "logits", tied)
    with pytest.raises(PrivacyError, match=r"'classifier\.weight' is wrong"):
        guards.preflight(learner, examples_of(learner))


def test_a_trainable_parameter_without_a_gradient_row_is_refused(examples_of: Any) -> None:
    learner = Learner(MODEL, Train(method="head"), Seed(0), CPU)
    body = models.unwrap(learner.module)
    body.get_submodule("encoder.embeddings.LayerNorm").requires_grad_(True)
    learner.layout = models.Layout.of(learner.module)
    with pytest.raises(PrivacyError, match=r"LayerNorm.* has no gradient row for each example"):
        guards.preflight(learner, examples_of(learner))
    assert not learner.preflight_passed


def test_a_loose_parameter_is_refused(examples_of: Any) -> None:
    learner = Learner(MODEL, Train(method="full"), Seed(0), CPU)
    net: Any = learner.module
    net.register_parameter("scale", nn.Parameter(torch.ones(3)))
    learner.layout, honest = models.Layout.of(net), net.forward
    net.forward = lambda **k: SimpleNamespace(logits=honest(**k).logits * net.scale)
    with pytest.raises(PrivacyError):
        guards.preflight(learner, examples_of(learner))


@pytest.fixture(scope="module")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small random checkpoint of DeBERTa-v2."""
    folder = tmp_path_factory.mktemp("deberta")
    words = list(tiny.vocabulary())[:300]
    config = tf.DebertaV2Config(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.2,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        tf.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer: Any = tf.BertTokenizer(vocab={w: i for i, w in enumerate(words)})
    tokenizer.save_pretrained(folder)
    return folder


def _deberta(folder: Path, targets: tuple[str, ...]) -> Learner:
    model = Model(labels=MODEL.labels, max_length=16, source="hub", path=str(folder))
    train = Train(method="lora", lora=Lora(target_modules=targets))
    return Learner(model, train, Seed(0), CPU)


def test_debertas_silently_wrong_gradients_are_refused(deberta: Path, examples_of: Any) -> None:
    learner = _deberta(deberta, ("query_proj", "key_proj"))
    before = everything(learner)
    with pytest.raises(PrivacyError):
        guards.preflight(learner, examples_of(learner))
    assert_same(before, everything(learner))


def test_debertas_value_passes(deberta: Path, examples_of: Any) -> None:
    guards.preflight(learner := _deberta(deberta, ("value_proj",)), examples_of(learner))
    assert learner.preflight_passed


@pytest.mark.parametrize("count", [1, 2, 14])
def test_it_needs_only_the_rows_there_are(count: int, learner_of: Any, examples_of: Any) -> None:
    learner = learner_of("head")
    guards.preflight(learner, examples_of(learner, count))
    assert learner.preflight_passed == (count > 1)  # one row can't vouch for other sites


def test_batch_statistics_are_refused_even_in_a_frozen_layer(
    learner_of: Any, examples_of: Any
) -> None:
    learner = learner_of("lora")
    examples = examples_of(learner)
    learner.module.add_module("norm", torch.nn.BatchNorm1d(3))
    for parameter in learner.module.get_submodule("norm").parameters():
        parameter.requires_grad_(False)
    try:
        with pytest.raises(PrivacyError, match="statistics of the batch"):
            guards.preflight(learner, examples)
    finally:
        del learner.module.norm


def test_it_compares_texts_of_different_lengths(learner_of: Any, examples_of: Any) -> None:
    examples = examples_of(learner_of("head"))
    rows = guards._pick(examples)
    assert set(examples.lengths[rows]) >= {examples.lengths.min(), examples.lengths.max()}
    assert len(np.unique(rows)) == len(rows) == 3
