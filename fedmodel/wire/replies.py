"""Replies of a site: where its ledger stands, its update, its noised counts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedmodel.errors import ProtocolError
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from fedmodel.wire.records import VERSION, checked_field, checked_record, pack, unpack

__all__ = [
    "checked_update",
    "decode_counts",
    "decode_standing",
    "decode_update",
    "encode_counts",
    "encode_reply",
    "encode_update",
]

_LARGEST = 1e30
_HEAVIEST = 1e12  # rows
_METRICS = ("weight", "train_loss")
_COUNTS = "counts"
_LONGEST_PROOF = 64 * 65  # hex digits of the proof for 2**64 entries


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
    record = checked_record(content)
    if "head" not in record:
        return None
    proof = checked_field(record, "proof", str)
    if len(proof) > _LONGEST_PROOF:
        raise ProtocolError(f"a proof has at most {_LONGEST_PROOF} digits, got {len(proof)}")
    head = TreeHead.from_json(checked_field(record, "head", str))
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
    checked_record(content)
    vector = unpack(content)
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
    # Twice over it takes no room, as its absolute values would; NaN is in no range.
    if vector.size and not (vector.min() >= -_LARGEST and vector.max() <= _LARGEST):
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
    checked_record(content)
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
