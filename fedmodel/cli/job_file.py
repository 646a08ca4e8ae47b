"""File of keys: what a command line could say, written down once (``fedmodel serve job=PATH``)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmodel import _files
from fedmodel._paths import conf_dir
from fedmodel._yaml import LARGEST, parse_yaml
from fedmodel.cli.composing import as_quoted, as_typed
from fedmodel.errors import ConfigError

__all__ = ["with_file"]

_YAML, _WHOLE = (".yaml", ".yml"), ".json"
_SWITCHES = {True: "on", False: "off"}


def with_file(overrides: Sequence[str], key: str) -> list[str]:
    """Return overrides with those of a YAML file before them, which they outrank.

    Args:
        overrides: of the command line.
        key: that names the file. What ends in ``.json`` is a whole job, and no such file.

    Raises:
        ConfigError: for a file that can't be read, or isn't of keys with values.
    """
    path = _named(overrides, key)
    if path is None or path.suffix == _WHOLE:
        return list(overrides)
    if path.suffix not in _YAML:
        raise ConfigError(
            f"{key}={path}: expected a file of keys (.yaml), or a whole job (.json), got "
            f"{path.suffix or 'neither'}"
        )
    try:
        found = parse_yaml(_files.read(path, LARGEST + 1))
        return [*_overrides(found, key), *overrides]
    except OSError as error:
        raise ConfigError(f"{key}={path} can't be read: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _named(overrides: Sequence[str], key: str) -> Path | None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    given = [each for each in overrides if each.lstrip("+").partition("=")[0] == key]
    if not given:
        return None
    try:
        value = OverridesParser.create().parse_overrides(as_typed(given[-1:], {key}))[0].value()
    except OverrideParseException:
        return None  # what is wrong with it is said where all are read
    return Path(value).expanduser() if isinstance(value, str) and value.strip() else None


def _overrides(found: Mapping[str, Any], key: str) -> Iterator[str]:
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    for name, value in found.items():
        if name == key:
            raise ConfigError(f"'{key}' in the file that it names; leave it out")
        if isinstance(value, Mapping):
            for inner, deeper in _flat(value, f"{name}."):
                yield f"{inner}={_written(inner, deeper)}"
        elif name in groups and isinstance(value, str | bool):
            # A bare `on` or `off` is a switch to YAML, and a choice here.
            yield f"{name}={_SWITCHES[value] if isinstance(value, bool) else value}"
        else:
            yield f"{name}={_written(name, value)}"


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _written(key: str, value: Any) -> str:
    """Return a value as an override writes it, in quotes where it is text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return as_quoted(" ".join(value.split()))
    if isinstance(value, list):
        return f"[{','.join(_written(key, each) for each in value)}]"
    raise ConfigError(f"{key}: expected text, a number, true, false or a list, got {value!r:.60}")
