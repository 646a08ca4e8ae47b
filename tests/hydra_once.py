"""Configuration files that are read once a session, however many jobs the tests compose.

Hydra reads and parses every file for each composition, which takes longer than most tests.
"""

import copy
import functools
from pathlib import Path
from typing import Any

__all__ = ["read_files_once"]


def read_files_once() -> None:
    """Have Hydra's sources remember what they have read, while the file stays as it is."""
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the sources
    for scheme in ("file", "pkg"):
        _remember(SourcesRegistry.instance().resolve(scheme))


def _remember(source: Any) -> None:
    real = source.load_config
    known: dict[Any, Any] = {}

    @functools.wraps(real)
    def load_config(self: Any, config_path: str) -> Any:
        key = (self.path, config_path, _changed(self.path, config_path))
        if key not in known:
            known[key] = real(self, config_path)
        return copy.deepcopy(known[key])  # composing takes the list of defaults out of it

    source.load_config = load_config


def _changed(folder: str, name: str) -> tuple[int, int] | None:
    path = Path(folder, name if name.endswith(".yaml") else f"{name}.yaml")
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size
