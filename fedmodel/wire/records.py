"""Records that every message has: a version, and the parameters as one float32 array."""

from typing import Any, TypeAlias

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.runs import check_run
from fedmodel.wire.arrays import flat_array, view

__all__ = ["VERSION", "Content", "checked_field", "checked_record", "named_run", "pack", "unpack"]

VERSION = "fedmodel.wire/2"

# What a message holds, for those who pass it on without looking into it.
Content: TypeAlias = RecordDict


def pack(vector: NDArray[np.float32]) -> Array:
    """Serialise a vector once; the result can go into many messages."""
    flat = np.ascontiguousarray(vector, dtype="<f4")
    return flat_array(flat.data, "float32") if flat.ndim == 1 else Array(flat)


def unpack(content: RecordDict) -> NDArray[np.float32]:
    """Return the one vector in a content, read-only.

    Raises:
        ProtocolError: when there is none, or it isn't flat float32.
    """
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


def checked_record(content: RecordDict) -> ConfigRecord:
    """Return a content's record of fields.

    Raises:
        ProtocolError: when there is none, or it is of another version.
    """
    record = content.get("config")
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("expected a configuration record named 'config'")
    if record.get("version") != VERSION:
        raise ProtocolError(
            f"expected version {VERSION!r}, got {str(record.get('version'))[:40]!r}; "
            "install the same fedmodel version everywhere"
        )
    return record


def checked_field(record: ConfigRecord, name: str, kind: type) -> Any:
    """Return a field of a record.

    Raises:
        ProtocolError: when it isn't there, or of another type.
    """
    value = record.get(name)
    if type(value) is not kind:
        raise ProtocolError(f"field '{name}': expected {kind.__name__}, got {type(value).__name__}")
    return value


def named_run(record: ConfigRecord) -> str:
    """Return the run that a record is of.

    Raises:
        ProtocolError: when it names none, or its name could be that of something else on a disk.
    """
    try:
        return check_run(checked_field(record, "run", str))
    except ConfigError as error:
        raise ProtocolError(f"{error}; a run folder's manifest has the run's own") from error
