"""Bytes, signatures and ε, as docs/verify-formats.md has them; without our code."""

import hashlib
import json
import math
from collections import Counter
from decimal import Decimal
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Entry = dict[str, Any]
Steps = Counter[tuple[float, float]]  # (rate, noise multiplier) → how many
UNITS = {"record": 0, "patient": 1, "site": 2}
EVERY = "nonce:x prev:h schema:t seq:n time:t type:t"
SITE = {
    "open": "dataset:t key:h ledger:t site:t",
    "dataset": "added:n patients:N removed:n root:h rows:n",
    "reserve": "adjacency:t code:t delta:d epsilon:d job:h parts:l run:t unit:t",
    "spend": "adjacency:t attempt:n clip:d delta:d given_up:l job:h kind:t noise_multiplier:d "
    "rate:d reservation:n round:n run:t steps:n unit:t",
    "repeat": "attempt:n job:h reservation:n round:n run:t",
    "outcome": "attempt:n clips:l job:h kind:t manifest:H of:n result:t round:n run:t steps:n "
    "update:H",
    "give-back": "by:t job:h reservation:n run:t",
    "abort": "by:t job:h reservation:n run:t",
    "torn": "sha256:h size:n start:t",
}
SHOWN = " coordinator_entries:n coordinator_root:H"
SINCE_4 = {
    "reserve": " grounds:O",
    "spend": " model:H" + SHOWN,
    "repeat": " model:H" + SHOWN,
    "give-back": SHOWN,
    "abort": SHOWN,
}
COORDINATOR = {
    "run": "key:h ledger:t run:t",
    "start": "code:t job:o job_sha256:h members:o model:h packages:o roster:h round:n",
    "joining": "failed:l joining:h nodes:o",
    "round": "kind:t members:l model:h round:n",
    "attempt": "attempt:n digest:h manifest:o round:n",
    "unmask": "attempt:n consents:o digest:h round:n survivors:l takers:l vectors:o",
    "result": "absent:n failed:l finished:b given:l mean:H model:h round:n stopped:b",
    "evaluation": "failed:l given:l model:h round:n",
    "end": "failed:b model:h round:n told:l",
    "torn": "sha256:h size:n start:t",
}


def canonical(value: Any) -> bytes:
    """RFC 8785."""
    return _written(value).encode()


def _written(value: Any) -> str:
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_written(str(k))}:{_written(v)}" for k, v in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        raise ValueError(f"{value} is no number of canonical JSON")
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """A number as ECMAScript writes it."""
    if not math.isfinite(value):
        raise ValueError("not a number of JSON")
    if value < 0:
        return "-" + _number(-value)
    _, places, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, places)).lstrip("0") or "0"
    point, digits = len(digits) + exponent, digits.rstrip("0")
    if not digits:
        return "0"
    if 0 < point <= 21:
        whole, rest = digits[:point].ljust(point, "0"), digits[point:]
        return whole + ("." + rest if rest else "")
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    rest = "." + digits[1:] if digits[1:] else ""
    return f"{digits[0]}{rest}e{point - 1:+d}"


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def root(lines: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(lines) < 2:
        return hashlib.sha256(b"\0" + lines[0] if lines else b"").digest()
    left = 1 << (len(lines) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(lines[:left]) + root(lines[left:])).digest()


def fingerprint(key: str) -> str:
    """Of a public key in hex."""
    return sha256(b"fedmodel.key/1\0" + bytes.fromhex(key))[:32]


def signed(key: str, context: str, message: bytes, signature: str, end: bytes = b"\0") -> bool:
    """Whether it is that key's signature."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(signature), context.encode() + end + message)
    except (InvalidSignature, ValueError):
        return False
    return True


def part(value: Any) -> bytes:
    """A part of what is signed in secure sums."""
    data = canonical(value)
    return len(data).to_bytes(4, "big") + data


@cache
def _epsilon(steps: tuple[tuple[tuple[float, float], int], ...], delta: float, of: str) -> float:
    from dp_accounting import (
        GaussianDpEvent,
        NeighboringRelation,
        PoissonSampledDpEvent,
        SelfComposedDpEvent,
    )
    from dp_accounting.pld import PLDAccountant

    replace = NeighboringRelation.REPLACE_ONE
    relation = replace if of == "replace" else NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = PLDAccountant(relation, value_discretization_interval=1e-4)
    for (rate, noise), times in steps:
        step = PoissonSampledDpEvent(rate, GaussianDpEvent(noise))
        accountant.compose(SelfComposedDpEvent(step, times))
    return float(accountant.get_epsilon(delta))


def epsilon(steps: Steps, delta: float, adjacency: str) -> float:
    """ε of Poisson-sampled Gaussian steps."""
    taken = tuple(sorted((step, times) for step, times in steps.items() if times))
    return _epsilon(taken, delta, adjacency) if taken else 0.0


def steps_of(spends: list[Entry], known: int = -1) -> Steps:
    """What they come to, to somebody who knows so many shares of the noise (-1: as written)."""
    steps: Steps = Counter()
    for entry in spends:
        noise, how = float(entry["noise_multiplier"]), entry.get("mechanism", {})
        if known >= 0 and how["name"] in ("distributed", "site"):
            left = how["survivors"] - min(known, how["survivors"] - 1)
            noise *= math.sqrt(left / how["honest"])
        steps[float(entry["rate"]), noise] += entry["steps"]
    return steps


def total(spends: list[Entry], unit: str, delta: float | None = None) -> float | None:
    """What a dataset has been charged in all, for one unit; none where nothing is promised it."""
    if any(UNITS[entry["unit"]] < UNITS[unit] for entry in spends):
        return None
    larger = any(entry["adjacency"] == "replace" or entry["unit"] != unit for entry in spends)
    smallest = min((float(entry["delta"]) for entry in spends), default=1.0)
    return epsilon(steps_of(spends), delta or smallest, "replace" if larger else "add-remove")


def close(told: float, computed: float) -> bool:
    """To 0.1 %."""
    return abs(told - computed) <= 1e-3 * abs(computed)


def is_of(value: Any, kind: str) -> bool:
    if kind in "Hhx":
        size = 32 if kind == "x" else 64
        hexed = isinstance(value, str) and not set(value) - set("0123456789abcdef")
        return hexed and (len(value) == size or (kind == "H" and not value))
    if kind == "d":
        return (
            isinstance(value, str) and repr(float(value)) == value and math.isfinite(float(value))
        )
    if kind in "nN":
        return (type(value) is int and value >= 0) or (kind == "N" and value is None)
    if kind in "rR":
        real = type(value) in (int, float) and math.isfinite(value) and value >= 0
        return real or (kind == "R" and value is None)
    types: dict[str, type] = {"t": str, "T": str, "l": list, "o": dict, "O": dict, "b": bool}
    return isinstance(value, types[kind]) or (kind in "OT" and value is None)


def is_entry(value: Any, fields: str) -> bool:
    """Whether something has just such fields (`name:kind`)."""
    kinds = dict(item.split(":") for item in fields.split())
    same = isinstance(value, dict) and value.keys() == kinds.keys()
    return same and all(is_of(value[name], kind) for name, kind in kinds.items())
