"""Every kind of layer: norms and clipped sums against plain autograd, one row at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import pytorch_utils

from fedmodel.errors import PrivacyError
from fedmodel.gradients.fastclip import FastClip, Groups

Conv1D: Any = pytorch_utils.Conv1D
ROWS = 5
UNITS = {"rows": [0, 1, 2, 3, 4], "patients": [1, 0, 1, 2, 1]}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape: int, seed: int = 0, below: int = 11) -> Tensor:
    return torch.randint(0, below, shape, generator=torch.Generator().manual_seed(seed))


class Rms(nn.Module):
    """As transformers' own: a vector that scales, in a class that nobody knows."""

    def __init__(self, width: int, offset: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * normal(width, seed=3))
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)
        return (self.offset + self.weight) * normed


class Patches(nn.Module):
    """As ViT's embeddings: patches, a class token and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(normal(1, 1, 6, seed=1))
        self.positions = nn.Parameter(normal(1, 5, 6, seed=2))
        self.project = nn.Conv2d(3, 6, 4, stride=4)
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.project(x).flatten(2).transpose(1, 2)
        whole = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.positions
        out: Tensor = self.norm(whole)
        return out


class Tied(nn.Module):
    """Embedding and output layer with one weight, and a layer that is called twice."""

    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=padding)
        self.twice = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.twice(torch.tanh(self.twice(self.embed(x))))
        out: Tensor = self.out(hidden)
        return out


class Flattened(nn.Module):
    """Puts the tokens of all rows into one dimension, as OPT does."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm = nn.Linear(6, 4), nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.fc1(x.flatten(0, 1)))
        return out.view(*x.shape[:2], -1)


class LoraLike(nn.Module):
    """Wide layers around a thin one, where a row's own gradient is the cheapest."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(32, 48)
        self.base.requires_grad_(False)
        self.a, self.b = nn.Linear(32, 2, bias=False), nn.Linear(2, 48, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x) + self.b(self.a(x))
        return out


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name, p in module.named_parameters():
        p.requires_grad_(name not in names)
    return module


Case = tuple[Callable[[], nn.Module], Callable[[], Tensor]]
CASES: dict[str, Case] = {
    "linear, 2-D": (lambda: nn.Linear(6, 4), lambda: normal(ROWS, 6)),
    "linear, 3-D": (lambda: nn.Linear(6, 4), lambda: normal(ROWS, 7, 6)),
    "linear, 4-D": (lambda: nn.Linear(6, 4), lambda: normal(ROWS, 3, 2, 6)),
    "linear, one token": (lambda: nn.Linear(6, 4), lambda: normal(ROWS, 1, 6)),
    "linear, as many tokens as rows": (lambda: nn.Linear(6, 4), lambda: normal(ROWS, ROWS, 6)),
    "linear, wide": (lambda: nn.Linear(40, 50), lambda: normal(ROWS, 3, 40)),
    "linear, long": (lambda: nn.Linear(70, 90), lambda: normal(ROWS, 71, 70)),
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), lambda: normal(ROWS, 7, 6)),
    "linear, tokens of all rows in one dimension": (Flattened, lambda: normal(ROWS, 7, 6)),
    "linear, transposed input": (
        lambda: nn.Linear(6, 4),
        lambda: normal(ROWS, 6, 7).transpose(1, 2),
    ),
    "only the bias": (lambda: frozen(nn.Linear(6, 4), "weight"), lambda: normal(ROWS, 7, 6)),
    "only the weight": (lambda: frozen(nn.Linear(6, 4), "bias"), lambda: normal(ROWS, 7, 6)),
    "adapters": (LoraLike, lambda: normal(ROWS, 9, 32)),
    "GPT-2's Conv1D": (lambda: Conv1D(4, 6), lambda: normal(ROWS, 7, 6)),
    "GPT-2's Conv1D, wide": (lambda: Conv1D(50, 40), lambda: normal(ROWS, 3, 40)),
    "only Conv1D's bias": (lambda: frozen(Conv1D(4, 6), "weight"), lambda: normal(ROWS, 7, 6)),
    "patches": (lambda: nn.Conv2d(3, 5, 4, stride=4), lambda: normal(ROWS, 3, 8, 12)),
    "patches without bias": (
        lambda: nn.Conv2d(3, 5, (2, 4), stride=(2, 4), bias=False),
        lambda: normal(ROWS, 3, 8, 12),
    ),
    "convolution": (
        lambda: nn.Conv2d(3, 5, 3, stride=2, padding=(2, 1), dilation=(1, 2)),
        lambda: normal(ROWS, 3, 9, 10),
    ),
    "layer norm": (lambda: nn.LayerNorm(6), lambda: normal(ROWS, 7, 6)),
    "layer norm, 2-D": (lambda: nn.LayerNorm(6), lambda: normal(ROWS, 6)),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), lambda: normal(ROWS, 7, 6)),
    "only layer norm's bias": (
        lambda: frozen(nn.LayerNorm(6), "weight"),
        lambda: normal(ROWS, 7, 6),
    ),
    "only layer norm's weight": (
        lambda: frozen(nn.LayerNorm(6), "bias"),
        lambda: normal(ROWS, 7, 6),
    ),
    "nn.RMSNorm": (lambda: nn.RMSNorm(6, eps=1e-6), lambda: normal(ROWS, 7, 6)),
    "nn.RMSNorm without eps": (lambda: nn.RMSNorm(6), lambda: normal(ROWS, 7, 6)),
    "Llama's RMSNorm": (lambda: Rms(6, 0.0), lambda: normal(ROWS, 7, 6)),
    "Gemma's RMSNorm": (lambda: Rms(6, 1.0), lambda: normal(ROWS, 7, 6)),
    "Qwen's RMSNorm of heads": (lambda: Rms(4, 0.0), lambda: normal(ROWS, 7, 3, 4)),
    "class token and positions": (Patches, lambda: normal(ROWS, 3, 8, 8)),
    "only the class token": (
        lambda: frozen(
            Patches(), "positions", "project.weight", "project.bias", "norm.weight", "norm.bias"
        ),
        lambda: normal(ROWS, 3, 8, 8),
    ),
    "embedding": (lambda: nn.Embedding(11, 6), lambda: ids(ROWS, 7)),
    "embedding, one token": (lambda: nn.Embedding(11, 6), lambda: ids(ROWS)),
    "embedding with a padding row": (
        lambda: nn.Embedding(11, 6, padding_idx=2),
        lambda: ids(ROWS, 30),
    ),
    "tied weights, a layer called twice": (Tied, lambda: ids(ROWS, 7)),
    "tied weights with a padding row": (lambda: Tied(2), lambda: ids(ROWS, 30)),
}


def losses_of(module: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a loss of every row that no symmetry makes flat."""

    def losses(rows: Tensor) -> Tensor:
        out: Tensor = module(x[rows]).flatten(1)
        wave = torch.sin(torch.arange(out.shape[1]) + 1.0)
        return ((out - wave) ** 2).mean(1) * (1.0 + rows)

    return losses


def clipped(
    module: nn.Module, losses: Callable[[Tensor], Tensor], groups: Groups, factors: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    engine = FastClip(module)
    with engine.attached():
        engine.begin(groups.rows)
        engine.backward(losses(torch.arange(groups.rows)), groups)
        squares: Any = sum(engine.squares().values())
        engine.add(factors)
    named: dict[str, Any] = {n: p for n, p in module.named_parameters() if p.requires_grad}
    sums = {n: p.summed_grad for n, p in named.items()}
    for p in named.values():
        p.summed_grad = None
    return squares.sqrt(), sums


@pytest.mark.long
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_norms_and_sums(case: Case, unit: list[int], alone_of: Any, norms_of: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = case[0]()
    losses, groups = losses_of(module, case[1]()), Groups(torch.tensor(unit))
    alone = alone_of(module, losses, groups.unit)
    factors = torch.rand(groups.count, generator=torch.Generator().manual_seed(1))
    norms, sums = clipped(module, losses, groups, factors)
    torch.testing.assert_close(norms, norms_of(alone), rtol=2e-4, atol=0)
    assert (norms >= norms_of(alone) * (1 - 1e-6)).all()
    assert sums.keys() == alone[0].keys()
    for name, found in sums.items():
        pairs = zip(factors, alone, strict=True)
        expected: Any = sum(factor * gradients[name] for factor, gradients in pairs)
        scale = max(float(gradients[name].abs().max()) for gradients in alone)
        assert scale > 0, name
        assert float((found - expected).abs().max()) <= 1e-5 * scale, name


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_layer_computes_what_it_computed(case: Case) -> None:
    module, x = case[0](), case[1]()
    plain = module(x)
    x = x.clone().requires_grad_(x.is_floating_point())
    engine = FastClip(module)
    with engine.attached():
        engine.begin(ROWS)
        noting = module(x)
    torch.testing.assert_close(noting, plain, rtol=1e-6, atol=1e-6)
    assert noting.requires_grad


def test_the_gradient_of_the_input_goes_on() -> None:
    for make, x in CASES.values():
        module = make()
        if not x().is_floating_point():
            continue
        found = []
        for attached in (False, True):
            leaf = x().clone().requires_grad_()
            engine = FastClip(module)
            with engine.attached() if attached else torch.enable_grad():
                engine.begin(ROWS)
                (grad,) = torch.autograd.grad(module(leaf).square().sum(), leaf)
            found.append(grad)
        torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 2, groups=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 4, 2),
        nn.LayerNorm((3, 4)),
        nn.Embedding(5, 4, max_norm=1.0),
        nn.Embedding(5, 4, scale_grad_by_freq=True),
        nn.Embedding(5, 4, sparse=True),
        nn.EmbeddingBag(5, 4),
        nn.Bilinear(4, 4, 4),
        nn.GRU(4, 4),
        nn.MultiheadAttention(4, 2),
    ],
    ids=repr,
)
def test_other_layers_are_refused_by_name_before_training(layer: nn.Module) -> None:
    module = nn.ModuleDict({"body": nn.ModuleDict({"odd": layer})})
    with pytest.raises(PrivacyError, match=rf"'body\.odd.*{type(layer).__name__}.*freeze it"):
        FastClip(module)
    FastClip(module.requires_grad_(False))


def test_a_subclass_with_a_forward_pass_of_its_own_isnt_taken_for_its_parent() -> None:
    class Scaled(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return 3 * super().forward(input)

    with pytest.raises(PrivacyError, match=r"'0' \(Scaled\)"):
        FastClip(nn.Sequential(Scaled(5, 4)))


def test_positions_of_each_row_are_right_and_of_none_refused(alone_of: Any) -> None:
    class Positioned(nn.Module):
        def __init__(self, expand: bool) -> None:
            super().__init__()
            self.word, self.place = nn.Embedding(11, 6), nn.Embedding(7, 6)
            self.expand = expand

        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(x.shape[1]).unsqueeze(0)
            places = places.expand(x.shape) if self.expand else places
            out: Tensor = self.word(x) + self.place(places)
            return out

    module, x = Positioned(expand=True), ids(ROWS, 7)
    losses, groups = losses_of(module, x), Groups.records(ROWS, torch.device("cpu"))
    _, sums = clipped(module, losses, groups, torch.ones(ROWS))
    expected = alone_of(module, losses, torch.zeros(ROWS, dtype=torch.int64))[0]
    for name, value in expected.items():
        torch.testing.assert_close(sums[name].float(), value)

    module = Positioned(expand=False)
    with pytest.raises(PrivacyError, match="'place' works on what belongs to no single"):
        clipped(module, losses_of(module, x), groups, torch.ones(ROWS))


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 6), nn.BatchNorm1d(6)], ids=repr)
def test_a_layer_that_does_more_than_broadcast_is_refused_by_name(layer: nn.Module) -> None:
    engine = FastClip(nn.Sequential(layer))
    with engine.attached():
        engine.begin(ROWS)
        with pytest.raises(PrivacyError, match=rf"'0' \({type(layer).__name__}\)"):
            layer(normal(ROWS, 6, 7))


@pytest.mark.parametrize("layer", [nn.RMSNorm(6), Rms(6, 0.0)], ids=["nn.RMSNorm", "custom"])
def test_a_broadcast_weight_on_what_belongs_to_no_row_is_refused_by_name(layer: nn.Module) -> None:
    module = nn.Sequential(layer)
    engine = FastClip(module)
    with engine.attached():
        engine.begin(ROWS)
        with pytest.raises(PrivacyError, match="'0' works on what belongs to no single row"):
            module(normal(ROWS * 7, 6))
    assert functional.rms_norm(normal(2, 6), [6]).shape == (2, 6)
