"""Composed configuration: overrides of the command line over the YAML files, as a plain mapping."""

import itertools
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fedmodel._paths import conf_dir
from fedmodel.errors import ConfigError

__all__ = [
    "as_quoted",
    "as_typed",
    "check_choices",
    "compose",
    "dotted",
    "expand",
    "meant",
    "quoted",
]

_QUOTED = re.compile(r"""(['"])(?:(?!\1)[^\\]|\\.)*\1""")
# Only there have backslashes a meaning: before a quote, an interpolation and the end.
_BEFORE_MEANING = re.compile(r"(\\*)(\$\{|'|$)")


def as_typed(overrides: Sequence[str], texts: Collection[str]) -> list[str]:
    """Return overrides in which names, paths and texts are text, as they were typed.

    Hydra reads ``2024_01`` as the number 202401, and ``1e3`` as 1000.0: another name, and so
    another folder and another ledger. ``null`` stays what stands for no value at all.

    Args:
        overrides: of the command line.
        texts: keys whose values are text, or lists of texts.

    Raises:
        ConfigError: where a sweep over such a key has a value that isn't text.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    parser, found = OverridesParser.create(), []
    for override in overrides:
        key, _, value = override.partition("=")
        name = key.lstrip("+")
        if name in texts:
            try:
                parsed = parser.parse_overrides([override])[0]
            except OverrideParseException:
                parsed = None  # `expand` says what is wrong with it
            if parsed is not None and parsed.is_sweep_override():
                _check_sweep(name, parsed)
            elif parsed is not None:
                held = parsed.value()
                if isinstance(held, bool | int | float):
                    override = f"{key}='{value.strip()}'"
                elif isinstance(held, list):
                    override = f"{key}={_texts_as_typed(value.strip(), held)}"
        found.append(override)
    return found


def quoted(overrides: Sequence[str], sentences: Collection[str]) -> list[str]:
    r"""Return overrides in which sentences are in quotes, so that nothing in them has a meaning.

    A value that is in quotes already stays as it is, and so does ``null``.

    Args:
        overrides: of the command line.
        sentences: keys whose value is one.

    >>> quoted(["card.data=It's a, b (c)", "to=x"], ["card.data"])
    ["card.data='It\\'s a, b (c)'", 'to=x']
    """
    found = []
    for override in overrides:
        key, _, value = override.partition("=")
        value = " ".join(value.split())
        if key in sentences and value not in ("", "null") and not _QUOTED.fullmatch(value):
            override = f"{key}={as_quoted(value)}"
        found.append(override)
    return found


def as_quoted(text: str) -> str:
    """Return a text in quotes, so that nothing in it has a meaning."""
    return f"'{_BEFORE_MEANING.sub(_escaped, text)}'"


def _escaped(found: re.Match[str]) -> str:
    backslashes, meant = found.groups()
    return backslashes * 2 + (f"\\{meant}" if meant else "")


def _texts_as_typed(value: str, parsed: list[Any]) -> str:
    """Return a list in which what reads as numbers or switches is text, unless some is quoted."""
    if set(value[1:-1]) & set("'\"[]{}()\\$"):
        return value
    parts = [part.strip() for part in value[1:-1].split(",")]
    odd = [isinstance(each, bool | int | float) for each in parsed]
    if len(parts) != len(odd):
        return value
    texts = (f"'{part}'" if is_odd else part for part, is_odd in zip(parts, odd, strict=True))
    return f"[{','.join(texts)}]"


def _check_sweep(name: str, parsed: Any) -> None:
    odd = [v for v in parsed.sweep_iterator() if isinstance(v, bool | int | float)]
    if odd:
        raise ConfigError(
            f"{name} is text, and a sweep reads {', '.join(map(str, odd))} as a number or a "
            f"switch; put each of its values in quotes: {name}=\"'…','…'\""
        )


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return every combination of a sweep's overrides: ``a=1,2`` gives ``a=1`` and ``a=2``.

    Raises:
        ConfigError: for an override that isn't ``key=value``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException, OverrideParseException

    if "-m" in overrides or "--multirun" in overrides:
        raise ConfigError("-m comes right after the verb: fedmodel simulate -m key=value,value")
    parser, parsed = OverridesParser.create(), []
    for override in overrides:
        _check_key(override)
        try:
            parsed += parser.parse_overrides([override])
        except OverrideParseException as error:
            parsed.append(_as_text(parser, override, error))
    choices = []
    for each in parsed:
        try:
            choices.append(_values(each))
        except (HydraException, ValueError) as error:
            raise ConfigError(
                f"{each.input_line}: a sweep's values are listed (KEY=A,B), chosen (choice(A,B)) "
                "or counted (range(1,4)); quote what is meant as it stands"
            ) from error
    return [list(combination) for combination in itertools.product(*choices)]


def _values(parsed: Any) -> list[str]:
    if not parsed.is_sweep_override():
        return [parsed.input_line or ""]
    return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]


def _check_key(override: str) -> None:
    """Check that an override begins with a key that may be set.

    Raises:
        ConfigError: when it takes a key away, has none, or is one of Hydra's own.
    """
    key = override.partition("=")[0]
    if override.startswith("~"):
        raise ConfigError(f"{override} would take a key away; leave it out, and it has its default")
    if not key.strip("+ "):
        raise ConfigError(f"expected key=value, got {override!r}")
    if re.split(r"[./@]", key.lstrip("+"))[0] == "hydra":
        raise ConfigError(f"{key} is none of fedmodel's keys; see fedmodel <verb> --help")


def _as_text(parser: Any, override: str, error: Exception) -> Any:
    """Return an override whose value is meant as it stands: the shell has taken its quotes off.

    Raises:
        ConfigError: when it isn't ``key=value``, or its value has quotes or brackets.
    """
    from hydra.errors import OverrideParseException

    key, _, value = override.partition("=")
    if not key or not value or set(value) & set("'\"[]{}()"):
        raise _not_an_override(error, key) from error
    last = len(value) - len(value.rstrip("\\"))  # a backslash would take the quote's meaning away
    try:
        return parser.parse_overrides([f"{key}='{value}{last * chr(92)}'"])[0]
    except OverrideParseException:
        raise _not_an_override(error, key) from error


def _not_an_override(error: Exception, key: str = "") -> ConfigError:
    first = str(error).splitlines()[0]
    words = f"; write {key}=semicolon, tab, bar or comma" * key.endswith("separator")
    return ConfigError(f"expected key=value (quote spaces and commas): {first}{words}")


def compose(verb: str, overrides: Sequence[str], conf: Path | None = None) -> dict[str, Any]:
    """Compose a verb's configuration into a plain mapping.

    Raises:
        ConfigError: for an unknown key or choice, with the nearest known one.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    folder = conf or conf_dir()
    check_choices(overrides, folder)
    with initialize_config_dir(config_dir=str(folder), version_base="1.3"):
        try:
            composed = hydra_compose(verb, overrides=list(overrides))
            plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OverrideParseException as error:
            raise _not_an_override(error) from error
        except (HydraException, OmegaConfBaseException) as error:
            known = OmegaConf.to_container(hydra_compose(verb), resolve=True)
            raise _explain(error, known, folder) from error
    return {str(k): v for k, v in dict(plain).items()}  # type: ignore[arg-type]


def dotted(mapping: Any, prefix: str = "") -> list[str]:
    """Return the keys of a mapping and of those in it, as an override names them."""
    if not isinstance(mapping, dict):
        return [prefix[:-1]]
    return [k for key, value in mapping.items() for k in dotted(value, f"{prefix}{key}.")]


def check_choices(overrides: Sequence[str], folder: Path) -> None:
    """Check the choices of groups: Hydra passes over an optional group's unknown choice.

    Raises:
        ConfigError: with the nearest choice.
    """
    from fedmodel.config import suggest

    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        choices = sorted(p.stem for p in (folder / key).glob("*.yaml")) if key else []
        if choices and value not in choices:
            raise ConfigError(
                f"{key}={value} isn't a choice{suggest(value, choices)}; "
                f"expected one of: {', '.join(choices)}"
            )


def _explain(error: Exception, known: Any, folder: Path) -> ConfigError:
    found = re.search(r"full_key: (\S+)", str(error)) or re.search(
        r"Could not override '([^']+)'", str(error)
    )
    first = str(error).splitlines()[0]
    if not found:
        return ConfigError(first)
    keys = [*dotted(known), *known, *(p.name for p in folder.iterdir() if p.is_dir())]
    if found[1] in keys:  # it is there, and its value is what can't be read
        return ConfigError(f"{found[1]}: expected a value, got one that stands for none ({first})")
    near = meant(found[1], keys)
    return ConfigError(f"unknown key '{found[1]}'{near}; see fedmodel <verb> --help")


_FIRST = ("train", "privacy", "model", "data", "federation")  # whose keys are asked for most


def meant(word: str, keys: Sequence[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for a key that ends so, whatever its group, or looks so."""
    from fedmodel.config import nearest

    def rank(key: str) -> int:
        group = key.partition(".")[0]
        return _FIRST.index(group) if group in _FIRST else len(_FIRST)

    last = {key.rsplit(".", 1)[-1]: key for key in sorted(keys, key=rank, reverse=True)}
    if "." not in word and word in last:
        near: str | None = last[word]
    elif (near := nearest(word, keys)) is None:
        near = last.get(nearest(word, last) or "")
    return "" if near is None else f" (did you mean '{near}'?)"
