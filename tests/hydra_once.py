"""Configuration files that are read once a session, however many jobs the tests compose.

Hydra reads, parses and merges every file for each composition, which takes longer than most tests.
So what the same choices of groups give is kept; values are set on a copy of it each time.
"""

import copy
import functools
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, cast

__all__ = ["read_files_once"]

Folder = tuple[str, tuple[tuple[str, int, int], ...]]


def read_files_once() -> None:
    """Have Hydra remember what it has read and merged, while the files stay as they are."""
    from hydra import version
    from hydra._internal import config_loader_impl
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins

    Plugins.instance()  # registers the sources
    for scheme in ("file", "pkg"):
        _remember_files(SourcesRegistry.instance().resolve(scheme))
    loader, compared = cast(Any, config_loader_impl), cast(Any, version)
    loader.create_defaults_list = _remembered_list(loader.create_defaults_list)
    name = "_compose_config_from_defaults_list"
    setattr(
        loader.ConfigLoaderImpl, name, _remembered_merge(getattr(loader.ConfigLoaderImpl, name))
    )
    compared._get_version = functools.cache(compared._get_version)  # asked 250 times each time


def _remember_files(source: Any) -> None:
    real = source.load_config
    known: dict[Any, Any] = {}

    @functools.wraps(real)
    def load_config(self: Any, config_path: str) -> Any:
        key = (self.path, config_path, _changed(self.path, config_path))
        if key not in known:
            known[key] = real(self, config_path)
        return copy.deepcopy(known[key])  # composing takes the list of defaults out of it

    source.load_config = load_config


def _remembered_list(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what finds which files are merged, and remembers it by the choices of groups."""
    from hydra._internal.defaults_list import DefaultsList, Overrides

    known: dict[Hashable, Any] = {}

    def create_defaults_list(**asked: Any) -> Any:
        repo, overrides = asked["repo"], asked["overrides_list"]
        groups = tuple(o.input_line for o in overrides if repo.group_exists(o.key_or_group))
        key = (_folders(repo), asked["config_name"], asked["skip_missing"], groups)
        if key not in known:
            known[key] = real(**asked)
        found, now = known[key], Overrides(repo=repo, overrides_list=overrides)
        now.known_choices = dict(found.overrides.known_choices)
        return DefaultsList(found.defaults, found.defaults_tree, now.config_overrides, now)

    return create_defaults_list


def _remembered_merge(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what merges files, and remembers what came of the same ones."""
    known: dict[Hashable, Any] = {}

    def merge(self: Any, defaults: Any, repo: Any) -> Any:
        key = (_folders(repo), repr(defaults))
        if key not in known:
            known[key] = real(self, defaults=defaults, repo=repo)
        return copy.deepcopy(known[key])

    return merge


def _folders(repo: Any) -> Hashable:
    """Return the folders that files come from, and how each file in them is now."""
    return tuple(
        (source.path, _state(source.path))
        for source in repo.get_sources()
        if source.scheme() == "file"
    )


def _state(folder: str) -> Hashable:
    found = ((path, path.stat()) for path in sorted(Path(folder).rglob("*.yaml")))
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


def _changed(folder: str, name: str) -> tuple[int, int] | None:
    path = Path(folder, name if name.endswith(".yaml") else f"{name}.yaml")
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size
