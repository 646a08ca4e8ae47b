"""Entry of the command line: which verb runs, with which configuration, and how errors end."""

import contextlib
import importlib
import io
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence

from fedmodel._escape import escaped
from fedmodel._paths import conf_dir, use_apps
from fedmodel.cli import help as texts
from fedmodel.cli.composing import quoted
from fedmodel.cli.job_file import with_file
from fedmodel.cli.jobs import compose_all
from fedmodel.cli.verbs import FILES, FLAGS, OPTIONS, POSITIONS, SENTENCES, SWEEPS, VERBS
from fedmodel.errors import ConfigError, FedmodelError

__all__ = ["main"]

_QUIET = {
    # No telemetry, no update check, no progress bars of libraries inside our own display.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class _Record(logging.LogRecord):
    """A line of any library's log; a name of somebody else's may be in it."""

    def getMessage(self) -> str:  # noqa: N802 - its name in the base class
        return escaped(super().getMessage(), lines=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments after the program's name; ``sys.argv`` if ``None``.

    Returns:
        The exit code: 0 done, 1 the job failed or was refused, 2 wrong usage or input, 3 somebody
        can't be reached now.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    _write_anything()
    try:
        return _finished(_dispatch(args))
    except FedmodelError as error:
        print(f"fedmodel: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"fedmodel: interrupted; {_goes_on(args)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _close_stdout()
        print(
            f"fedmodel: nobody reads the output any more; {_goes_on(args)}",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(escaped(f"fedmodel: {error}"), file=sys.stderr)
        return 1


def _goes_on(args: Sequence[str]) -> str:
    """Return how what was begun goes on."""
    if args[:1] == ["provision"]:
        return "nothing half done is left; give the same command again"
    if _sweeps(args[1:]):
        return "the same command goes on with the sweep"
    return "a run that had begun goes on with run=NAME resume=true"


def _sweeps(rest: Sequence[str]) -> bool:
    """Return whether what stands behind the verb asks for a sweep."""
    return bool(rest) and rest[0] in {"-m", "--multirun"}


def _write_anything() -> None:
    """Let a terminal that has no ε, or not a site's letters, show an escape in their place."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _finished(code: int) -> int:
    """Return an exit code, once all that was written has been taken.

    Raises:
        BrokenPipeError: if nobody takes it.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _close_stdout() -> None:
    """Let nothing more be written there: Python would complain of it as it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in {"-h", "--help", "help"}:
        _print_help(texts.overview({verb: text for verb, (_, text) in VERBS.items()}))
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
        given = [word for word in rest if "=" in word]
        _print_help(texts.verb(verb, VERBS[verb][1], conf_dir(), given))
        return 0
    return _run(verb, rest)


def _print_help(text: str) -> None:
    if sys.stdout.isatty():  # elsewhere a line is a line, for grep
        text = texts.folded(text, max(40, shutil.get_terminal_size().columns))
    print(text)


def _run(verb: str, rest: list[str]) -> int:
    os.environ.update({k: v for k, v in _QUIET.items() if k not in os.environ})
    logging.setLogRecordFactory(_Record)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    use_apps()
    rest = quoted(_without_options(verb, _named(verb, rest)), SENTENCES[verb])
    sweep = _sweeps(rest)
    if sweep and verb not in SWEEPS:
        raise ConfigError(f"{verb} does one thing at a time; leave -m out")
    if verb in FILES:
        rest = with_file(rest, FILES[verb])
    jobs = compose_all(verb, rest[1:] if sweep else rest)
    if not sweep and len(jobs) > 1:
        raise ConfigError("several values for a key make a sweep: put -m right after the verb")
    module, _, name = VERBS[verb][0].partition(":")
    entry: Callable[..., int] = getattr(importlib.import_module(module), name)
    if verb not in SWEEPS:
        return entry(jobs[0].mapping, jobs[0].given)
    labels = _labels([job.overrides for job in jobs]) if sweep else None
    given = [job.given for job in jobs]
    return entry([job.mapping for job in jobs], given=given, labels=labels)


def _named(verb: str, rest: list[str]) -> list[str]:
    """Return the arguments with those that a verb knows by their place written as `key=VALUE`.

    Raises:
        ConfigError: for more of them than it knows.
    """
    keys, out = list(POSITIONS.get(verb, ())), []
    for word in rest:
        plain = "=" not in word and not word.startswith(("-", "~", "+"))
        if plain and keys:
            out.append(f"{keys.pop(0)}={word}")
        elif plain and verb in POSITIONS:
            raise ConfigError(f"'{word}' is one word too many; see fedmodel {verb} --help")
        else:
            out.append(FLAGS.get((verb, word), word))
    return out


def _without_options(verb: str, rest: list[str]) -> list[str]:
    """Return the arguments with `--option kind=VALUE` written as `option=VALUE`.

    Raises:
        ConfigError: for an option without its value.
    """
    out: list[str] = []
    words = iter(rest)
    for word in words:
        key = OPTIONS.get((verb, word))
        if key is None:
            out.append(word)
            continue
        kind, _, value = next(words, "").partition("=")
        if kind not in ("job", "run") or not value:
            raise ConfigError(f"{word} needs job=<a job's JSON file> or run=<a run's name>")
        out.append(f"{key}={value}")
    return out


def _labels(combinations: Sequence[Sequence[str]]) -> list[str]:
    """Return what tells each job of a sweep from the others."""
    shared = set.intersection(*(set(c) for c in combinations)) if len(combinations) > 1 else set()
    return [" ".join(o for o in c if o not in shared) for c in combinations]
