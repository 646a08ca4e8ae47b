"""Instructions: what a coordinator signs of every message to a site, and how a site checks it.

Signed is whose message it is and what for (its kind, the run and its job, the roster, the joining,
the member it is for, round and attempt) and a hash of all else in it. Parameters are in that by
their own hash, which stands beside them and is held against them when they are read.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError, UnsignedError

__all__ = ["Instruction", "sign_content", "signed_by"]

_DOMAIN = b"fedmodel.instruction/1\0"  # canonical JSON has no zero byte
_RECORD = "signed"
_LONGEST = 4096  # characters of an instruction
_MOST = 1000  # records and values, those of lists too: no message to a site has so many
_PARAMETERS = ("arrays", "vector")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What a message to a site is for. It travels beside the message's content.

    Args:
        kind: type of the message.
        run: names the run.
        job: SHA-256 (hex) of its job.
        roster: SHA-256 (hex) of the roster.
        joining: names the joining, 256 random bits, hex.
        member: number in the roster of the site it is for; 0: of whoever is asked who it is.
        round: of the run; 0 where it is of none.
        attempt: of the round; 0 where there is one only.
        content: SHA-256 (hex) of all else in the message.
    """

    kind: str
    run: str
    job: str
    roster: str
    joining: str
    member: int
    round: int = 0
    attempt: int = 0
    content: str = "0" * 64

    def __post_init__(self) -> None:
        for name in ("job", "roster", "joining", "content"):
            config.require_hex(name, getattr(self, name), 64)


def sign_content(
    content: RecordDict, instruction: Instruction, sign: Callable[[bytes], bytes]
) -> RecordDict:
    """Sign a message's content for what it is meant for, and return it.

    Args:
        content: of the message; what was signed for something else before is signed anew.
        instruction: what for; its hash of the content is filled in.
        sign: the coordinator's (:meth:`fedmodel.identity.SigningKey.sign`).
    """
    text = config.canonical(replace(instruction, content=_digest(content)))
    record = ConfigRecord({"instruction": text.decode()})
    record["signature"] = sign(_DOMAIN + text)
    content[_RECORD] = record
    return content


def signed_by(content: RecordDict, kind: str, key: bytes) -> Instruction:
    """Return what a message is for, once it is known that the coordinator has said so.

    Args:
        content: from outside.
        kind: of the message, as it came.
        key: the coordinator's public Ed25519 key, by the site's own roster, 32 bytes.

    Raises:
        UnsignedError: when it isn't signed, by another key, for a message of another kind, or was
            changed.
    """
    text, signature = _fields(content, kind, key)
    try:
        _hazmat.ed25519_verify(key, _DOMAIN + text.encode(), signature)
    except ProtocolError as error:
        raise UnsignedError(
            f"the signature of '{kind}' isn't that of {_named(key)}, the coordinator of this "
            "site's roster: another key signed it, or its instruction was changed on the way. "
            "Nothing is done; compare the fingerprints of the coordinator and the roster"
        ) from error
    try:
        found = config.parse(partial(config.build, Instruction), text.encode())
    except ConfigError as error:
        raise UnsignedError(f"'{kind}' is signed as no instruction of this version: {error}") from (
            error
        )
    if found.kind != kind:
        raise UnsignedError(
            f"expected '{kind}' to be signed as such, got what was signed as '{found.kind:.40}': "
            "something on the way passes on one message as another. Nothing is done; find it"
        )
    came = _digest(content)
    if found.content != came:
        raise UnsignedError(
            f"what came as '{kind}' isn't what the coordinator signed (SHA-256 {found.content[:16]}"
            f"…, got {came[:16]}…): it was changed on the way. Nothing is done; find "
            "what stands between this site and its coordinator"
        )
    return found


def _fields(content: RecordDict, kind: str, key: bytes) -> tuple[str, bytes]:
    record = content.get(_RECORD)
    if not isinstance(record, ConfigRecord):
        raise UnsignedError(
            f"expected '{kind}' with the signature of {_named(key)}, the coordinator of this "
            "site's roster, got none: a site with a roster takes no offer or order that its "
            "coordinator hasn't signed. Nothing is done; find out who sends it, or get the roster "
            "of this coordinator from the consortium"
        )
    text, signature = record.get("instruction"), record.get("signature")
    fits = isinstance(text, str) and isinstance(signature, bytes) and len(text) <= _LONGEST
    if not fits or not str(text).isascii():
        raise UnsignedError(
            f"'{kind}' needs an instruction of at most {_LONGEST} ASCII characters and a signature "
            "of bytes; install the same fedmodel version everywhere"
        )
    return str(text), bytes(signature)  # type: ignore[arg-type]


def _named(key: bytes) -> str:
    return f"the key {_hazmat.fingerprint(key)[:16]}…"


def _digest(content: RecordDict) -> str:
    """Return the SHA-256 (hex) of all records but the signature's, and of all but parameters."""
    _check_count(content)
    told = {name: _told(name, record) for name, record in content.items() if name != _RECORD}
    return config.sha256(json.dumps(told, sort_keys=True).encode())


def _told(name: str, record: Any) -> list[Any]:
    if isinstance(record, ArrayRecord):
        return ["arrays", {k: _array(a) for k, a in record.items() if (name, k) != _PARAMETERS}]
    if isinstance(record, ConfigRecord | MetricRecord):
        return [type(record).__name__, {key: _value(value) for key, value in record.items()}]
    raise UnsignedError(f"a message has no record of type {type(record).__name__}")


def _check_count(content: RecordDict) -> None:
    """Bound what a carrier can make a site do with what it hangs on a signed message."""
    values = (value for record in content.values() for value in record.values())
    found = len(content) + sum(len(v) if isinstance(v, list) else 1 for v in values)
    if found > _MOST:
        raise UnsignedError(f"a message to a site has at most {_MOST} values, got {found}")


def _array(array: Any) -> list[Any]:
    shape = [int(size) for size in array.shape]
    return [array.dtype, shape, array.stype, hashlib.sha256(array.data).hexdigest()]


def _value(value: Any) -> list[Any]:
    if isinstance(value, list):
        return ["list", [_value(each) for each in value]]
    told = value.hex() if isinstance(value, bytes | float) else str(value)
    return [type(value).__name__, told]
