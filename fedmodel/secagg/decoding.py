"""Decoding of revealed shares of which some are wrong: Shamir's shares are a Reed–Solomon code.

The values at n distinct points of a polynomial of degree below t determine it although up to
e = (n - t) // 2 of them are wrong. Gao's algorithm ("A new algorithm for decoding Reed–Solomon
codes", 2003): g0 is the product of all (x - x_i), g1 goes through all values. Euclid's algorithm on
g0 and g1 is stopped at the first remainder g of degree below (n + t) / 2; with g = u g0 + v g1 the
polynomial is g / v, if that has no remainder.

Where fewer are wrong than that isn't enough for, a hash of the secret helps: subsets are tried, as
many as :data:`TRIES`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedmodel.errors import ProtocolError
from fedmodel.secagg.shamir import PRIME, combine

__all__ = ["TRIES", "Decoded", "decode_shares"]

TRIES = 500  # subsets: a second or so for 50 holders
_SECRET = 1 << 256

Polynomial = list[int]  # coefficients modulo PRIME, lowest power first, no zeros at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What shares make.

    Args:
        secret: 32 bytes; ``None``: the polynomial's value isn't one.
        right: it is the secret that was asked for.
        wrong: holders whose shares don't lie on its polynomial; where the secret is right at once,
            and nobody is suspected, nobody else's share is looked at.
        agreeing: how many do.
    """

    secret: bytes | None
    right: bool
    wrong: frozenset[int]
    agreeing: int


def decode_shares(
    shares: Mapping[int, bytes],
    threshold: int,
    is_right: Callable[[bytes], bool],
    suspects: Iterable[int] = (),
) -> Decoded | None:
    """Return the secret of shares of which some may be wrong.

    Args:
        shares: holder → its share, at least ``threshold``, each below the field's prime.
        threshold: that the secret was split with.
        is_right: tells the secret that was shared, by its hash.
        suspects: holders that are tried without first.

    Returns:
        With ``right``, the secret. Else the one polynomial on which all but a correctable number of
        shares lie: then it was shared otherwise than was said. ``None``: there is no such
        polynomial, and nothing is known of who is wrong.
    """
    known = set(suspects)
    without = {n: share for n, share in shares.items() if n not in known}
    for some in (without, shares):
        secret = _combined(some, threshold)
        if secret is not None and is_right(secret):
            if not known:  # nobody has been found wrong: that takes no look at the others' shares
                return Decoded(secret=secret, right=True, wrong=frozenset(), agreeing=len(shares))
            used = sorted(some)[:threshold]
            return _compared(shares, _through(_points(shares, used)), right=True)
    polynomial = _gao(_points(shares, sorted(shares)), threshold)
    if polynomial is not None:
        secret = _secret(polynomial)
        return _compared(shares, polynomial, right=secret is not None and is_right(secret))
    for chosen in itertools.islice(_subsets(sorted(shares), threshold), TRIES):
        secret = _combined({n: shares[n] for n in chosen}, threshold)
        if secret is not None and is_right(secret):
            return _compared(shares, _through(_points(shares, chosen)), right=True)
    return None


def _combined(shares: Mapping[int, bytes], threshold: int) -> bytes | None:
    try:
        return combine(shares, threshold)
    except ProtocolError:
        return None


def _secret(polynomial: Polynomial) -> bytes | None:
    value = polynomial[0] if polynomial else 0
    return value.to_bytes(32) if value < _SECRET else None


def _points(shares: Mapping[int, bytes], holders: Iterable[int]) -> list[tuple[int, int]]:
    return [(n, int.from_bytes(shares[n])) for n in holders]


def _compared(shares: Mapping[int, bytes], polynomial: Polynomial, *, right: bool) -> Decoded:
    wrong = frozenset(n for n, share in _points(shares, shares) if _at(polynomial, n) != share)
    return Decoded(
        secret=_secret(polynomial), right=right, wrong=wrong, agreeing=len(shares) - len(wrong)
    )


def _subsets(holders: Sequence[int], threshold: int) -> Iterator[tuple[int, ...]]:
    """Yield holders to use, leaving out one, then two, and so on."""
    for count in range(1, len(holders) - threshold + 1):
        for out in itertools.combinations(holders, count):
            yield tuple(n for n in holders if n not in out)[:threshold]


# -- polynomials over the field ------------------------------------------------------------------


def _gao(points: Sequence[tuple[int, int]], threshold: int) -> Polynomial | None:
    """Return the polynomial of degree below the threshold; ``None``: too many points are off."""
    whole: Polynomial = [1]
    for x, _ in points:
        whole = _times(whole, [-x % PRIME, 1])
    before, now = whole, _through(points)
    v_before, v_now = Polynomial(), Polynomial([1])
    while 2 * (len(now) - 1) >= len(points) + threshold:
        quotient, rest = _divided(before, now)
        before, now = now, rest
        v_before, v_now = v_now, _less(v_before, _times(quotient, v_now))
    found, rest = _divided(now, v_now)
    return found if not rest and len(found) <= threshold else None


def _through(points: Sequence[tuple[int, int]]) -> Polynomial:
    """Return the polynomial through some points, by Newton's divided differences."""
    xs, column = [x for x, _ in points], [y for _, y in points]
    for step in range(1, len(xs)):
        for i in range(len(xs) - 1, step - 1, -1):
            slope = pow(xs[i] - xs[i - step], -1, PRIME)
            column[i] = (column[i] - column[i - 1]) * slope % PRIME
    found: Polynomial = []
    for x, top in zip(reversed(xs), reversed(column), strict=True):
        found = _less(_times(found, [-x % PRIME, 1]), [-top % PRIME])
    return found


def _at(polynomial: Polynomial, x: int) -> int:
    total = 0
    for coefficient in reversed(polynomial):
        total = (total * x + coefficient) % PRIME
    return total


def _trimmed(polynomial: Polynomial) -> Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    if not a or not b:
        return []
    found = [0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            found[i + j] += x * y
    return _trimmed([value % PRIME for value in found])


def _less(a: Polynomial, b: Polynomial) -> Polynomial:
    pairs = itertools.zip_longest(a, b, fillvalue=0)
    return _trimmed([(x - y) % PRIME for x, y in pairs])


def _divided(a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
    rest, inverse = list(a), pow(b[-1], -1, PRIME)
    quotient = [0] * max(0, len(a) - len(b) + 1)
    for at in range(len(quotient) - 1, -1, -1):
        factor = quotient[at] = rest[at + len(b) - 1] * inverse % PRIME
        if factor:
            for i, y in enumerate(b):
                rest[at + i] = (rest[at + i] - factor * y) % PRIME
    return _trimmed(quotient), _trimmed(rest)
