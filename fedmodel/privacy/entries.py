"""The lines of a ledger: what they say, and their one way of being written."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Literal

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.privacy.accounting import Spend

__all__ = ["Entry", "SpendEntry", "TornEntry", "decode", "encode"]

_EVIDENCE = 1024  # bytes of a torn line that are kept; the hash is of all


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendEntry:
    """Steps that a site is about to take. Real numbers are text that ``float`` reads exactly.

    Args:
        schema: of the line.
        seq: 0, 1, 2, …
        prev: SHA-256 (hex) of the line before, without its newline; of the first, 64 zeros.
        type: ``spend``.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        site: name of the site.
        round: of the run.
        attempt: 1, or more when a round is taken again.
        rate: sampling rate.
        noise_multiplier: σ.
        clip: C.
        delta: δ that the run reports at.
        unit: whose presence is hidden.
        adjacency: of neighbouring datasets.
        steps: how many.
    """

    schema: Literal["fedmodel.ledger/1"] = "fedmodel.ledger/1"
    seq: int
    prev: str
    type: Literal["spend"] = "spend"
    run: str
    job: str
    site: str
    round: int
    attempt: int
    rate: str
    noise_multiplier: str
    clip: str
    delta: str
    unit: Literal["record"]
    adjacency: Literal["add-remove"]
    steps: int

    def __post_init__(self) -> None:
        for name in ("rate", "noise_multiplier", "clip", "delta"):
            _require_real(name, getattr(self, name))
        _require_hash("job", self.job)
        if min(self.round, self.attempt) < 0:
            raise ConfigError("round and attempt must not be negative")
        self.spend()

    def spend(self) -> Spend:
        """Return what the accountant needs of the entry."""
        return Spend(float(self.rate), float(self.noise_multiplier), self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class TornEntry:
    """What an append that crashed has left; nothing was spent by it."""

    schema: Literal["fedmodel.ledger/1"] = "fedmodel.ledger/1"
    seq: int
    prev: str
    type: Literal["torn"] = "torn"
    size: int  # bytes
    sha256: str
    start: str  # hex of the first bytes

    def __post_init__(self) -> None:
        _require_hash("sha256", self.sha256)

    @classmethod
    def of(cls, tail: bytes, seq: int, prev: str) -> "TornEntry":
        """Return the entry that keeps what a file had after its last newline."""
        return cls(
            seq=seq,
            prev=prev,
            size=len(tail),
            sha256=hashlib.sha256(tail).hexdigest(),
            start=tail[:_EVIDENCE].hex(),
        )


Entry = SpendEntry | TornEntry
_TYPES: dict[str, type[SpendEntry] | type[TornEntry]] = {"spend": SpendEntry, "torn": TornEntry}


def encode(entry: Entry) -> bytes:
    """Return an entry's line, without its newline: canonical JSON (RFC 8785).

    Raises:
        ConfigError: when it has none (text that isn't valid Unicode, an integer of 2**53 or more).
    """
    try:
        return config.canonical(entry)
    except ValueError as error:
        raise ConfigError(f"no canonical JSON form: {error}") from error


def decode(line: bytes) -> Entry:
    """Return the entry of a line.

    Raises:
        FedmodelError: unless the line is, byte for byte, what :func:`encode` makes of an entry.
    """
    try:
        mapping = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError("it isn't JSON") from error
    kind = mapping.get("type") if isinstance(mapping, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ConfigError(f"expected an entry of type {' or '.join(_TYPES)}, got {kind!s:.40}")
    entry: Entry = config.build(_TYPES[kind], mapping)
    if encode(entry) != line:
        raise ConfigError("it isn't in canonical form (RFC 8785)")
    return entry


def _require_real(name: str, text: str) -> None:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or repr(value) != text:
        raise ConfigError(f"{name} must be a number > 0 as Python writes it, got {text!r}")


def _require_hash(name: str, text: str) -> None:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise ConfigError(f"{name} must be a SHA-256 in lower-case hex, got {text!r}")
