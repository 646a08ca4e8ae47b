"""Folders and hub names, through the ``datasets`` library.

The library finds the files and their splits. Files of CSV, JSON and Parquet are then read by the
same readers as elsewhere, for the library guesses types (``01`` becomes 1). A folder is read where
it stands: nothing of it is copied into a cache, since a second copy of the rows on a disk is one
more place to guard.
"""

import gc
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from fedmodel.data.columns import Columns, problem
from fedmodel.data.headers import dotted
from fedmodel.data.opened import Form, reading
from fedmodel.data.read_csv import read_csv
from fedmodel.data.read_jsonl import read_jsonl
from fedmodel.data.read_parquet import read_parquet
from fedmodel.data.rows import Rows
from fedmodel.data.table import Table
from fedmodel.errors import DataError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["Found", "find_folder", "find_hub"]

_BATCH = 1000
_SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")
# What a dataset's card may say of its files and our readers know too.
_KNOWN = {"name", "version", "data_dir", "data_files", "description", "features"}
_KNOWN |= {"sep", "delimiter", "encoding"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A dataset that was found, by its splits; nothing of it is read yet.

    Args:
        name: what messages call it.
        splits: name of each split → what reads it, given what messages call it; the only one of a
            dataset without splits has the name ``""``.
        load: reads a split by its name, where the names aren't known for sure.
        known: names that are probably there then.
    """

    name: str
    splits: Mapping[str, "Read"]
    load: "Callable[[str], Read] | None" = None
    known: tuple[str, ...] = ()

    def read(self, split: str | None, columns: Columns) -> Rows:
        """Read one split.

        Args:
            split: which; ``None`` takes ``test`` or the only one.
            columns: which columns to read.

        Raises:
            DataError: if there is no such split, or for the first row that isn't usable.
        """
        if "" in self.splits:
            chosen, name = "", self.name
        else:
            known = list(self.splits)
            chosen = str(split) if self.load else _split(self.name, known, split)
            name = f"{self.name}[{chosen}]"
        with _quiet():
            return (self.load or self.splits.__getitem__)(chosen)(name, columns)

    def others(self, *used: str | None) -> list[str]:
        """Return the names of the splits that aren't used."""
        return [name for name in self.splits or self.known if name and name not in used]


Read: TypeAlias = Callable[[str, Columns], Rows]


def find_folder(path: Path, name: str, form: Form, watch: Watch = UNWATCHED) -> Found:
    """Find a folder written by ``save_to_disk``, or one that ``load_dataset`` understands.

    Args:
        path: the folder.
        name: what messages call it.
        form: how its files of text are written.
        watch: who is told how far the reading is.

    Raises:
        DataError: if it is neither.
    """
    import datasets

    expected = "a folder of save_to_disk or of data files"
    with _quiet():
        if any((path / file).is_file() for file in _SAVED):
            found = _guarded(lambda: datasets.load_from_disk(str(path)), name, expected)
            return Found(name=name, splits=_tables(found, watch))
        # Even a stream leaves a lock file where its cache would be.
        with tempfile.TemporaryDirectory() as nowhere:
            builder = _guarded(
                lambda: datasets.load_dataset_builder(str(path), cache_dir=nowhere), name, expected
            )
            splits = _files(builder, form, str, watch)
            if splits is None:
                found = _guarded(
                    lambda: datasets.load_dataset(str(path), streaming=True, cache_dir=nowhere),
                    name,
                    expected,
                )
                splits = _tables(found, watch)
    return Found(name=name, splits=splits)


def find_hub(
    path: str,
    config: str | None,
    revision: str | None,
    form: Form,
    watch: Watch = UNWATCHED,
) -> Found:
    """Find a dataset of the Hugging Face hub (its files are downloaded into the hub's cache).

    Args:
        path: hub id, such as ``org/name``.
        config: name of the configuration, where it has several.
        revision: commit, tag or branch.
        form: how its files of text are written.
        watch: who is told how far the reading is.
    """
    import datasets

    splits: dict[str, Read] | None = None
    known: tuple[str, ...] = ()
    with _quiet():
        try:
            builder = datasets.load_dataset_builder(path, config, revision=revision)
        except Exception:  # a dataset that was loaded once is in a cache, with or without a network
            builder = None
        if builder is not None:
            loader = datasets.DownloadManager(dataset_name=builder.dataset_name)
            splits = _files(builder, form, loader.download, watch)
            known = tuple(map(str, builder.config.data_files or ()))
    if splits is not None:
        return Found(name=path, splits=splits)

    def load(split: str) -> Read:
        def read(name: str, columns: Columns) -> Rows:
            found = _guarded(
                lambda: datasets.load_dataset(path, config, revision=revision, split=split),
                name,
                "a dataset of the hub",
            )
            return _collect(found, name, columns, watch)

        return read

    return Found(name=path, splits={}, load=load, known=known)


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


def _tables(found: Any, watch: Watch) -> dict[str, Read]:
    """Return the splits of what the library has opened."""

    def reader(table: Any) -> Read:
        return lambda name, columns: _collect(table, name, columns, watch)

    if isinstance(found, dict):
        return {str(split): reader(table) for split, table in found.items()}
    return {"": reader(found)}


def _files(
    builder: Any, form: Form, local: Callable[[str], str], watch: Watch
) -> dict[str, Read] | None:
    """Return the splits of files that our own readers read; ``None`` where they can't."""
    config, features = builder.config, builder.info.features
    if builder.name not in ("csv", "json", "parquet") or not config.data_files:
        return None
    if unusual := _unusual(config):
        logger.warning(
            "%s: its card sets %s; it is read as the datasets library reads it, which may take a "
            "text such as 01 for the number 1",
            builder.dataset_name, ", ".join(unusual),
        )  # fmt: skip
        return None
    noted = {} if features is None else features.to_dict()
    if builder.name == "csv":
        separator = config.delimiter or config.sep
        form = replace(
            form,
            separator=form.separator or (None if separator == "," else separator),
            encoding=form.encoding or config.encoding,
        )

    def one(file: str, name: str, columns: Columns) -> Rows:
        path = Path(_guarded(lambda: local(file), name, "a file that can be downloaded"))
        if builder.name == "csv":
            return read_csv(path, name, columns, form, watch)
        if builder.name == "json":
            return read_jsonl(path, name, columns, form, watch)
        return read_parquet(path, name, columns, watch)

    def reader(files: Sequence[str]) -> Read:
        def read(name: str, columns: Columns) -> Rows:
            columns = replace(columns, features=noted)
            names = [f"{name}, {file.rpartition('/')[2]}" for file in files]
            return Rows.concat(map(one, files, names, [columns] * len(files)))

        return read

    return {str(split): reader(list(map(str, f))) for split, f in config.data_files.items()}


def _unusual(config: Any) -> list[str]:
    """Return the settings of a dataset's card that our own readers don't know."""
    return [
        field.name
        for field in fields(config)
        if field.name not in _KNOWN
        and field.default is not MISSING
        and getattr(config, field.name) != field.default
    ]


def _collect(found: Any, name: str, columns: Columns, watch: Watch) -> Rows:
    table = Table(name, columns)
    fault = ""
    try:
        with reading(watch, name, getattr(found, "num_rows", None)):
            for values in _values(found, table):
                table.add(values)
                watch.advance()
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


def _values(found: Any, table: Table) -> Iterator[Sequence[object]]:
    # Files that are streamed may not know their columns before the first row.
    features = found.features or dict.fromkeys(next(iter(found), ()))
    if not features:
        return
    noted = found.features.to_dict() if found.features else {}
    used = table.open(list(features), leaves=lambda: dotted(_untyped(noted)) or list(features))
    table.name_classes(noted)
    found = found.with_format(None).select_columns(list(dict.fromkeys(used)))
    for batch in found.iter(batch_size=_BATCH):
        yield from zip(*(batch[column] for column in used), strict=True)


def _untyped(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested columns as mappings, and ``None`` for what is no mapping but has a type."""
    return {
        name: _untyped(inner) if isinstance(inner, dict) and "_type" not in inner else None
        for name, inner in features.items()
    }


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
