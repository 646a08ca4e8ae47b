"""Decoding of wrong shares, against splitting itself and against trying all subsets."""

import itertools
import random
from collections.abc import Callable, Mapping

import pytest

from fedmodel.secagg import decoding, shamir
from fedmodel.secagg.decoding import decode_shares
from fedmodel.seeds import Entropy

SIZES = [(3, 2), (5, 3), (5, 4), (7, 4), (10, 6), (10, 10), (23, 13), (50, 26)]
Wrong = tuple[dict[int, bytes], set[int]]


def split(n: int, t: int) -> tuple[bytes, dict[int, bytes]]:
    secret = Entropy().bytes(32)
    return secret, shamir.split(secret, t, range(1, n + 1), Entropy())


def spoil(shares: Mapping[int, bytes], count: int, seed: int) -> Wrong:
    rng = random.Random(seed)
    wrong = set(rng.sample(sorted(shares), count))
    changed = {
        n: ((int.from_bytes(shares[n]) + rng.randrange(1, 99)) % shamir.PRIME).to_bytes(33)
        for n in wrong
    }
    return dict(shares) | changed, wrong


def by_trying(shares: Mapping[int, bytes], t: int, need: int) -> tuple[bytes, set[int]] | None:
    """Return the secret of the polynomial on which so many shares lie, by trying all subsets."""

    def at(x: int, used: tuple[int, ...]) -> int:
        weights = shamir.coefficients(tuple((u - x) % shamir.PRIME for u in used))
        values = (int.from_bytes(shares[u]) for u in used)
        return sum(w * v for w, v in zip(weights, values, strict=True)) % shamir.PRIME

    for used in itertools.combinations(sorted(shares), t):
        rest = set(shares) - set(used)
        off = {x for x in rest if at(x, used) != int.from_bytes(shares[x])}
        if len(shares) - len(off) >= need:
            return shamir.combine({n: shares[n] for n in used}, t), off
    return None


def being(secret: bytes) -> Callable[[bytes], bool]:
    return lambda tried: tried == secret


@pytest.mark.parametrize(("n", "t"), SIZES)
def test_as_many_as_can_be_are_corrected_and_named(n: int, t: int) -> None:
    for errors in sorted({0, min(1, (n - t) // 2), (n - t) // 2}):
        secret, shares = split(n, t)
        bad, wrong = spoil(shares, errors, errors)
        found = decode_shares(bad, t, being(secret))
        assert found is not None
        assert (found.secret, found.right) == (secret, True)
        # Where the first shares make it at once, nobody else's is looked at.
        assert found.wrong == wrong or (not found.wrong and min(wrong) > t)


@pytest.mark.parametrize("errors", [0, 1, 2])
@pytest.mark.parametrize(("n", "t"), [(7, 3), (8, 3), (9, 5)])
def test_it_finds_what_trying_all_subsets_finds(n: int, t: int, errors: int) -> None:
    _, shares = split(n, t)
    bad, wrong = spoil(shares, errors, errors)
    expected = by_trying(bad, t, n - errors)
    assert expected is not None
    assert expected[1] == wrong
    # Without the hash: the polynomial on which all but these lie.
    found = decode_shares(bad, t, lambda tried: False)
    assert found is not None
    assert (found.secret, set(found.wrong)) == expected
    assert (found.right, found.agreeing) == (False, n - errors)


def test_a_hash_of_the_secret_helps_where_the_shares_alone_do_not() -> None:
    secret, shares = split(6, 4)
    for out in itertools.combinations(range(1, 7), 2):  # beyond (6 - 4) // 2
        bad, _ = shares | dict.fromkeys(out, bytes(33)), out
        found = decode_shares(bad, 4, being(secret))
        assert found is not None
        assert found.secret == secret
    bad = shares | {n: bytes(32) + bytes([n * n * n]) for n in (1, 2, 3)}
    assert decode_shares(bad, 4, being(secret)) is None


def test_so_many_subsets_are_tried_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def note(secret: bytes) -> bool:
        tried.append(secret)
        return False

    monkeypatch.setattr(decoding, "_gao", lambda *_: None)
    _, shares = split(24, 12)
    assert decode_shares(shares, 12, note) is None
    assert decoding.TRIES / 3 < len(tried) <= decoding.TRIES + 2


def test_whoever_is_suspected_is_tried_without_and_named_again() -> None:
    secret, shares = split(5, 4)
    found = decode_shares(shares | {1: bytes(33)}, 4, being(secret), suspects=[1])
    assert found is not None
    assert (found.secret, found.wrong) == (secret, frozenset({1}))
    # A suspicion does no harm where too few others are left, or where it is wrong.
    found = decode_shares(shares, 4, being(secret), suspects=[1, 2, 3])
    assert found is not None
    assert (found.secret, found.wrong) == (secret, frozenset())
