"""Any threshold of shares gives the secret back; fewer fit every secret."""

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg import shamir
from fedmodel.secagg.shamir import PRIME, SHARE, coefficients, combine, split
from fedmodel.seeds import Entropy
from tests.examples import examples


class Fake(Entropy):
    def __init__(self, seed: object = 0) -> None:
        self.state = hashlib.sha256(repr(seed).encode()).digest()

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self.state = hashlib.sha256(self.state).digest()
            out += self.state
        return out[:count]


class Zeros(Entropy):
    def bytes(self, count: int) -> bytes:
        return bytes(count)


SECRET = bytes(range(32))
SECRETS = st.binary(min_size=32, max_size=32)


def is_prime(number: int) -> bool:
    """Miller and Rabin's test to the first 24 prime bases, which fools nobody at this size."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    small = [p for p in range(2, 90) if all(p % q for q in range(2, p))]
    if any(number % p == 0 for p in small):
        return number in small
    for base in small:
        value = pow(base, odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def test_the_field_is_the_smallest_that_holds_every_secret() -> None:
    assert is_prime(PRIME)
    assert not any(is_prime(number) for number in range(2**256, PRIME))
    assert (PRIME - 1).bit_length() <= 8 * SHARE


@settings(max_examples=examples(60), deadline=None)
@given(SECRETS, st.sets(st.integers(1, 10**6), min_size=1, max_size=12), st.data())
def test_any_threshold_of_shares_will_do(
    secret: bytes, holders: set[int], data: st.DataObject
) -> None:
    threshold = data.draw(st.integers(1, len(holders)))
    shares = split(secret, threshold, sorted(holders), Fake(secret))
    assert set(shares) == holders
    assert all(len(share) == SHARE for share in shares.values())
    some = data.draw(st.permutations(sorted(holders)))[: data.draw(st.integers(threshold, 12))]
    assert combine({x: shares[x] for x in some}, threshold) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_every_subset_and_the_extreme_secrets(secret: bytes) -> None:
    shares = split(secret, 3, range(1, 7), Fake())
    for some in itertools.combinations(shares, 3):
        assert combine({x: shares[x] for x in some}, 3) == secret


@settings(max_examples=examples(40), deadline=None)
@given(SECRETS, SECRETS, st.integers(2, 8))
def test_one_share_too_few_fits_every_other_secret(secret: bytes, other: bytes, t: int) -> None:
    shares = split(secret, t, range(1, t + 3), Fake(secret))
    known = dict(list(shares.items())[: t - 1])
    # The missing share with which the known ones would give the other secret, by solving the
    # interpolation for it: it exists whatever the other secret is.
    xs = (*known, t + 5)
    *weights, last = coefficients(xs)
    partial = sum(w * int.from_bytes(s) for w, s in zip(weights, known.values(), strict=True))
    value = (int.from_bytes(other) - partial) * pow(last, -1, PRIME) % PRIME
    assert combine({**known, t + 5: value.to_bytes(SHARE)}, t) == other


def test_a_share_is_the_polynomial_at_its_holder() -> None:
    entropy = Fake("naive")
    shares = split(SECRET, 4, [1, 2, 5, 77], entropy)
    high = shamir._uniform(3, Fake("naive"))
    for x, share in shares.items():
        want = sum(c * x**power for c, power in zip(high, (3, 2, 1), strict=True))
        assert int.from_bytes(share) == (want + int.from_bytes(SECRET)) % PRIME


def test_coefficients_are_lagranges() -> None:
    assert coefficients((1,)) == (1,)
    assert coefficients((1, 2)) == (2, PRIME - 1)
    assert coefficients((1, 2, 3)) == (3, PRIME - 3, 1)
    assert sum(coefficients((4, 9, 17, 23))) % PRIME == 1
    assert coefficients((4, 9)) is coefficients((4, 9))


def test_coefficients_of_the_polynomial_are_uniform_below_the_prime() -> None:
    class Script(Entropy):
        def __init__(self) -> None:
            self.words = [PRIME, 2**257 - 1, PRIME - 1, (1 << 263) | 5, 6, 7]

        def bytes(self, count: int) -> bytes:
            now, self.words = self.words[: count // SHARE], self.words[count // SHARE :]
            return b"".join(word.to_bytes(SHARE) for word in now)

    # 257 bits are looked at; the prime and above are thrown away, not reduced.
    assert shamir._uniform(2, Script()) == [PRIME - 1, 5]
    drawn = shamir._uniform(4000, Fake())
    quarters = [4 * value // PRIME for value in drawn]
    assert all(abs(quarters.count(q) - 1000) < 5 * (4000 * 3 / 16) ** 0.5 for q in range(4))


def test_a_threshold_of_one_is_the_secret_itself() -> None:
    assert split(SECRET, 1, [3, 4], Zeros()) == dict.fromkeys([3, 4], b"\0" + SECRET)


def test_the_lowest_holders_shares_are_used() -> None:
    shares = split(SECRET, 3, [9, 2, 30, 11], Fake())
    assert combine({**shares, 30: b"no share"}, 3) == SECRET
    with pytest.raises(ProtocolError, match="holder 2"):
        combine({**shares, 2: b"no share"}, 3)


def test_a_changed_share_gives_another_secret_or_an_error() -> None:
    shares = split(SECRET, 3, range(1, 4), Fake())
    for x in shares:
        wrong = (int.from_bytes(shares[x]) ^ 1) % PRIME
        assert combine({**shares, x: wrong.to_bytes(SHARE)}, 3) != SECRET


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_a_threshold_that_cannot_be_met_is_refused(threshold: int) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        split(SECRET, threshold, [1, 2, 3], Fake())


@pytest.mark.parametrize("holders", [[0, 1], [-1, 1], [1, 1], [1, PRIME]])
def test_numbers_that_cannot_hold_a_share_are_refused(holders: list[int]) -> None:
    with pytest.raises(ProtocolError, match="distinct numbers of at least 1"):
        split(SECRET, 1, holders, Fake())
    if len(set(holders)) == len(holders):
        with pytest.raises(ProtocolError, match="distinct numbers of at least 1"):
            combine(dict.fromkeys(holders, bytes(SHARE)), 1)


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33)])
def test_a_secret_of_another_length_is_refused(secret: bytes) -> None:
    with pytest.raises(ProtocolError, match="must be 32 bytes"):
        split(secret, 1, [1], Fake())


def test_what_is_no_set_of_shares_is_refused() -> None:
    shares = split(SECRET, 3, range(1, 6), Fake())
    for few in ({}, {1: shares[1], 2: shares[2]}):
        with pytest.raises(ProtocolError, match=f"needs 3 shares to have it back, got {len(few)}"):
            combine(few, 3)
    with pytest.raises(ProtocolError, match="needs 0 shares"):
        combine(shares, 0)
    for wrong in (b"", shares[1][1:], shares[1] + b"\0"):
        with pytest.raises(ProtocolError, match="holder 1 must be 33 bytes"):
            combine({**shares, 1: wrong}, 3)
    with pytest.raises(ProtocolError, match="beyond the field"):
        combine({**shares, 1: PRIME.to_bytes(SHARE)}, 3)


def test_a_result_that_is_no_secret_is_refused() -> None:
    with pytest.raises(ProtocolError, match="don't belong to one secret"):
        combine({1: (2**256).to_bytes(SHARE)}, 1)
