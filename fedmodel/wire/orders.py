"""Orders of the coordinator in a run, and the message that ends it."""

from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedmodel.errors import ProtocolError
from fedmodel.update import vector_sha256
from fedmodel.wire.arrays import view
from fedmodel.wire.records import VERSION, checked_field, checked_record, named_run, unpack
from fedmodel.wire.shown import Shown, decode_shown

__all__ = ["Leave", "Order", "decode_leave", "decode_order", "encode_leave", "encode_order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the coordinator asks of a site: to train in a round, or to evaluate after the last.

    Args:
        round: number of the round, from 1; for an evaluation, of the last one.
        run: which run this belongs to.
        job_sha256: and which job.
        vector: the current trainable parameters, float32 ``[trainable]``, read-only.
        model: SHA-256 (hex) of them.
        entries: how many the site's ledger has in the newest head that the coordinator keeps; the
            answer proves that it has grown from there.
        shown: of the coordinator's own ledger; ``None``: it keeps none.
    """

    round: int
    run: str
    job_sha256: str
    vector: NDArray[np.float32]
    model: str = ""
    entries: int = 0
    shown: Shown | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """What the coordinator tells a site when a run ends.

    Args:
        run: which one.
        job_sha256: of which job.
        failed: it didn't come to its end.
        entries: as in an order.
        shown: likewise.
    """

    run: str
    job_sha256: str
    failed: bool
    entries: int = 0
    shown: Shown | None = None


def encode_order(
    run: str,
    round_: int,
    job_sha256: str,
    vector: Array,
    entries: int = 0,
    model: str | None = None,
) -> RecordDict:
    """Return the content of a train or evaluate message (see :class:`Order`), but what is shown.

    Args:
        run: which run it belongs to.
        round_: of it.
        job_sha256: of its job.
        vector: the parameters, packed once for all sites.
        entries: of the site's ledger.
        model: SHA-256 (hex) of the parameters, where it is known already.
    """
    record = ConfigRecord({"version": VERSION, "run": run, "round": round_, "job": job_sha256})
    record["model"] = model or vector_sha256(view(vector, "float32"))
    record["entries"] = entries
    return RecordDict({"arrays": ArrayRecord({"vector": vector}), "config": record})


def decode_order(content: RecordDict) -> Order:
    """Return the order in a train or evaluate message.

    Raises:
        ProtocolError: if it is malformed, or its vector isn't finite or isn't the one it names.
    """
    record = checked_record(content)
    vector = unpack(content)
    if not np.isfinite(vector).all():
        raise ProtocolError("the parameters hold NaN or infinity")
    round_ = checked_field(record, "round", int)
    if round_ < 1:
        raise ProtocolError(f"round must be at least 1, got {round_}")
    job = checked_field(record, "job", str)
    model, found = checked_field(record, "model", str), vector_sha256(vector)
    if model != found:
        raise ProtocolError(
            f"the order names parameters of SHA-256 {model[:16]!r}, and {found[:16]!r} came with "
            "it: they were changed on the way; find what stands between"
        )
    return Order(
        round=round_,
        run=named_run(record),
        job_sha256=job,
        vector=vector,
        model=model,
        entries=_entries(record),
        shown=decode_shown(record),
    )


def _entries(record: ConfigRecord) -> int:
    entries: int = checked_field(record, "entries", int)
    if entries < 0:
        raise ProtocolError(f"entries must not be negative, got {entries}")
    return entries


def encode_leave(leave: Leave) -> RecordDict:
    """Return the content of the message that ends a run, but what is shown."""
    record = ConfigRecord({"version": VERSION, "run": leave.run, "job": leave.job_sha256})
    record["failed"] = leave.failed
    record["entries"] = leave.entries
    return RecordDict({"config": record})


def decode_leave(content: RecordDict) -> Leave:
    """Return what a message that ends a run says.

    Raises:
        ProtocolError: if it is malformed.
    """
    record = checked_record(content)
    job, failed = checked_field(record, "job", str), checked_field(record, "failed", bool)
    run, entries = named_run(record), _entries(record)
    shown = decode_shown(record)
    return Leave(run=run, job_sha256=job, failed=failed, entries=entries, shown=shown)
