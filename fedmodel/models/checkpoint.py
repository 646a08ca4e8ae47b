"""Checkpoint of a base model: its files of weights, each named by the SHA-256 of its bytes."""

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from fedmodel import job
from fedmodel.models.source import Source, find

__all__ = ["checkpoint"]

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def checkpoint(model: job.Model) -> tuple[str, ...]:
    """Return the SHA-256 (hex) of each file of weights that a job's model starts from, in order.

    Each is what ``sha256sum`` prints, and what a hub shows beside the file. Nothing is fetched: the
    model was loaded before, or isn't here.

    Args:
        model: of the job.

    Returns:
        None at all for a model without files (``tiny``), or one whose files aren't all here.

    Raises:
        MissingExtraError: if ``minilm``'s package isn't installed.
        ModelError: if ``path`` looks like a folder that isn't there or holds no model.
    """
    source = find(model)
    if source is None:
        return ()
    found = [_file(source, name) for name in _names(source)]
    return tuple(sorted({_sha256(path) for path in found if path})) if all(found) else ()


def _names(source: Source) -> Iterator[str]:
    """Yield the names of the files, in the order in which transformers looks for them."""
    index = None if _file(source, _WHOLE) else _file(source, _INDEX)
    if index is None:
        yield _WHOLE
        return
    shards = json.loads(index.read_bytes())["weight_map"].values()
    yield from sorted(set(shards))


def _file(source: Source, name: str) -> Path | None:
    if not source.hub:
        path = Path(source.name) / name
        return path if path.is_file() else None
    found = try_to_load_from_cache(source.name, name, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _hashed(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=64)  # a sweep asks for the same files again and again
def _hashed(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
