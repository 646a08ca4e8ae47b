"""Folders and hub names, through the ``datasets`` library.

A folder is read where it stands: nothing of it is copied into a cache, since a second copy of the
rows on a disk is one more place to guard.
"""

import gc
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmodel.data.rows import Rows
from fedmodel.data.table import Columns, Table, problem
from fedmodel.errors import DataError

__all__ = ["read_folder", "read_hub"]

_BATCH = 1000
_SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")


def read_folder(path: Path, name: str, split: str | None, columns: Columns) -> Rows:
    """Read a folder written by ``save_to_disk``, or one that ``load_dataset`` understands.

    Args:
        path: the folder.
        name: what messages call it.
        split: which split to take of several; None takes ``test`` or the only one.
        columns: which columns to read.

    Returns:
        The rows of the split.

    Raises:
        DataError: for the first thing that isn't usable, with its row.
    """
    import datasets

    saved = any((path / file).is_file() for file in _SAVED)

    def opened() -> Any:
        if saved:
            return datasets.load_from_disk(str(path))
        # Even a stream leaves a lock file where its cache would be.
        with tempfile.TemporaryDirectory() as nowhere:
            return datasets.load_dataset(str(path), streaming=True, cache_dir=nowhere)

    with _quiet():
        found = _guarded(opened, name, "a folder of save_to_disk or of data files")
        if isinstance(found, dict):
            split = _split(name, list(found), split)
            name = f"{name}[{split}]"
            found = found[split]
        return _collect(found, name, columns)


def read_hub(
    path: str, config: str | None, revision: str | None, split: str, columns: Columns
) -> Rows:
    """Read one split of a dataset of the Hugging Face hub (downloads it into its cache).

    Args:
        path: hub id, such as ``org/name``.
        config: name of the configuration, where it has several.
        revision: commit, tag or branch.
        split: name of the split.
        columns: which columns to read.

    Returns:
        The rows of the split.

    Raises:
        DataError: if it can't be loaded, or for the first row that isn't usable.
    """
    import datasets

    def opened() -> Any:
        return datasets.load_dataset(path, config, revision=revision, split=split)

    name = f"{path}[{split}]"
    with _quiet():
        return _collect(_guarded(opened, name, "a dataset of the hub"), name, columns)


def _guarded(opened: Callable[[], Any], name: str, expected: str) -> Any:
    # The libraries below raise many types of errors, and some quote rows: only the type is told,
    # and the error itself isn't kept as a cause.
    try:
        return opened()
    except Exception as error:
        fault = type(error).__name__
    raise problem(
        name,
        "",
        expected=expected,
        got=f"an error in loading it ({fault})",
        fix="check the name, the split, the files and the network (data.train, data.name, "
        "data.revision, data.train_split, data.test_split)",
    )


def _split(name: str, known: list[str], wanted: str | None) -> str:
    if wanted in known:
        return str(wanted)
    if wanted is None and "test" in known:
        return "test"
    if wanted is None and len(known) == 1:
        return known[0]
    raise problem(
        name,
        "",
        expected=f"a split '{wanted or 'test'}'",
        got=f"the splits: {', '.join(known)}",
        fix="set data.train_split and data.test_split",
    )


def _collect(found: Any, name: str, columns: Columns) -> Rows:
    table = Table(name, columns)
    fault = ""
    try:
        for values in _values(found, table):
            table.add(values)
    except DataError:
        raise
    except Exception as error:
        fault = type(error).__name__
    if fault:
        raise problem(
            name,
            f"after row {len(table)}" if len(table) else "",
            expected="rows that can be read",
            got=f"an error ({fault})",
            fix="write the files again; one of them may be damaged or cut off",
        )
    return table.rows()


def _values(found: Any, table: Table) -> Iterator[list[object]]:
    # Files that are streamed may not know their columns before the first row.
    features = found.features or dict.fromkeys(next(iter(found), ()))
    if not features:
        return
    used = table.open(list(features))
    names = [None if column in table.flags else _class_names(features[column]) for column in used]
    found = found.with_format(None).select_columns(used)
    for batch in found.iter(batch_size=_BATCH):
        for row in zip(*(batch[column] for column in used), strict=True):
            yield [_named(value, known) for value, known in zip(row, names, strict=True)]


def _class_names(feature: Any) -> list[str] | None:
    """Return the names that a column's numbers, or the numbers in its lists, stand for."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def _named(value: object, names: list[str] | None) -> object:
    if names is not None and isinstance(value, list):
        return [_named(part, names) for part in value]
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and the library's own log, which may quote what it can't read."""
    import datasets

    shown, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL + 1)
    # It leaves files open for the collector to find, which warns of each.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            yield
        finally:
            gc.collect()
            datasets.logging.set_verbosity(level)
            if shown:
                datasets.enable_progress_bars()
