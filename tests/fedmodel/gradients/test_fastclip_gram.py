"""Norms from Gram matrices: right for every number of tokens, and never below the true ones."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedmodel.gradients.fastclip.gram import gram, inner
from fedmodel.gradients.fastclip.groups import Groups
from fedmodel.gradients.fastclip.parts import (
    Direct,
    Grams,
    Looked,
    Outer,
    Part,
    Scratch,
    add,
    squares,
)
from tests.examples import examples

KEEP = settings(max_examples=examples(60), deadline=None, derandomize=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def true_square(left: Tensor, right: Tensor) -> Tensor:
    whole = torch.einsum("utp,utd->upd", left.double(), right.double())
    return whole.square().sum((1, 2))


@pytest.mark.long
@pytest.mark.parametrize("tokens", [*range(1, 71), 128])
def test_every_number_of_tokens(tokens: int) -> None:
    left, right = normal(3, tokens, 5), normal(3, tokens, 8, seed=1)
    found, true = inner(gram(left), gram(right)), true_square(left, right)
    assert found.dtype == torch.float64
    assert (found >= true).all()
    assert (found <= true * (1 + 1e-3)).all()


@pytest.mark.long
@pytest.mark.parametrize("tokens", [1, 31, 64, 71, 128, 512])
def test_equal_numbers_which_all_round_the_same_way(tokens: int) -> None:
    # The worst case for sums of products: in a chain of n equal numbers the error grows with n.
    for seed in range(8):
        size = 1 + torch.rand(4, 1, 2, generator=torch.Generator().manual_seed(seed))
        left = size[..., :1].expand(4, tokens, 96).contiguous()
        right = size[..., 1:].expand(4, tokens, 384).contiguous()
        found, true = inner(gram(left), gram(right)), true_square(left, right)
        assert (found >= true).all()
        assert (found <= true * (1 + 2e-5)).all()


@pytest.mark.parametrize("tokens", [1, 12, 70])
@pytest.mark.parametrize("scale", [1e-12, 1e-19, 1e-22, 1e-24, 1e-36])
def test_no_norm_is_lost_where_squares_underflow(scale: float, tokens: int) -> None:
    left = scale * normal(3, tokens, 5)
    left[1] = 0
    ids = torch.zeros(3, tokens, dtype=torch.int64)
    table = nn.Parameter(torch.zeros(4, 5))
    grams = Grams(Groups.records(3, torch.device("cpu")))
    for right in (normal(3, tokens, 8, seed=1), scale * normal(3, tokens, 8, seed=1)):
        found = inner(gram(left), gram(right))
        assert (found >= true_square(left, right)).all()
        assert found[1] == 0
    looked = squares(table, [Looked(ids, left)], grams)
    assert (looked >= left.double().sum(1).square().sum(1)).all()
    large = normal(3, tokens, 4, seed=2)
    whole = torch.einsum("utp,utd->upd", large.double(), left.double())
    whole[:, 0] += left.double().sum(1)
    both: list[Part] = [Outer(large, left), Looked(ids, left)]
    assert (squares(table, both, grams) >= whole.square().sum((1, 2))).all()


def test_zeros_have_norm_zero() -> None:
    assert inner(gram(torch.zeros(2, 40, 3)), gram(normal(2, 40, 3))).tolist() == [0, 0]


def test_the_infinite_stays_with_its_unit() -> None:
    left, right = normal(3, 40, 4), normal(3, 40, 4, seed=1)
    left[1, 7, 2] = float("inf")
    right[2, 0, 0] = float("nan")
    found = inner(gram(left), gram(right))
    assert torch.isfinite(found).tolist() == [True, False, False]
    assert found[0] == inner(gram(left[:1]), gram(right[:1]))[0]


# -- a parameter's gradient, made of parts -------------------------------------------------------

ROWS, WIDTH = 6, 5
VOCABULARY = 7


def rows_of(part: Part) -> Tensor:
    """Return the gradient of every row in float64, ``[B, VOCABULARY, WIDTH]``."""
    if isinstance(part, Direct):
        return part.grad.double()
    if isinstance(part, Outer):
        return torch.einsum("btp,btd->bpd", part.left.double(), part.right.double())
    out = torch.zeros(len(part.ids), VOCABULARY, WIDTH, dtype=torch.float64)
    for i in range(len(part.ids)):
        out[i].index_add_(0, part.ids[i], part.grad[i].double())
    return out


def true_sums(parts: list[Part], groups: Groups) -> Tensor:
    rows: Any = sum(rows_of(part) for part in parts)
    return torch.stack([rows[groups.unit == u].sum(0) for u in range(groups.count)])


def looked(seed: int, tokens: int = 4) -> Looked:
    made = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (ROWS, tokens), generator=made)
    return Looked(ids, torch.randn(ROWS, tokens, WIDTH, generator=made))


def outer(seed: int, tokens: int = 3) -> Outer:
    return Outer(
        normal(ROWS, tokens, VOCABULARY, seed=seed), normal(ROWS, tokens, WIDTH, seed=seed + 1)
    )


def direct(seed: int) -> Direct:
    return Direct(normal(ROWS, VOCABULARY, WIDTH, seed=seed))


MIXED: dict[str, list[Part]] = {
    "direct": [direct(0)],
    "outer": [outer(0)],
    "looked": [looked(0)],
    "called twice": [outer(0, 3), outer(5, 2)],
    "looked up twice": [looked(0), looked(1, 2)],
    "tied": [looked(0), outer(0)],
    "tied and called twice": [looked(0), outer(0), looked(3, 1), outer(7, 33)],
    "direct and all others": [looked(0), direct(1), outer(0)],
}
UNITS = {
    "rows": [0, 1, 2, 3, 4, 5],
    "patients": [0, 0, 1, 2, 2, 2],
    "unsorted": [2, 0, 1, 0, 2, 0],
    "one": [0] * 6,
}


@pytest.mark.parametrize("parts", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_norms_and_sums_of_all_kinds_of_parts(parts: list[Part], unit: list[int]) -> None:
    p, groups = nn.Parameter(torch.zeros(VOCABULARY, WIDTH)), Groups(torch.tensor(unit))
    true = true_sums(parts, groups)
    norms = squares(p, parts, Grams(groups)).sqrt()
    torch.testing.assert_close(norms, true.flatten(1).norm(dim=1), rtol=1e-3, atol=0)
    assert (norms >= true.flatten(1).norm(dim=1) * (1 - 1e-7)).all()

    factors = torch.rand(groups.count, generator=torch.Generator().manual_seed(9))
    total, scratch = torch.ones(VOCABULARY, WIDTH), Scratch()
    for part in parts:
        add(p, part, groups.spread(factors), total, scratch)
    expected = 1 + torch.einsum("u,upd->pd", factors.double(), true)
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=1e-5)


def test_halves_of_a_gradient_that_cancel_across_uses_of_a_tied_weight() -> None:
    # The norm is that of the sum: a weight counted once per use would be clipped to the wrong one.
    p, groups = nn.Parameter(torch.zeros(VOCABULARY, WIDTH)), Groups(torch.arange(ROWS))
    one = looked(0)
    other = Outer(
        -nn.functional.one_hot(one.ids, VOCABULARY).float().contiguous(), one.grad.clone()
    )
    separate = sum(squares(p, [part], Grams(groups)) for part in (one, other))
    together = squares(p, [one, other], Grams(groups))
    assert (together <= 1e-4 * separate).all()  # 0 but for the allowance for rounding
    assert (together >= 0).all()


# -- adversarial ---------------------------------------------------------------------------------


@st.composite
def cancelling(draw: Any) -> tuple[list[Part], Groups]:
    """Parts whose tokens' gradients cancel almost fully, so that rounding is all that is left."""
    seed, tokens = draw(st.integers(0, 2**31)), draw(st.integers(1, 40))
    left_over = draw(st.sampled_from([0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2]))
    flat = draw(st.booleans())  # equal entries, which round the same way
    made = torch.Generator().manual_seed(seed)

    def pairs(width: int, sign: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(ROWS, tokens, width, generator=made)
        if flat:
            x = x[:, :1, :1].expand(ROWS, tokens, width).contiguous()
        changed = sign * x * (1 + left_over * torch.randn(x.shape, generator=made))
        order = torch.randperm(2 * tokens, generator=made)
        return torch.cat([x, changed], 1), order

    parts: list[Part] = []
    kinds = draw(st.lists(st.sampled_from(["outer", "looked"]), min_size=1, max_size=3))
    for kind in kinds:
        scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
        right, order = pairs(WIDTH, 1)
        if kind == "outer":
            left, _ = pairs(VOCABULARY, -1)
            parts.append(Outer(left[:, order] * scale, right[:, order]))
        else:
            grad, _ = pairs(WIDTH, -1)
            ids = torch.randint(0, VOCABULARY, (ROWS, tokens), generator=made).repeat(1, 2)
            parts.append(Looked(ids[:, order], grad[:, order] * scale))
    return parts, Groups(torch.tensor(draw(st.sampled_from(list(UNITS.values())))))


@pytest.mark.long
@KEEP
@given(cancelling(), st.sampled_from([1e-4, 1e-2, 1.0]))
def test_no_unit_gets_past_the_bound_however_its_tokens_cancel(
    made: tuple[list[Part], Groups], clip: float
) -> None:
    parts, groups = made
    p, scratch = nn.Parameter(torch.zeros(VOCABULARY, WIDTH)), Scratch()
    norms = squares(p, parts, Grams(groups)).sqrt()
    true = true_sums(parts, groups).flatten(1).norm(dim=1)
    assert (norms >= true * (1 - 1e-7)).all()
    factors = (clip / norms.clamp(min=clip)).float()
    for unit in range(groups.count):
        total = torch.zeros(VOCABULARY, WIDTH)
        own = groups.spread(torch.where(torch.arange(groups.count) == unit, factors, 0.0))
        for part in parts:
            add(p, part, own, total, scratch)
        assert float(total.double().norm()) <= clip * (1 + 1e-5)
