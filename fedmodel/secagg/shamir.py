"""Shares of a secret: any ``threshold`` of them give it back, fewer tell nothing (Shamir 1979).

A share is the value at its holder's number of a random polynomial of degree ``threshold - 1``
over the integers modulo a prime, whose value at 0 is the secret.

Python's integers aren't constant-time: who can time a party's arithmetic very finely isn't kept
out. What is shared here is used for one attempt of one round and then dropped.
"""

import functools
from collections.abc import Mapping, Sequence

from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.seeds import Entropy

__all__ = ["PRIME", "SHARE", "coefficients", "combine", "in_field", "split"]

PRIME = 2**256 + 297  # the smallest above 2**256, so that every 32-byte secret is below it
SHARE = 33  # bytes
_SECRET = 32


def split(
    secret: bytes, threshold: int, holders: Sequence[int], entropy: Entropy
) -> dict[int, bytes]:
    """Return a secret's shares by holder.

    Args:
        secret: 32 bytes.
        threshold: so many shares are needed to have it back.
        holders: distinct numbers ≥ 1, as many as the threshold or more.
        entropy: of the polynomial.

    Returns:
        Holder → share: 33 bytes, big endian.

    Raises:
        ConfigError: for a threshold that these holders can't meet.
        ProtocolError: for a secret of another length, or numbers that can't be holders.
    """
    if len(secret) != _SECRET:
        raise ProtocolError(f"a secret to share must be {_SECRET} bytes, got {len(secret)}")
    _check_holders(holders)
    if not 1 <= threshold <= len(holders):
        raise ConfigError(
            f"a threshold of {threshold} shares needs at least 1 and at most as many as there "
            f"are holders, {len(holders)}"
        )
    # Highest power first, for Horner's rule.
    polynomial = [*_uniform(threshold - 1, entropy), int.from_bytes(secret)]
    return {x: _value(polynomial, x).to_bytes(SHARE) for x in holders}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of some shares; of more than ``threshold``, the lowest holders' are used.

    Args:
        shares: holder → its share.
        threshold: that the secret was split with.

    Returns:
        32 bytes. Shares that were changed give another secret or an error: check a commitment.

    Raises:
        ProtocolError: for too few shares, one that isn't a share, or shares that don't belong
            together.
    """
    _check_holders(tuple(shares))
    if not 1 <= threshold <= len(shares):
        raise ProtocolError(f"a secret needs {threshold} shares to have it back, got {len(shares)}")
    used = tuple(sorted(shares)[:threshold])
    values = [_parsed(x, shares[x]) for x in used]
    total = sum(c * v for c, v in zip(coefficients(used), values, strict=True)) % PRIME
    if total >= 1 << (8 * _SECRET):
        raise ProtocolError("shares don't belong to one secret: one of them was changed")
    return total.to_bytes(_SECRET)


@functools.lru_cache(maxsize=1024)
def coefficients(xs: tuple[int, ...]) -> tuple[int, ...]:
    """Return what to weight values at ``xs`` with to get a polynomial's value at 0.

    Lagrange's interpolation: the product over other x of x_j / (x_j - x_i), modulo
    :data:`PRIME`, for each x_i.

    Args:
        xs: distinct numbers in [1, PRIME).
    """
    found = []
    for x in xs:
        top = bottom = 1
        for other in xs:
            if other != x:
                top = top * other % PRIME
                bottom = bottom * (other - x) % PRIME
        found.append(top * pow(bottom, -1, PRIME) % PRIME)
    return tuple(found)


def _value(polynomial: Sequence[int], x: int) -> int:
    total = 0
    for coefficient in polynomial:
        total = (total * x + coefficient) % PRIME
    return total


def _uniform(count: int, entropy: Entropy) -> list[int]:
    # 257 random bits, again if they aren't below the prime: about every other time.
    found: list[int] = []
    while len(found) < count:
        data = entropy.bytes(SHARE * 2 * (count - len(found)))
        drawn = (
            int.from_bytes(bytes([data[at] & 1]) + data[at + 1 : at + SHARE])
            for at in range(0, len(data), SHARE)
        )
        found += [value for value in drawn if value < PRIME]
    return found[:count]


def in_field(share: bytes) -> bool:
    """Return whether some bytes are a number of the field, as every share is."""
    return len(share) == SHARE and int.from_bytes(share) < PRIME


def _parsed(x: int, share: bytes) -> int:
    if len(share) != SHARE:
        raise ProtocolError(f"the share of holder {x} must be {SHARE} bytes, got {len(share)}")
    value = int.from_bytes(share)
    if value >= PRIME:
        raise ProtocolError(f"the share of holder {x} is beyond the field, so it isn't one")
    return value


def _check_holders(holders: Sequence[int]) -> None:
    if len(set(holders)) != len(holders) or not all(1 <= x < PRIME for x in holders):
        raise ProtocolError("holders of shares must have distinct numbers of at least 1")
