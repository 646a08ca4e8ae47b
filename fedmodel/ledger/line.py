"""Line of a ledger, whoever's it is: what each has, and what a crash has left of one."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Self

from fedmodel import config
from fedmodel.ledger.fields import require_counts

__all__ = ["FIRST", "Line", "Torn"]

FIRST = "0" * 64  # stands for the hash of the line before the first
_EVIDENCE = 1024  # bytes of a torn line that are kept; the hash is of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What every line has, beside its ``schema`` and its ``type``.

    Args:
        seq: 0, 1, 2, …
        prev: SHA-256 (hex) of the line before, without its newline; of the first, 64 zeros.
        nonce: 128 random bits, hex.
        time: when it was written, by its writer's clock, UTC.
    """

    seq: int = 0
    prev: str = FIRST
    nonce: str = "0" * 32
    time: str = "1970-01-01T00:00:00Z"

    def __post_init__(self) -> None:
        config.require_hex("prev", self.prev, 64)
        config.require_hex("nonce", self.nonce, 32)
        config.require_time(self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn(Line):
    """What an append that crashed has left; nothing was done on its account.

    Args:
        type: ``torn``.
        size: in bytes.
        sha256: of all of them.
        start: hex of the first ones.
    """

    type: Literal["torn"] = "torn"
    size: int
    sha256: str
    start: str

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("sha256", self.sha256, 64)
        require_counts(self, "size")

    @classmethod
    def of(cls, tail: bytes) -> Self:
        """Return the entry that keeps what a file had after its last newline."""
        sha256 = hashlib.sha256(tail).hexdigest()
        made: dict[str, Any] = {"size": len(tail), "sha256": sha256}
        return cls(**made, start=tail[:_EVIDENCE].hex())
