"""Parquet files, a batch at a time and only the columns that are wanted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedmodel.data.columns import Columns, problem
from fedmodel.data.headers import dotted
from fedmodel.data.opened import reading
from fedmodel.data.rows import Rows
from fedmodel.data.table import Table
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["read_parquet"]

_BATCH = 4096


def read_parquet(path: Path, name: str, columns: Columns, watch: Watch = UNWATCHED) -> Rows:
    """Read a Parquet file.

    Numbers of a column for which the ``datasets`` library has kept names (``ClassLabel``) become
    those names.

    Args:
        path: the file.
        name: what messages call it.
        columns: which columns to read; one with dots may lie in a column of structs.
        watch: who is told how far it is.

    Returns:
        The rows.

    Raises:
        DataError: for the first thing that isn't usable, with its row.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    table = Table(name, columns)
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            schema = file.schema_arrow
            used = table.open(schema.names, leaves=lambda: dotted(_types(schema)))
            table.name_classes(_features((schema.metadata or {}).get(b"huggingface", b"{}")))
            with reading(watch, name, file.metadata.num_rows):
                wanted = list(dict.fromkeys(used))
                for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
                    values = [batch.column(column).to_pylist() for column in used]
                    for row in zip(*values, strict=True):
                        table.add(row)
                    watch.advance(len(batch))
    # Arrow's own message may quote the bytes it stumbled over, so it isn't passed on.
    except (pa.ArrowException, OSError, ValueError, KeyError):
        raise problem(
            name,
            f"after row {len(table)}" if len(table) else "",
            expected="a whole Parquet file",
            got="one that is damaged, cut off or of another format",
            fix="copy or write the file again, or set data=csv or data=jsonl",
        ) from None
    return table.rows()


def _types(fields: Any) -> dict[str, Any]:
    """Return the types of columns by name; of a struct those of its fields."""
    import pyarrow as pa

    return {
        field.name: _types(field.type.fields) if pa.types.is_struct(field.type) else field.type
        for field in fields
    }


def _features(metadata: bytes) -> Mapping[str, Any]:
    """Return what the ``datasets`` library has noted of the columns, if it can be read."""
    try:
        found = json.loads(metadata)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
