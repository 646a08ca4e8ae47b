"""Bytes of a protocol as uint8 arrays of a record: text and ciphertexts of any size.

Flower cuts arrays into pieces on the way, and sends the bytes of a configuration record whole.
"""

import math
import struct

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from numpy.typing import NDArray

from fedmodel.errors import ProtocolError
from fedmodel.update import Update
from fedmodel.wire.arrays import flat_array, view

__all__ = ["LONGEST", "add_parcel", "parcel", "update_from_bytes", "update_size", "update_to_bytes"]

# Bytes of a protocol's message: more than among as many sites as the largest roster has.
LONGEST = 1 << 23
_RECORD = "parcels"
_UPDATE = b"fedmodel.update/1\n"
_HEAD = 16  # bytes: weight and training loss
_METRICS = ("train_loss",)


def add_parcel(content: RecordDict, name: str, data: bytes | NDArray[np.uint8]) -> RecordDict:
    """Put bytes into a content, and return it.

    Args:
        content: a message's.
        name: of the parcel.
        data: bytes, or uint8 of one dimension.
    """
    record = content.get(_RECORD)
    if not isinstance(record, ArrayRecord):
        record = content[_RECORD] = ArrayRecord()
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).data
    record[name] = flat_array(raw, "uint8")
    return content


def parcel(
    content: RecordDict, name: str, size: int | None = None, *, most: int | None = None
) -> NDArray[np.uint8]:
    """Return the bytes in a content, as uint8 of one dimension.

    Args:
        content: from outside.
        name: of the parcel.
        size: how many bytes it must have; ``None``: any number.
        most: how many it may have.

    Raises:
        ProtocolError: when there is none, or it is something else.
    """
    record = content.get(_RECORD)
    if not isinstance(record, ArrayRecord) or name not in record:
        raise ProtocolError(f"expected a parcel named '{name}'")
    try:
        array = view(record[name], "uint8")
    except Exception as error:
        kind = type(error).__name__
        raise ProtocolError(f"the parcel '{name}' can't be read ({kind})") from error
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ProtocolError(
            f"the parcel '{name}' must be flat uint8, got {array.dtype} of {array.ndim} dimensions"
        )
    if size is not None and array.size != size:
        raise ProtocolError(f"the parcel '{name}' must have {size} bytes, got {array.size}")
    if most is not None and array.size > most:
        raise ProtocolError(f"the parcel '{name}' has {array.size} bytes, at most {most} may come")
    return array


def update_size(parameters: int) -> int:
    """Return how many bytes :func:`update_to_bytes` makes of an update."""
    return len(_UPDATE) + _HEAD + 4 * parameters


def update_to_bytes(update: Update) -> bytes:
    """Return an update as bytes: weight, training loss, vector (little-endian)."""
    loss = update.metrics.get(_METRICS[0], float("nan"))
    vector = np.ascontiguousarray(update.vector, dtype="<f4")
    return _UPDATE + struct.pack("<dd", update.weight, loss) + vector.tobytes()


def update_from_bytes(data: bytes) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Return the vector and the metrics (with the weight) in :func:`update_to_bytes`' bytes.

    Raises:
        ProtocolError: when they aren't such bytes.
    """
    head = len(_UPDATE) + _HEAD
    if not data.startswith(_UPDATE) or len(data) < head or (len(data) - head) % 4:
        raise ProtocolError(f"expected an update that begins with {_UPDATE[:-1].decode()!r}")
    weight, loss = struct.unpack("<dd", data[len(_UPDATE) : head])
    metrics = {"weight": weight}
    if not math.isnan(loss):  # which stands for a loss that isn't told
        metrics[_METRICS[0]] = loss
    return np.frombuffer(data, dtype="<f4", offset=head), metrics
