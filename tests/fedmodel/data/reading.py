"""Files written and read in one go, and refusals that show no row."""

from pathlib import Path
from typing import Any

import pytest

from fedmodel import config, tasks
from fedmodel.data import Rows, Source, Tables, load
from fedmodel.errors import DataError
from fedmodel.seeds import Seed
from tests.fedmodel.data.files import source_kind

__all__ = ["SEVERAL", "SINGLE", "loaded", "read", "refused"]

SINGLE, SEVERAL = tasks.of("sequence-classification"), tasks.of("multi-label-classification")


def loaded(path: Path, kind: str = "csv", task: tasks.Task = SINGLE, **more: Any) -> Tables:
    mapping = {"kind": source_kind(kind), "train": str(path), **more}
    return load(config.build(Source, mapping), Seed(0), 2, task)


def read(folder: Path, content: str | bytes, name: str = "rows.csv", **more: Any) -> Rows:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return loaded(path, "jsonl" if "json" in name else "csv", **more).train


def refused(folder: Path, content: str | bytes, name: str = "rows.csv", **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, content, name, **more)
    assert "SECRET" not in str(caught.value)
    return str(caught.value)
