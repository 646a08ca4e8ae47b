"""Parquet files, a batch at a time and only the columns that are wanted."""

from pathlib import Path

from fedmodel.data.rows import Rows
from fedmodel.data.table import Columns, Table, problem

__all__ = ["read_parquet"]

_BATCH = 4096


def read_parquet(path: Path, name: str, columns: Columns) -> Rows:
    """Read a Parquet file.

    Args:
        path: the file.
        name: what messages call it.
        columns: which columns to read.

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
            used = table.open(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_BATCH, columns=used):
                values = [batch.column(column).to_pylist() for column in used]
                for row in zip(*values, strict=True):
                    table.add(row)
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
