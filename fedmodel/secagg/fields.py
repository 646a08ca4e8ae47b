"""Fields of the protocol's messages: labels, checks, signatures."""

import re
from collections.abc import Iterable

from fedmodel._hazmat import ed25519_verify
from fedmodel.errors import ConfigError, ProtocolError

__all__ = ["VERSION", "check_hex", "check_members", "check_numbers", "label", "only", "verify"]

VERSION = "fedmodel.secagg/2"
_MOST_SITES = 1 << 16
# A class and not a group: a repeated group keeps a record of each turn, a hundred bytes for two.
_HEX = re.compile(r"[0-9a-f]*")


def label(purpose: str, *parts: bytes | int) -> bytes:
    r"""Return unambiguous bytes that say what a key, a hash or a signature is for.

    >>> label("mask", b"ab", 7)
    b'fedmodel.secagg/2 mask\x00\x00\x00\x00\x02ab\x00\x00\x00\x04\x00\x00\x00\x07'
    """
    texts = [p if isinstance(p, bytes) else p.to_bytes(4) for p in parts]
    return f"{VERSION} {purpose}\0".encode() + b"".join(len(t).to_bytes(4) + t for t in texts)


def check_hex(name: str, text: str, digits: int | None = None) -> None:
    """Check a field of hex digits."""
    wrong_size = len(text) % 2 if digits is None else len(text) != digits
    if wrong_size or not _HEX.fullmatch(text):
        expected = "" if digits is None else f"{digits} "
        raise ConfigError(f"{name} must be {expected}hex digits, got {text[:40]!r:.40}")


def check_numbers(name: str, numbers: tuple[int, ...]) -> None:
    """Check a field of site numbers."""
    check_members(name, *numbers)
    if list(numbers) != sorted(set(numbers)):
        raise ConfigError(f"{name} must be site numbers in rising order, each once")


def check_members(name: str, *numbers: int) -> None:
    """Check single site numbers."""
    if not all(1 <= n < _MOST_SITES for n in numbers):
        raise ConfigError(f"{name} must be site numbers from 1 to {_MOST_SITES - 1}")


def verify(key: bytes, signed: bytes, signature: str) -> None:
    """Check a signature given in hex.

    Raises:
        ProtocolError: when it isn't the key's.
    """
    ed25519_verify(key, signed, bytes.fromhex(signature))


def only(found: Iterable[int], expected: Iterable[int], what: str) -> None:
    """Check that just the expected sites are there.

    Raises:
        ProtocolError: naming those missing or too many.
    """
    wrong = sorted(set(found) ^ set(expected))
    if wrong:
        raise ProtocolError(f"{what}: sites {wrong[:8]} are missing or too many")
