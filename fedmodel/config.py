"""Plain mappings to frozen dataclasses and back, strictly.

A configuration crosses a trust boundary (a coordinator sends a job to a hospital), so it is data
only: no class paths, nothing is imported or evaluated because of it.
"""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import rfc8785

from fedmodel.errors import ConfigError

__all__ = [
    "ABSENT",
    "build",
    "canonical",
    "digest",
    "field_type",
    "nearest",
    "require_hex",
    "require_time",
    "sha256",
    "suggest",
    "to_mapping",
]

T = TypeVar("T")

# Metadata of a dataclass's field that is left out of mappings, and so of JSON, where it has its
# default: for what is newer than a format, whose older texts then keep their hashes.
ABSENT: Mapping[str, Any] = types.MappingProxyType({"absent": True})
_MAPPINGS = (dict, Mapping)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_HEX = re.compile("[0-9a-f]*")
_LONGEST_WORD = 100  # characters of a name that anybody could have meant
_LONGEST_SHOWN = 200

# A value in a message may be as long as what came from outside.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _LONGEST_SHOWN
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 20


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to ``word``, or ``""``.

    >>> suggest("epsilom", ["epsilon", "delta"])
    " (did you mean 'epsilon'?)"
    """
    near = nearest(word, known)
    return "" if near is None else f" (did you mean '{near}'?)"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to ``word``, if one is near.

    >>> nearest("epsilom", ["epsilon", "delta"])
    'epsilon'
    """
    if len(word) > _LONGEST_WORD:
        return None  # it may come from outside, and looking for it takes time and memory
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def build(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Make a frozen dataclass from a plain mapping; nothing is guessed.

    Args:
        cls: the dataclass to make. Its fields may be ``bool``, ``int``, ``float``, ``str``, a
            ``Literal``, ``tuple[X, ...]``, ``Mapping[str, X]`` (read into a new dict), another
            dataclass, ``Any`` (plain data, taken as it is), or any of them ``| None``.
        mapping: keys are field names. A missing key takes the field's default.
        where: dotted path of ``mapping`` in the whole configuration, for messages.

    Returns:
        The instance, after its own ``__post_init__`` checks.

    Raises:
        ConfigError: for an unknown or missing key (with the nearest known one) or a value of the
            wrong type or outside its choices.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"'{where or cls.__name__}' must be a mapping of keys to values, "
            f"got {type(mapping).__name__}: {_REPR.repr(mapping)}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where}." if where else ""
    for key in mapping:
        if key not in fields:
            raise ConfigError(
                f"unknown key '{prefix}{key!s:.{_LONGEST_SHOWN}}'{suggest(str(key), fields)}; "
                f"known here: {', '.join(sorted(fields))}"
            )
    kind: Any = cls
    hints = _hints(kind)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], prefix + name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key '{prefix}{name}' ({field_type(hints[name])})")
    return cls(**values)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    # Resolving them takes a third of a build's time, and a ledger has thousands of equal lines.
    return typing.get_type_hints(cls)


def field_type(hint: Any) -> str:
    """Say in words what a type hint accepts, for messages and help."""
    if typing.get_origin(hint) is Literal:
        return "one of " + "|".join(str(c) for c in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(
            "null" if a is type(None) else field_type(a) for a in typing.get_args(hint)
        )
    if typing.get_origin(hint) is tuple:
        return f"a list of {field_type(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) in _MAPPINGS:
        return f"a mapping of names to {field_type(typing.get_args(hint)[1])}"
    if hint is Any:
        return "anything"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = [a for a in args if a is not type(None)]
        return _convert(inner, value, where)
    if origin is Literal:
        # YAML reads a bare `off`/`on` as a boolean; the choice is meant as written.
        text = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
        if text not in args:
            known = [str(a) for a in args]
            raise ConfigError(
                f"{where}={_REPR.repr(value)} isn't a choice{suggest(str(value), known)}; "
                f"expected one of: {', '.join(known)}"
            )
        return text
    if origin is tuple:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise _wrong(hint, value, where)
        return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in _MAPPINGS:
        return _mapping(hint, value, where)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else build(hint, value, where)
    return _scalar(hint, value, where)


def _mapping(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(hint, value, where)
    inner = typing.get_args(hint)[1]
    return {key: _convert(inner, v, f"{where}.{key}") for key, v in value.items()}


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise _wrong(hint, value, where) from error
    if isinstance(value, bool) and hint is not bool:
        raise _wrong(hint, value, where)
    if not isinstance(value, hint):
        # "1e-4" is text to YAML 1.1; a person means a number.
        if hint is float and isinstance(value, str):
            try:
                return _scalar(float, float(value), where)
            except ValueError:
                pass
        raise _wrong(hint, value, where)
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value}")
    return value


def _wrong(hint: Any, value: Any, where: str) -> ConfigError:
    # What YAML takes for a number or a switch can't be made text again: 2024_01 is 202401 to it.
    fix = "; put it in quotes" if hint is str and isinstance(value, bool | int | float) else ""
    return ConfigError(f"{where} must be {field_type(hint)}, got {_REPR.repr(value)}{fix}")


def to_mapping(obj: Any) -> Any:
    """Return a dataclass as plain dicts, lists and scalars (tuples become lists)."""
    if obj is None or isinstance(obj, str | int | float):  # what most of it is
        return obj
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        values = ((name, getattr(obj, name), absent) for name, absent in _shown(type(obj)))
        return {name: to_mapping(value) for name, value, absent in values if value != absent}
    if isinstance(obj, Mapping):
        return {str(k): to_mapping(v) for k, v in obj.items()}
    if isinstance(obj, list | tuple):
        return [to_mapping(v) for v in obj]
    return obj


_NEVER = object()


@functools.cache
def _shown(kind: Any) -> tuple[tuple[str, Any], ...]:
    """Return the fields of a dataclass, each with the value with which it is left out."""
    return tuple(
        (f.name, f.default if f.metadata.get("absent") else _NEVER)
        for f in dataclasses.fields(kind)
    )


def require_hex(name: str, text: str, digits: int) -> None:
    """Check for lower-case hex of a certain length.

    Raises:
        ConfigError: for anything else.
    """
    if len(text) != digits or _HEX.fullmatch(text) is None:
        raise ConfigError(
            f"{name} must be {digits} digits of lower-case hex, got {text[:80]!r:.80}"
        )


def require_time(text: str) -> None:
    """Check for a time as RFC 3339 writes it, in UTC, to the second.

    Raises:
        ConfigError: for anything else.
    """
    if not _TIME.fullmatch(text):
        raise ConfigError(f"time must look like 2026-01-31T12:00:00Z, got {text!r:.40}")


def canonical(obj: Any) -> bytes:
    """Return the canonical JSON (RFC 8785) of a dataclass or plain value.

    Raises:
        ConfigError: if the value has no canonical form (NaN, an integer of 2**53 or more).
    """
    try:
        return rfc8785.dumps(to_mapping(obj))
    except rfc8785.CanonicalizationError as error:
        raise ConfigError(f"no canonical JSON form: {error}") from error


def parsed(text: bytes) -> Any:
    """Return what JSON from outside says.

    Raises:
        ConfigError: when it isn't JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"expected JSON, got something else ({type(error).__name__})") from error


def parse(make: Callable[[Any], T], text: bytes) -> T:
    """Return what canonical JSON says: the inverse of :func:`canonical`.

    Args:
        make: of a plain mapping, such as :func:`build` of a class.
        text: from outside.

    Raises:
        ConfigError: unless the text is, byte for byte, what ``canonical`` makes of it.
    """
    made = make(parsed(text))
    if canonical(made) != text:
        raise ConfigError("it isn't in canonical JSON (RFC 8785)")
    return made


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def digest(obj: Any) -> str:
    """Return the SHA-256 (hex) of an object's canonical JSON."""
    return sha256(canonical(obj))
