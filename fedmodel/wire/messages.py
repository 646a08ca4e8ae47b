"""Orders, answers and errors ↔ Flower records. Everything from outside is checked here, once.

Each content carries a version. Vectors travel as one float32 array; the job travels as its
canonical JSON. An error reply says a kind and, only where it holds no fact about rows, a reason.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedmodel._paths import source_digest
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.job import Job
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from fedmodel.wire.arrays import flat_array, view

__all__ = [
    "Leave",
    "Order",
    "checked_update",
    "decode_counts",
    "decode_heads",
    "decode_job",
    "decode_leave",
    "decode_order",
    "decode_session",
    "decode_standing",
    "decode_update",
    "encode_counts",
    "encode_job",
    "encode_leave",
    "encode_order",
    "encode_reply",
    "encode_update",
    "pack",
]

VERSION = "fedmodel.wire/1"
_MAX_JOB = 1 << 20
_SESSION = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1e30
_HEAVIEST = 1e12  # rows
_METRICS = ("weight", "train_loss")
_COUNTS = "counts"
_MOST_HEADS = 1000
_LONGEST_PROOF = 64 * 65  # hex digits of the proof for 2**64 entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the coordinator asks of a site: to train in a round, or to evaluate after the last.

    Args:
        round: number of the round, from 1; for an evaluation, of the last one.
        job_sha256: which job this belongs to.
        vector: the current trainable parameters, float32 ``[trainable]``, read-only.
        entries: how many the site's ledger has in the newest head that the coordinator keeps; the
            answer proves that it has grown from there.
    """

    round: int
    job_sha256: str
    vector: NDArray[np.float32]
    entries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """What the coordinator tells a site when a run ends.

    Args:
        job_sha256: which job.
        failed: it didn't come to its end.
        entries: as in an order.
    """

    job_sha256: str
    failed: bool
    entries: int = 0


def pack(vector: NDArray[np.float32]) -> Array:
    """Serialise a vector once; the result can go into many messages."""
    flat = np.ascontiguousarray(vector, dtype="<f4")
    return flat_array(flat.data, "float32") if flat.ndim == 1 else Array(flat)


def _unpack(content: RecordDict) -> NDArray[np.float32]:
    record = content.get("arrays")
    if not isinstance(record, ArrayRecord) or len(record) != 1 or "vector" not in record:
        raise ProtocolError("expected one array named 'vector'")
    try:
        vector = view(record["vector"], "float32")
    except Exception as error:
        raise ProtocolError(f"the vector can't be read ({type(error).__name__})") from error
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise ProtocolError(
            f"expected a flat float32 vector, got {vector.dtype} with {vector.ndim} dimensions"
        )
    return vector


def _config(content: RecordDict) -> ConfigRecord:
    record = content.get("config")
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("expected a configuration record named 'config'")
    if record.get("version") != VERSION:
        raise ProtocolError(
            f"expected version {VERSION!r}, got {str(record.get('version'))[:40]!r}; "
            "install the same fedmodel version everywhere"
        )
    return record


def _field(record: ConfigRecord, name: str, kind: type) -> Any:
    value = record.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"field '{name}': expected {kind.__name__}, got {type(value).__name__}")
    return value


def encode_job(job: Job, heads: Iterable[TreeHead] = (), session: str = "") -> RecordDict:
    """Return the content that offers a job to a site, with the digest of this party's sources.

    Args:
        job: what is offered.
        heads: of the site's ledgers, as the coordinator has kept them.
        session: names this joining, where updates are hidden or sealed.
    """
    fields = {"job": job.to_json().decode(), "sources": source_digest(), "session": session}
    kept = "\n".join(head.to_json().decode() for head in heads)
    return RecordDict({"config": ConfigRecord({"version": VERSION, **fields, "heads": kept})})


def decode_heads(content: RecordDict) -> list[TreeHead]:
    """Return the heads in a message that offers a job, their signatures verified.

    Raises:
        ProtocolError: if one isn't a head of this version.
    """
    lines = _field(_config(content), "heads", str).splitlines()
    if len(lines) > _MOST_HEADS:
        raise ProtocolError(f"an offer has at most {_MOST_HEADS} heads, got {len(lines)}")
    return [TreeHead.from_json(line) for line in lines]


def decode_session(content: RecordDict) -> str:
    """Return the session in a message that offers a job; empty where it needs none.

    Raises:
        ProtocolError: if it is malformed.
    """
    session: str = _field(_config(content), "session", str)
    if session and not _SESSION.fullmatch(session):
        raise ProtocolError(f"a session is 64 hex digits, got {session!r:.40}")
    return session


def decode_job(content: RecordDict) -> Job:
    """Return the job in a message, strictly checked.

    Raises:
        ProtocolError: if it isn't canonical JSON of a job this version understands, or comes from
            a party that runs other sources than this one.
    """
    record = _config(content)
    sources = _field(record, "sources", str)
    if sources != source_digest():
        raise ProtocolError(
            f"the coordinator runs other code (sources {sources[:16]!r}) than this site "
            f"({source_digest()[:16]}…); install the same fedmodel version everywhere"
        )
    text = _field(record, "job", str)
    if len(text) > _MAX_JOB:
        raise ProtocolError(f"a job of {len(text)} characters; at most {_MAX_JOB} are accepted")
    try:
        mapping = json.loads(text)
        job = Job.from_mapping(mapping)
    except (ValueError, RecursionError, ConfigError) as error:
        raise ProtocolError(f"not a job this version understands: {error}") from error
    if job.to_json().decode() != text:
        raise ProtocolError("the job isn't in canonical JSON (RFC 8785)")
    return job


def encode_order(round_: int, job_sha256: str, vector: Array, entries: int = 0) -> RecordDict:
    """Return the content of a train or evaluate message (see :class:`Order`)."""
    record = ConfigRecord({"version": VERSION, "round": round_, "job": job_sha256})
    record["entries"] = entries
    return RecordDict({"arrays": ArrayRecord({"vector": vector}), "config": record})


def decode_order(content: RecordDict) -> Order:
    """Return the order in a train or evaluate message.

    Raises:
        ProtocolError: if it is malformed or its vector isn't finite.
    """
    record = _config(content)
    vector = _unpack(content)
    if not np.isfinite(vector).all():
        raise ProtocolError("the parameters hold NaN or infinity")
    round_ = _field(record, "round", int)
    if round_ < 1:
        raise ProtocolError(f"round must be at least 1, got {round_}")
    job = _field(record, "job", str)
    return Order(round=round_, job_sha256=job, vector=vector, entries=_entries(record))


def _entries(record: ConfigRecord) -> int:
    entries: int = _field(record, "entries", int)
    if entries < 0:
        raise ProtocolError(f"entries must not be negative, got {entries}")
    return entries


def encode_leave(leave: Leave) -> RecordDict:
    """Return the content of the message that ends a run."""
    record = ConfigRecord({"version": VERSION, "job": leave.job_sha256, "failed": leave.failed})
    record["entries"] = leave.entries
    return RecordDict({"config": record})


def decode_leave(content: RecordDict) -> Leave:
    """Return what a message that ends a run says.

    Raises:
        ProtocolError: if it is malformed.
    """
    record = _config(content)
    job, failed = _field(record, "job", str), _field(record, "failed", bool)
    return Leave(job_sha256=job, failed=failed, entries=_entries(record))


def encode_reply(standing: Standing | None = None) -> RecordDict:
    """Return the content of a reply that says no more than where the site's ledger stands."""
    record = ConfigRecord({"version": VERSION})
    if standing is not None:
        record["head"] = standing.head.to_json().decode()
        record["proof"] = ",".join(standing.proof)
    return RecordDict({"config": record})


def decode_standing(content: RecordDict) -> Standing | None:
    """Return where a site's ledger stands, by any of its replies; ``None`` if it doesn't say.

    The head's signature is verified; whether it extends an older one isn't.

    Raises:
        ProtocolError: if it is malformed.
    """
    record = _config(content)
    if "head" not in record:
        return None
    proof = _field(record, "proof", str)
    if len(proof) > _LONGEST_PROOF:
        raise ProtocolError(f"a proof has at most {_LONGEST_PROOF} digits, got {len(proof)}")
    head = TreeHead.from_json(_field(record, "head", str))
    return Standing(head=head, proof=tuple(proof.split(",")) if proof else ())


def encode_update(update: Update, standing: Standing | None = None) -> RecordDict:
    """Return the content of a reply that carries a site's update."""
    content = encode_reply(standing)
    content["arrays"] = ArrayRecord({"vector": pack(update.vector)})
    content["metrics"] = MetricRecord({"weight": update.weight, **update.metrics})
    return content


def decode_update(content: RecordDict, size: int) -> Update:
    """Return the update in a reply.

    Args:
        content: from outside.
        size: how many parameters it must have.

    Raises:
        ProtocolError: if it is malformed, of another size, or not finite.
    """
    _config(content)
    vector = _unpack(content)
    record = content.get("metrics")
    if not isinstance(record, MetricRecord):
        raise ProtocolError("expected a metric record named 'metrics'")
    return checked_update(vector, dict(record), size)


def checked_update(vector: NDArray[np.float32], found: Mapping[str, Any], size: int) -> Update:
    """Return the update of a vector and metrics from outside.

    Args:
        vector: the change.
        found: name → value; the weight among them.
        size: how many parameters it must have.

    Raises:
        ProtocolError: if it is malformed, of another size, or not finite.
    """
    if vector.size != size:
        raise ProtocolError(f"expected an update of {size} parameters, got {vector.size}")
    # Together with the limit on weights this keeps every sum of updates finite in float32.
    if vector.size and not float(np.abs(vector).max()) <= _LARGEST:
        raise ProtocolError(f"the update holds NaN, infinity or a number above {_LARGEST:g}")
    metrics: dict[str, float] = {}
    for name, value in found.items():
        if name not in _METRICS:
            raise ProtocolError(f"unknown metric '{name[:40]}'; known: {', '.join(_METRICS)}")
        try:
            metrics[name] = float(value)
        except (TypeError, OverflowError):
            metrics[name] = math.nan
        if not math.isfinite(metrics[name]):
            raise ProtocolError(f"metric '{name[:40]}' must be one finite number")
    if "weight" not in metrics:
        raise ProtocolError("the update has no weight")
    if not 1 <= metrics["weight"] <= _HEAVIEST:
        raise ProtocolError(f"the update's weight must be in [1, {_HEAVIEST:g}]")
    return Update(vector=vector, weight=metrics.pop("weight"), metrics=metrics)


def encode_counts(counts: Counts, standing: Standing | None = None) -> RecordDict:
    """Return the content of a reply that carries a site's noised counts."""
    content = encode_reply(standing)
    content["metrics"] = MetricRecord({_COUNTS: list(counts.values)})
    return content


def decode_counts(content: RecordDict, size: int) -> Counts:
    """Return the noised counts in a reply.

    Args:
        content: from outside.
        size: how many counts there must be.

    Raises:
        ProtocolError: if it is malformed or has another number of counts.
    """
    _config(content)
    record = content.get("metrics")
    if not isinstance(record, MetricRecord) or set(record) != {_COUNTS}:
        raise ProtocolError(f"expected a metric record of just '{_COUNTS}'")
    values = record[_COUNTS]
    if not isinstance(values, list) or len(values) != size:
        got = len(values) if isinstance(values, list) else type(values).__name__
        raise ProtocolError(f"'{_COUNTS}' must be a list of {size} whole numbers, got {got}")
    if any(type(value) is not int or abs(value) > _HEAVIEST for value in values):
        raise ProtocolError(f"'{_COUNTS}' must be whole numbers of at most ±{_HEAVIEST:g}")
    return Counts(values=tuple(int(value) for value in values))
