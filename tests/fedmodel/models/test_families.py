"""Every supported architecture: what trains, padding, gradients, exact features of the head."""

from typing import Any

import pytest
import torch
from torch import nn

from fedmodel import job
from fedmodel.errors import ModelError
from fedmodel.models import (
    attach,
    family,
    head_names,
    head_only,
    load,
    parameter_groups,
    unwrap,
    with_positions,
)
from fedmodel.seeds import Seed

FAMILIES = [
    "bert",
    "electra",
    "distilbert",
    "roberta",
    "mpnet",
    "gpt2",
    "llama",
    "modernbert",
    "deberta-v2",
]
CASES = [(k, p) for k in FAMILIES for p in ("mean", "cls")] + [("t5", "mean")]


def _trained(model: nn.Module) -> None:
    """Give what starts at zero (head, B) random values, as training would."""
    made = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and ("lora" in name or not p.any()):
                p.copy_(torch.randn(p.shape, generator=made) * 0.3)


def _pad(net: Any) -> int:
    return int(getattr(net.config, "encoder", net.config).pad_token_id)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(("kind", "pooling"), CASES)
def test_methods(kind: str, pooling: str, model_of: Any, batch_of: Any) -> None:
    model = model_of(kind, pooling)
    for method in ("lora", "ffa", "full", "head"):
        net = load(model, Seed(1))
        heads = head_names(net)
        assert "classifier" in heads or heads == ("score",)
        batch = batch_of([9, 4, 6], pad=_pad(net))
        wrapped = attach(net, job.Train(method=method), Seed(2))
        assert family(wrapped) == kind
        _check_trainable(wrapped, method, heads)
        _trained(wrapped)
        _check_padding(wrapped, batch)
        _check_gradients(wrapped, batch, method)


def _check_trainable(net: Any, method: str, heads: tuple[str, ...]) -> None:
    inner = unwrap(net)
    for name, p in inner.named_parameters():
        if name.split(".")[0] in heads:
            expected = "original_module" not in name
        else:
            expected = (
                method == "full" or "lora_B" in name or ("lora_A" in name and method == "lora")
            )
        assert p.requires_grad == expected, name
    if method in ("lora", "ffa"):
        assert any("lora_B" in n for n, _ in inner.named_parameters())
    head, body = parameter_groups(net)
    ids = [id(p) for p in (*head, *body)]
    assert sorted(ids) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    assert head
    assert (body == []) == (method == "head")


def _check_padding(net: Any, batch: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        together = net(**batch).logits
        placed = net(**with_positions(net, batch)).logits
        lengths = batch["attention_mask"].sum(1).tolist()
        alone = torch.cat([
            net(**{k: v[i : i + 1, :n] for k, v in batch.items()}).logits
            for i, n in enumerate(lengths)
        ])  # fmt: skip
    assert together.shape == (3, 3)
    assert together.std() > 1e-4
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together, placed, rtol=1e-5, atol=1e-5)


def _check_gradients(net: Any, batch: dict[str, torch.Tensor], method: str) -> None:
    net.train()
    labels = torch.tensor([0, 1, 2])
    net(**batch, labels=labels).loss.backward()
    for name, p in net.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, name
            # With everything trainable some are zero by symmetry (a key's bias).
            assert p.grad.any() or method == "full", name
        else:
            assert p.grad is None, name


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize(("kind", "pooling"), CASES)
def test_head_only_is_exact(kind: str, pooling: str, model_of: Any, batch_of: Any) -> None:
    net = load(model_of(kind, pooling, dropout=0.5), Seed(1))
    assert head_only(net) is None  # nothing is frozen yet
    attach(net, job.Train(method="head"), Seed(2))
    _trained(net)
    view = head_only(net)
    several = pooling == "cls" and kind in {
        "electra", "distilbert", "roberta", "mpnet", "modernbert", "deberta-v2",
    }  # fmt: skip
    assert (view is None) == several
    if view is None:
        return
    batch = batch_of([9, 4, 6], pad=_pad(net))
    with torch.no_grad():
        expected = net(**batch).logits
    net.train()
    features = view.features({**batch, "labels": torch.tensor([0, 1, 2])})
    assert net.training
    assert features.dtype == torch.float32
    assert features.shape == (3, 32)
    assert not features.requires_grad
    torch.testing.assert_close(view.logits(features), expected, rtol=1e-6, atol=1e-6)
    assert view.logits(features).requires_grad


def test_head_only_refuses_adapters(model_of: Any) -> None:
    net = load(model_of("bert"), Seed(1))
    assert head_only(attach(net, job.Train(method="lora"), Seed(1))) is None


@pytest.mark.long
@pytest.mark.parametrize("method", ["lora", "ffa"])
def test_lora_is_seeded(method: str, model_of: Any) -> None:
    def made(seed: int) -> dict[str, torch.Tensor]:
        net = attach(load(model_of("bert"), Seed(1)), job.Train(method=method), Seed(seed))  # type: ignore[arg-type]
        return {n: p.detach() for n, p in net.named_parameters() if "lora_" in n}

    before = torch.random.get_rng_state()
    one, two, other = made(1), made(1), made(2)
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in one.items():
        assert torch.equal(value, two[name])
        assert torch.equal(value, other[name]) == ("lora_B" in name)
        assert value.any() == ("lora_A" in name)


def test_lora_layers_and_targets(model_of: Any) -> None:
    lora = job.Lora(rank=3, alpha=6, target_modules=("key", "output.dense"), layers=(1,))
    net = attach(load(model_of("bert"), Seed(1)), job.Train(method="lora", lora=lora), Seed(1))
    names = [n for n, _ in net.named_parameters() if "lora_A" in n]
    assert len(names) == 3
    assert all(".layer.1." in n for n in names)


def test_lora_leaves_the_head_whole(model_of: Any) -> None:
    lora = job.Lora(target_modules=("dense",))  # RoBERTa's head has a `dense` of its own
    train = job.Train(method="lora", lora=lora)
    net = attach(load(model_of("roberta", "cls"), Seed(1)), train, Seed(1))
    assert not [n for n, _ in net.named_parameters() if "lora" in n and ".classifier." in n]
    assert [n for n, p in net.named_parameters() if p.requires_grad and "classifier" in n]


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (job.Lora(target_modules=("qery",)), "did you mean 'query'"),
        (job.Lora(layers=(2,)), "layers of 0 to 1"),
    ],
)
def test_lora_mistakes(lora: job.Lora, message: str, model_of: Any) -> None:
    net = load(model_of("bert"), Seed(1))
    with pytest.raises(ModelError, match=message):
        attach(net, job.Train(method="lora", lora=lora), Seed(1))


def test_lora_needs_targets_for_unknown_families(
    model_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(__import__("fedmodel.models.families").models.families.TARGETS, "bert")
    net = load(model_of("bert"), Seed(1))
    with pytest.raises(ModelError, match=r"train\.lora\.target_modules=.*dense, key, query, value"):
        attach(net, job.Train(method="lora"), Seed(1))


def test_full_freezes_an_unused_pooler(model_of: Any) -> None:
    net: Any = load(model_of("bert"), Seed(1))
    net.encoder.pooler = nn.Linear(32, 32)
    attach(net, job.Train(method="full"), Seed(1))
    frozen = [n for n, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["encoder.pooler.weight", "encoder.pooler.bias"]


@pytest.mark.parametrize(
    ("method", "frozen", "named"),
    [
        ("full", "classifier", "classifier"),
        ("lora", "classifier", "classifier"),
        ("lora", "lora_B", "query.lora_B"),
    ],
)
def test_zeros_that_are_frozen_are_refused(
    method: Any, frozen: str, named: str, model_of: Any
) -> None:
    """The whole ε was spent on a model that always gave every class the same."""
    train = job.Train(method=method, frozen=(frozen,))
    with pytest.raises(ModelError, match=rf"'[\w.]*{named}[\w.]*' starts at zero"):
        attach(load(model_of("bert"), Seed(1)), train, Seed(1))


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["full", "lora", "ffa"])
def test_zeros_that_have_a_rate_of_0_are_refused(method: Any, model_of: Any) -> None:
    """It was as if they were frozen."""
    train = job.Train(method=method, lr=1.0, head_lr=0.0)
    with pytest.raises(ModelError, match=r"train\.head_lr=0: '[\w.]*classifier[\w.]*' starts at"):
        attach(load(model_of("bert"), Seed(1)), train, Seed(1))
    attach(load(model_of("bert", "cls"), Seed(1)), train, Seed(1))  # that head starts elsewhere
    frozen = job.Train(method=method, lr=0.0, frozen=("classifier",))
    with pytest.raises(ModelError, match=r"nothing would be learned with train\.lr=0"):
        attach(load(model_of("bert", "cls"), Seed(1)), frozen, Seed(1))
    attach(load(model_of("bert"), Seed(1)), job.Train(method=method, lr=0.0), Seed(1))


@pytest.mark.long
def test_what_can_be_frozen_still_can(model_of: Any) -> None:
    def trained(pooling: str, method: Any, *frozen: str) -> set[str]:
        net = load(model_of("bert", pooling), Seed(1))
        made = attach(net, job.Train(method=method, frozen=frozen), Seed(1))
        return {name for name, p in made.named_parameters() if p.requires_grad}

    assert not any("classifier" in name for name in trained("cls", "full", "classifier"))
    only_head = trained("mean", "lora", "query", "value")  # adapters whole, as good as none
    assert {name.split(".")[-1] for name in only_head} == {"weight"}
    assert not any("lora" in name for name in only_head)
    assert any("lora_B" in name for name in trained("mean", "lora", "lora_A"))


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "roberta", "electra"])
@pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning")
def test_positions_make_per_record_gradients_right(
    kind: str, pooling: str, model_of: Any, batch_of: Any
) -> None:
    opacus = pytest.importorskip("opacus")
    net: Any = load(model_of(kind, pooling), Seed(1))
    attach(net, job.Train(method="full"), Seed(1))
    _trained(net)
    batch = batch_of([7, 4, 5, 7], pad=_pad(net))
    labels = torch.tensor([0, 1, 2, 0])
    single = []
    for i in range(4):
        net.zero_grad()
        row = {k: v[i : i + 1] for k, v in batch.items()}
        loss: Any = nn.functional.cross_entropy(net(**row).logits, labels[i : i + 1])
        loss.backward()
        single.append({n: p.grad.clone() for n, p in net.named_parameters() if p.requires_grad})
    net.zero_grad()
    net.train()
    hooked = opacus.GradSampleModule(net, batch_first=True, loss_reduction="sum")
    logits = hooked(**with_positions(net, batch)).logits
    total: Any = nn.functional.cross_entropy(logits, labels, reduction="sum")
    total.backward()
    for name, p in net.named_parameters():
        if p.requires_grad:
            assert p.grad_sample.shape[0] == 4, name
            expected = torch.stack([s[name] for s in single])
            torch.testing.assert_close(p.grad_sample, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_positions_only_where_they_help(model_of: Any, batch_of: Any) -> None:
    batch = batch_of([3, 2])
    bert = with_positions(load(model_of("bert"), Seed(1)), batch)
    assert bert["position_ids"].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert "position_ids" not in batch
    assert with_positions(load(model_of("roberta"), Seed(1)), batch) is batch
