"""The preflight passes where per-example gradients are right, and only there."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from fedmodel import models
from fedmodel.errors import PrivacyError
from fedmodel.gradients import engines
from fedmodel.gradients.fastclip import FastClip, layers
from fedmodel.job import Model, Performance, Train
from fedmodel.seeds import Seed
from fedmodel.training import preflight
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner

METHODS = ["head", "lora", "ffa", "full"]
ENGINES: list[Any] = ["fast", "hooks"]
CPU = torch.device("cpu")
MODEL = Model(labels=("a", "b", "c"), max_length=16)
APART = "a row's loss changes when another row of the batch does"


def everything(learner: Learner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.module.state_dict().items()}


def assert_same(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# -- it passes -----------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_it_passes_once_and_leaves_the_weights_bit_for_bit(
    method: str,
    engine: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = learner_of(method)
    learner.load_vector(start_of(learner))
    before = everything(learner)
    preflight.preflight(learner, examples_of(learner), Performance(engine=engine))
    assert learner.preflights_passed == {(engine, False)}
    assert_same(before, everything(learner))
    for p in learner.module.parameters():
        assert p.grad is None
        assert getattr(p, "summed_grad", None) is None

    def refuse(*_: Any) -> None:
        raise AssertionError("ran again")

    monkeypatch.setattr(preflight, "_check", refuse)
    preflight.preflight(learner, examples_of(learner), Performance(engine=engine))
    another = ENGINES[ENGINES.index(engine) - 1]
    with pytest.raises(AssertionError, match="ran again"):
        preflight.preflight(learner, examples_of(learner), Performance(engine=another))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "full"])
def test_it_passes_in_bf16_and_looks_in_float32_too(
    method: str, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, seen = learner_of(method, "bf16"), []
    real = preflight._check

    def watched(*args: Any) -> None:
        seen.append(learner.precision)
        real(*args)

    monkeypatch.setattr(preflight, "_check", watched)
    preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))
    assert seen == ["float32", "bf16"]
    assert learner.precision == "bf16"


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("engine", ENGINES)
def test_dropout_is_no_reason_to_refuse(pooling: Any, engine: Any, examples_of: Any) -> None:
    model = Model(labels=("a", "b", "c"), max_length=16, dropout=0.2, pooling=pooling)
    learner = Learner(model, Train(method="lora"), Seed(0), CPU)
    preflight.preflight(learner, examples_of(learner), Performance(engine=engine))
    assert learner.preflights_passed == {(engine, False)}


@pytest.mark.slow
@pytest.mark.long
def test_gradient_checkpointing_passes(examples_of: Any) -> None:
    methods: tuple[Any, ...] = ("lora", "full")
    for method in methods:
        learner = Learner(MODEL, Train(method=method), Seed(0), CPU, checkpointing=True)
        preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))
        assert learner.preflights_passed


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2, 14])
def test_it_needs_only_the_rows_there_are(count: int, learner_of: Any, examples_of: Any) -> None:
    learner = learner_of("head")
    preflight.preflight(learner, examples_of(learner, count), Performance(engine="fast"))
    assert bool(learner.preflights_passed) == (count > 1)  # one row can't vouch for other sites


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("engine", ["fast", "hooks"])
def test_patients_are_checked_as_patients(
    engine: Any, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, seen = learner_of("lora"), []
    real = preflight._compare_all

    def watched(*args: Any) -> None:
        seen.append(args[3].unit.tolist())
        real(*args)

    monkeypatch.setattr(preflight, "_compare_all", watched)
    preflight.preflight(learner, examples_of(learner, patients=True), Performance(engine=engine))
    assert seen == [[0, 1, 2], [0, 1, 1], [0, 1, 2]]


# -- the rows it takes ---------------------------------------------------------------------------


def test_it_compares_texts_of_different_lengths(learner_of: Any, examples_of: Any) -> None:
    examples = examples_of(learner_of("head"))
    rows = preflight._pick(examples)
    assert set(examples.lengths[rows]) >= {examples.lengths.min(), examples.lengths.max()}
    assert len(np.unique(rows)) == len(rows) == 3


@pytest.mark.parametrize("lengths", [[3, 2, 3, 1], [2, 2], [1, 2], [2, 1], [3, 3, 3], [9, 9], [1]])
def test_the_longest_row_is_never_as_long_as_there_are_rows(lengths: list[int]) -> None:
    examples: Any = SimpleNamespace(lengths=np.array(lengths))
    rows = preflight._pick(examples)
    assert len(rows) >= 1
    assert len(rows) != max(lengths) or len(rows) == 1


# -- it refuses ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_mixes_its_examples_is_refused(
    method: str, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(method)
    examples, before, honest = examples_of(learner), everything(learner), learner.logits

    def mixing(batch: dict[str, Tensor]) -> Tensor:
        logits: Tensor = honest(batch)
        return logits - 0.5 * logits.mean(dim=0)

    monkeypatch.setattr(learner, "logits", mixing)
    with pytest.raises(PrivacyError, match=APART):
        preflight.preflight(learner, examples, Performance(engine="fast"))
    assert not learner.preflights_passed
    assert_same(before, everything(learner))


def test_a_network_whose_gradients_alone_mix_is_refused(
    learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("head")
    honest = learner.logits

    def mixing(batch: dict[str, Tensor]) -> Tensor:
        logits: Tensor = honest(batch)
        return logits + (logits - logits.detach()).mean(dim=0)  # the losses stay as they are

    monkeypatch.setattr(learner, "logits", mixing)
    with pytest.raises(PrivacyError, match="the per-example gradient of 'classifier"):
        preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))


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
    with pytest.raises(PrivacyError, match=APART):
        preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_weight_that_is_also_used_outside_its_layer_is_refused(
    engine: Any, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("head")
    head, honest = learner.head, learner.logits

    def tied(batch: dict[str, Tensor]) -> Tensor:
        return honest(batch) + linear(batch["features"].square(), head.linear.weight)  # type: ignore[no-any-return]

    monkeypatch.setattr(learner, "logits", tied)
    message = {
        "fast": "'weight' is used outside the layer",
        "hooks": r"'classifier\.weight' is wrong for this model",
    }
    with pytest.raises(PrivacyError, match=message[engine]):
        preflight.preflight(learner, examples_of(learner), Performance(engine=engine))


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
def test_a_parameter_that_nothing_takes_through_a_layer_is_refused(
    engine: Any, examples_of: Any
) -> None:
    learner = Learner(MODEL, Train(method="full"), Seed(0), CPU)
    net: Any = learner.module
    net.register_parameter("scale", nn.Parameter(torch.ones(3)))
    learner.layout, honest = models.Layout.of(net), net.forward
    net.forward = lambda **k: SimpleNamespace(logits=honest(**k).logits * net.scale)
    learner.initial = learner.flatten()
    if engine == "fast":  # has a copy of it for every row, and so gets it right
        preflight.preflight(learner, examples_of(learner), Performance(engine=engine))
    else:
        with pytest.raises(PrivacyError):
            preflight.preflight(learner, examples_of(learner), Performance(engine=engine))


def test_batch_statistics_are_refused_even_in_a_frozen_layer(
    learner_of: Any, examples_of: Any
) -> None:
    learner = learner_of("lora")
    examples = examples_of(learner)
    learner.module.add_module("norm", torch.nn.BatchNorm1d(3).requires_grad_(False))
    try:
        with pytest.raises(PrivacyError, match="'norm' keeps statistics of the batch"):
            preflight.preflight(learner, examples, Performance(engine="fast"))
    finally:
        del learner.module.norm


def test_trainable_batch_statistics_are_refused_by_every_engine() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    for name in ("hooks",):
        with (
            pytest.raises(PrivacyError, match=r"can't clip '1' per example.*running statistics"),
            engines.make_engine(name, net).attached(),
        ):
            pass
    engine = FastClip(net)
    with engine.attached():
        engine.begin(4)
        with pytest.raises(PrivacyError, match=r"'1' \(BatchNorm1d\) can't be clipped"):
            net(torch.rand(4, 2))


@pytest.mark.parametrize("factor", [0.99, 1.02])
def test_norms_that_are_wrong_are_refused(
    factor: float, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too small lets rows past the bound, too large trains less than was agreed.
    real = FastClip.squares
    monkeypatch.setattr(
        FastClip, "squares", lambda self: {p: factor**2 * s for p, s in real(self).items()}
    )
    learner = learner_of("lora")
    with pytest.raises(PrivacyError, match="the norm of a row's gradient is wrong"):
        preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))


def test_one_parameter_that_is_wrong_is_named(
    learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("full")
    wrong = dict(learner.module.named_parameters())["encoder.encoder.layer.1.output.dense.weight"]
    real = layers._note_outer

    def bad(engine: Any, weight: Any, left: Tensor, right: Tensor) -> None:
        real(engine, weight, left * (1.003 if weight is wrong else 1), right)

    monkeypatch.setattr(layers, "_note_outer", bad)
    with pytest.raises(PrivacyError, match=r"'encoder\.encoder\.layer\.1\.output\.dense\.weight'"):
        preflight.preflight(learner, examples_of(learner), Performance(engine="fast"))


@pytest.mark.long
def test_what_fails_only_in_training_is_refused_before_it(
    examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As vmap does at dropout: while gradients are compared, dropout is off.
    model = Model(labels=("a", "b", "c"), max_length=16, dropout=0.2)
    learner = Learner(model, Train(method="full"), Seed(0), CPU)
    examples = examples_of(learner)

    def refuse(self: nn.Dropout, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("randomness")
        return x

    monkeypatch.setattr(nn.Dropout, "forward", refuse)
    with pytest.raises(PrivacyError, match=r"per-example gradients fail for this model"):
        preflight.preflight(learner, examples, Performance(engine="fast"))
    assert not learner.preflights_passed


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("engine", ["hooks"])
def test_a_failed_try_leaves_nothing_behind(
    engine: Any, learner_of: Any, examples_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("lora")
    examples = examples_of(learner)
    own = [set(m.__dict__) for m in learner.module.modules()]
    with monkeypatch.context() as patch:
        patch.setattr(preflight, "_compare", lambda *_: (_ for _ in ()).throw(PrivacyError("x")))
        with pytest.raises(PrivacyError):
            preflight.preflight(learner, examples, Performance(engine=engine))
    assert [set(m.__dict__) for m in learner.module.modules()] == own
    preflight.preflight(learner, examples, Performance(engine=engine))


@pytest.mark.long
def test_prepare_with_one_length_only_still_compares(learner_of: Any) -> None:
    learner = learner_of("lora")
    texts = ["no acute distress"] * 3
    examples = prepare(learner, texts, ["a", "b", "c"], ("a", "b", "c"), 16)
    preflight.preflight(learner, examples, Performance(engine="fast"))
    assert learner.preflights_passed
