"""Classes by name: a head in a checkpoint answers for the class that it was trained for."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from fedmodel import job
from fedmodel.errors import ModelError
from fedmodel.models import attach, export, load, load_tokenizer
from fedmodel.models.classes import names_of, output_of, select
from fedmodel.seeds import Seed
from fedmodel.tasks import in_order
from tests.checkpoints import write_checkpoint
from tests.fedmodel.models.conftest import CONFIGS

tf: Any = transformers
DIGITS = tuple(str(i) for i in range(12))


def published(folder: Path, kind: str, names: tuple[str, ...], max_length: int = 64) -> Path:
    """Write a classifier with classes of these names, as somebody may have published it."""
    config = CONFIGS[kind]()
    config.id2label = dict(enumerate(names))
    config.pad_token_id = config.decoder_start_token_id = 0

    def scatter(net: nn.Module) -> None:
        for name, module in net.named_modules():
            if isinstance(module, nn.Linear) and module.out_features == len(names):
                nn.init.normal_(module.weight)
                assert name

    return write_checkpoint(folder, config, "AutoModelForSequenceClassification", 11, scatter)


def answers(net: Any) -> dict[str, list[float]]:
    """Return each class's logits for two made-up texts, by its name."""
    ids = torch.arange(5, 25).reshape(2, 10)
    if net.config.model_type == "t5":
        ids[:, -1] = net.config.eos_token_id
    with torch.no_grad():
        logits = net.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return {net.config.id2label[i]: logits[:, i].tolist() for i in range(logits.shape[1])}


def model(folder: Path, labels: tuple[str, ...], **more: Any) -> job.Model:
    values: dict[str, Any] = {"pooling": "cls", "max_length": 64} | more
    return job.Model(source="hub", path=str(folder), labels=labels, **values)


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_a_published_head_is_matched_by_name(kind: str, tmp_path: Path) -> None:
    names = ("beta", "alpha", "gamma")
    folder = published(tmp_path / kind, kind, names)
    plain = answers(tf.AutoModelForSequenceClassification.from_pretrained(folder))
    assert list(plain) == list(names)
    for labels in (in_order(names), ("gamma", "beta")):
        found = answers(load(model(folder, labels), Seed(0)))
        assert list(found) == list(labels)
        for name in labels:
            assert found[name] == pytest.approx(plain[name], abs=1e-5)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("beta", "alpha"), ("alpha", "delta")),  # as many, but others
        (("beta", "alpha"), ("a", "b", "c")),
        (("LABEL_0", "LABEL_1"), ("alpha", "beta")),  # nobody has named them
        (("same", "alpha"), ("Alpha", "same")),
    ],
)
def test_a_head_of_other_classes_is_made_new_and_that_is_said(
    names: tuple[str, ...], labels: tuple[str, ...], tmp_path: Path, caplog: Any
) -> None:
    folder = published(tmp_path / "bert", "bert", names)
    old = tf.AutoModelForSequenceClassification.from_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        net: Any = load(model(folder, labels), Seed(0))
    assert "isn't kept" in caplog.text
    assert repr(labels[1]) in caplog.text
    assert net.classifier.weight.shape[0] == len(labels)
    new, kept = net.classifier.weight.flatten(), old.classifier.weight.flatten()
    assert not torch.isin(new, kept).any()
    again: Any = load(model(folder, labels), Seed(0))
    assert torch.equal(net.classifier.weight, again.classifier.weight)
    assert net.config.id2label == dict(enumerate(labels))


def test_classes_that_have_no_name_are_the_integers(tmp_path: Path) -> None:
    folder = published(tmp_path / "bert", "bert", ("LABEL_0", "LABEL_1", "LABEL_2"))
    plain = answers(tf.AutoModelForSequenceClassification.from_pretrained(folder))
    found = answers(load(model(folder, ("0", "1", "2")), Seed(0)))
    for number in range(3):
        assert found[str(number)] == pytest.approx(plain[f"LABEL_{number}"], abs=1e-5)


@pytest.mark.long
def test_classes_that_are_called_label_0_keep_their_name(tmp_path: Path, caplog: Any) -> None:
    """So are they in data that a pipeline has labelled, and in what was trained on them."""
    names = ("LABEL_0", "LABEL_1", "LABEL_2")
    folder = published(tmp_path / "bert", "bert", names)
    plain = answers(tf.AutoModelForSequenceClassification.from_pretrained(folder))
    own = model(folder, names)
    net: Any = load(own, Seed(0))
    assert answers(net) == {name: pytest.approx(row, abs=1e-5) for name, row in plain.items()}
    export(net, load_tokenizer(own), tmp_path / "m", form="merged", card="")
    again = answers(load(model(tmp_path / "m", ("LABEL_2", "LABEL_0")), Seed(0)))
    assert again == {n: pytest.approx(plain[n], abs=1e-5) for n in ("LABEL_2", "LABEL_0")}
    assert "isn't kept" not in caplog.text


def test_a_body_without_a_head_says_nothing(model_of: Any, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        load(model_of("bert", "cls", labels=("a", "b")), Seed(0))
    assert caplog.text == ""


def test_a_head_that_mean_pooling_leaves_out_is_told(tmp_path: Path, caplog: Any) -> None:
    folder = published(tmp_path / "bert", "bert", ("a", "b"))
    with caplog.at_level(logging.WARNING):
        load(model(folder, ("a", "b"), pooling="mean"), Seed(0))
    assert "model.pooling=cls keeps it" in caplog.text


@pytest.mark.parametrize("id2label", [{0: "x", 1: "x"}, {0: "x", 2: "y"}, {}, None])
def test_names_that_tell_no_classes_apart_are_none(id2label: Any) -> None:
    config = tf.BertConfig()
    config.__dict__["id2label"] = id2label
    assert names_of(config) is None


def test_names_are_read_in_the_order_of_their_numbers() -> None:
    config = tf.BertConfig(id2label={str(i): f"c{i}" for i in in_order(DIGITS)[::-1]})
    assert names_of(config) == tuple(f"c{i}" for i in range(12))


def test_a_head_that_cannot_be_reordered_is_refused(tmp_path: Path) -> None:
    folder = published(tmp_path / "bert", "bert", ("b", "a"))
    net: Any = tf.AutoModelForSequenceClassification.from_pretrained(folder)
    forward = net.forward

    def scaled(**inputs: Any) -> Any:  # something behind the last layer that knows its classes
        out = forward(**inputs)
        out.logits = out.logits * torch.tensor([1.0, 2.0])
        return out

    net.forward = scaled
    with pytest.raises(ModelError, match=r"can't be taken over.*'b', 'a'.*'a', 'b'"):
        select(net, ("b", "a"), ("a", "b"))
    assert output_of(net, 2) is not None
    assert output_of(net, 7) is None


# -- own exports -----------------------------------------------------------------------------------


def trained(asked: job.Model, to: Path, *, code: bool) -> dict[str, list[float]]:
    """Export a network with a head that answers something, and return its answers."""
    net: Any = load(asked, Seed(0))
    attach(net, job.Train(method="head"), Seed(0))
    made = torch.Generator().manual_seed(5)
    found = output_of(net, len(asked.labels))
    assert found is not None
    with torch.no_grad():
        found[1].weight.copy_(torch.randn(found[1].weight.shape, generator=made))
    export(net, load_tokenizer(asked), to, form="merged", card="# card\n")
    assert (to / "modeling_fedmodel.py").exists() == code
    return answers(net)


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("order", [DIGITS, DIGITS[::-1], tuple(sorted(DIGITS)), DIGITS[3:9]])
def test_an_own_export_of_many_classes_keeps_its_head(
    pooling: Any, order: tuple[str, ...], tmp_path: Path, model_of: Any, caplog: Any
) -> None:
    before = trained(
        model_of("bert", pooling, labels=DIGITS), tmp_path / "first", code=pooling == "mean"
    )
    with caplog.at_level(logging.WARNING):
        found = answers(load(model(tmp_path / "first", order, pooling=pooling), Seed(0)))
    assert list(found) == list(order)
    for name in order:
        assert found[name] == pytest.approx(before[name], abs=1e-5)
    assert caplog.text == ""


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normalize": False}, r"asks for \(model\.normalize=false\); set model\.normalize=true"),
        ({"head_bias": True}, r"set model\.head_bias=false"),
        ({"max_length": 32}, r"model\.max_length=32\); set model\.max_length=64"),
        ({"max_length": 32, "normalize": False}, r"set model\.max_length=64 model\.normalize=true"),
        ({"pooling": "cls"}, r"use model\.pooling=mean"),
    ],
)
def test_what_an_own_exports_features_depend_on_is_not_ignored(
    change: dict[str, Any], says: str, tmp_path: Path, model_of: Any
) -> None:
    trained(model_of("bert", labels=("a", "b")), tmp_path / "first", code=True)
    same = model(tmp_path / "first", ("a", "b"), pooling="mean")
    load(same, Seed(0))
    with pytest.raises(ModelError, match=says):
        load(replace(same, **change), Seed(0))
    if "pooling" not in change:  # with other classes the head is new, and reads what it is given
        load(replace(same, labels=("c", "d"), **change), Seed(0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"max_length": 32}, r"model\.max_length=32\); set model\.max_length=64"),
        ({"pooling": "mean"}, r"exported with model\.pooling=cls"),
    ],
)
def test_nor_with_the_architectures_own_head(
    change: dict[str, Any], says: str, tmp_path: Path, model_of: Any
) -> None:
    trained(model_of("bert", "cls", labels=("a", "b")), tmp_path / "first", code=False)
    same = model(tmp_path / "first", ("a", "b"))
    load(same, Seed(0))
    with pytest.raises(ModelError, match=says):
        load(replace(same, **change), Seed(0))


@pytest.mark.long
def test_an_export_of_0_1_0_says_by_its_tokenizer_how_much_it_reads(
    tmp_path: Path, model_of: Any
) -> None:
    import json

    trained(model_of("bert", labels=("a", "b")), tmp_path / "first", code=True)
    path = tmp_path / "first" / "config.json"
    values = json.loads(path.read_text())
    del values["fedmodel_max_length"]
    path.write_text(json.dumps(values))
    same = model(tmp_path / "first", ("a", "b"), pooling="mean")
    load(same, Seed(0))
    with pytest.raises(ModelError, match=r"set model\.max_length=64"):
        load(replace(same, max_length=16), Seed(0))
