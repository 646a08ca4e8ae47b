"""The command line: a table of verbs, help without heavy imports, and the one Hydra entry."""

import importlib
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fedmodel import _help
from fedmodel._paths import conf_dir, use_apps
from fedmodel.errors import ConfigError, FedmodelError

__all__ = ["compose", "expand", "main"]

# verb → module:function, and what it does. The module is imported only when the verb runs.
VERBS: dict[str, tuple[str, str]] = {
    "simulate": ("simulations.run:main", "run several sites on this machine → a run folder"),
    "export": ("fedmodel.export:main", "write a run's model as a Hugging Face folder"),
    "budget": ("fedmodel.budget:main", "what sites have spent, hold and have left"),
}
# `--what-if job=PATH` reads better than what_if=PATH, and is the same.
_OPTIONS = {("budget", "--what-if"): "what_if"}
_QUIET = {
    # No telemetry, no update check, no progress bars of libraries inside our own display.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; ``sys.argv`` if ``None``.

    Returns:
        The exit code: 0 done, 1 the job failed or was refused, 2 wrong usage or input.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(args)
    except FedmodelError as error:
        print(f"fedmodel: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("fedmodel: interrupted; a run goes on with run=NAME resume=true", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"fedmodel: {error}", file=sys.stderr)
        return 1


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in {"-h", "--help", "help"}:
        print(_help.overview({verb: text for verb, (_, text) in VERBS.items()}))
        return 0 if args else 2
    if args[0] == "--version":
        from importlib.metadata import version

        print(f"fedmodel {version('fedmodel')}")
        return 0
    verb, rest = args[0], args[1:]
    if verb not in VERBS:
        from fedmodel.config import suggest

        raise ConfigError(f"unknown verb '{verb}'{suggest(verb, VERBS)}; see fedmodel --help")
    if any(a in {"-h", "--help"} for a in rest):
        print(_help.verb(verb, VERBS[verb][1], conf_dir()))
        return 0
    return _run(verb, rest)


def _run(verb: str, rest: list[str]) -> int:
    os.environ.update({k: v for k, v in _QUIET.items() if k not in os.environ})
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    use_apps()
    rest = _without_options(verb, rest)
    sweep = bool(rest) and rest[0] in {"-m", "--multirun"}
    overrides = rest[1:] if sweep else rest
    combinations = expand(overrides)
    if not sweep and combinations != [overrides]:
        raise ConfigError("several values for a key make a sweep: put -m right after the verb")
    jobs = [(combination, compose(verb, combination)) for combination in combinations]
    module, _, name = VERBS[verb][0].partition(":")
    entry: Callable[..., int] = getattr(importlib.import_module(module), name)
    given = [[o.split("=", 1)[0].lstrip("+~") for o in c] for c in combinations]
    labels = _labels(combinations) if sweep else None
    return entry([mapping for _, mapping in jobs], given=given, labels=labels)


def _without_options(verb: str, rest: list[str]) -> list[str]:
    """Return the arguments with `--option kind=VALUE` written as `option=VALUE`.

    Raises:
        ConfigError: for an option without its value.
    """
    out: list[str] = []
    words = iter(rest)
    for word in words:
        key = _OPTIONS.get((verb, word))
        if key is None:
            out.append(word)
            continue
        kind, _, value = next(words, "").partition("=")
        if kind not in ("job", "run") or not value:
            raise ConfigError(f"{word} needs job=<a job's JSON file> or run=<a run's name>")
        out.append(f"{key}={value}")
    return out


def _labels(combinations: list[list[str]]) -> list[str]:
    """Return what tells each job of a sweep from the others."""
    shared = set.intersection(*(set(c) for c in combinations)) if len(combinations) > 1 else set()
    return [" ".join(o for o in c if o not in shared) for c in combinations]


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return every combination of a sweep's overrides: ``a=1,2`` gives ``a=1`` and ``a=2``.

    Raises:
        ConfigError: for an override that isn't ``key=value``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    if "-m" in overrides or "--multirun" in overrides:
        raise ConfigError("-m comes right after the verb: fedmodel simulate -m key=value,value")
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        raise _not_an_override(error) from error
    choices = [
        [f"{p.get_key_element()}={v}" for v in p.sweep_string_iterator()]
        if p.is_sweep_override()
        else [p.input_line or ""]
        for p in parsed
    ]
    return [list(combination) for combination in itertools.product(*choices)]


def _not_an_override(error: Exception) -> ConfigError:
    first = str(error).splitlines()[0]
    return ConfigError(f"expected key=value (quote spaces and commas): {first}")


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
    _check_choices(overrides, folder)
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


def _flatten(mapping: Any, prefix: str = "") -> list[str]:
    if not isinstance(mapping, dict):
        return [prefix[:-1]]
    return [k for key, value in mapping.items() for k in _flatten(value, f"{prefix}{key}.")]


def _check_choices(overrides: Sequence[str], folder: Path) -> None:
    """Check the choices of groups: Hydra passes over an optional group's unknown choice.

    Raises:
        ConfigError: with the nearest choice.
    """
    from fedmodel.config import suggest

    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        choices = sorted(p.stem for p in (folder / key).glob("*.yaml")) if key else []
        if choices and value not in (*choices, "null"):
            raise ConfigError(
                f"{key}={value} isn't a choice{suggest(value, choices)}; "
                f"expected one of: {', '.join(choices)}"
            )


def _explain(error: Exception, known: Any, folder: Path) -> ConfigError:
    from fedmodel.config import suggest

    found = re.search(r"full_key: (\S+)", str(error)) or re.search(
        r"Could not override '([^']+)'", str(error)
    )
    if found:
        keys = [*_flatten(known), *known, *(p.name for p in folder.iterdir() if p.is_dir())]
        near = suggest(found[1], keys) or suggest(found[1], [k.rsplit(".", 1)[-1] for k in keys])
        return ConfigError(f"unknown key '{found[1]}'{near}; see fedmodel <verb> --help")
    return ConfigError(str(error).splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
