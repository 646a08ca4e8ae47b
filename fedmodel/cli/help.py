"""Help texts, read from the YAML files themselves so that they can't disagree with them.

The first comment line of a choice says what it is; a comment behind a key says what it means.
Nothing heavy is imported: help must appear at once.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmodel.cli.composing import check_choices
from fedmodel.cli.verbs import SWEEPS

__all__ = ["folded", "overview", "page", "verb"]

# What stands before a column of comments (a choice, a key, a verb), and the comment. A long key has
# one blank behind it.
_COMMENTED = re.compile(r"( +\S.*?  +|[ *]+[\w.]+=\S+ )(\S.*)")
_BELOW = " " * 6  # comments that have no room beside what they are about

_OTHERS = ("serve", "join", "export", "budget", "verify", "report", "bundle", "provision", "site")


def overview(verbs: Mapping[str, str]) -> str:
    """Return the text of ``fedmodel --help``."""
    lines = [
        "usage: fedmodel VERB [group=choice ...] [key=value ...]",
        "",
        "Hospitals jointly fine-tune a transformer under differential privacy.",
        "",
        "verbs:",
        *(f"  {name:<10} {text}" for name, text in verbs.items()),
        "",
        "  fedmodel VERB --help   lists the groups, their choices and the keys of a verb",
        "  fedmodel --version",
        "",
        "exit codes: 0 done, 1 the job failed or was refused, 2 wrong usage or input,",
        "            3 (serve, join) somebody can't be reached now: try again",
    ]
    return "\n".join(lines)


def verb(name: str, text: str, conf: Path, given: Sequence[str] = ()) -> str:
    """Return the text of ``fedmodel VERB --help``.

    Args:
        name: the verb.
        text: what it does.
        conf: folder of the configuration.
        given: what else stands on the command line; the choices and values among it are shown as
            they would be taken.

    Raises:
        ConfigError: for a choice that there isn't.
    """
    primary = conf / f"{name}.yaml"
    groups, values = _given(_groups(primary), given, conf)
    lines = [f"usage: fedmodel {name} [group=choice ...] [key=value ...]", "", text, ""]
    if groups:
        if name in SWEEPS:
            lines[0] = f"usage: fedmodel {name} [-m] [group=choice ...] [key=value ...]"
        lines.append(f"groups (* is {'chosen' if given else 'the default'}):")
    chosen = _chosen(conf, groups)
    for group, default in chosen.items():
        for path in sorted((conf / group).glob("*.yaml")):
            mark = "*" if path.stem == default else " "
            choice = f"{group}={path.stem}"
            lines.append(f" {mark}{choice:<22} {_first_comment(path)}")
    lines += ["", "keys of these choices:" if given else "keys and their defaults:"]
    for key, (value, comment) in _composed(primary, "", conf, chosen).items():
        if value or comment:
            lines.append(f"  {f'{key}={values.get(key, value)}':<36} {comment}".rstrip())
    if groups and not given:
        lines.append("  (other choices of train and privacy bring rates and rounds of their own)")
    if name in SWEEPS and not given:
        lines += ["", f"  -m right after the verb sweeps: fedmodel {name} -m privacy=none,record"]
    return "\n".join(lines)


def folded(text: str, width: int) -> str:
    """Return a help text whose lines break between words, with each comment in its own column.

    Args:
        text: as :func:`overview` or :func:`verb` returns it.
        width: characters of a line; a word that is longer stays whole.
    """
    return "\n".join(part for line in text.splitlines() for part in _fold(line, width))


def _fold(line: str, width: int) -> list[str]:
    """Return the lines that one becomes; a comment with too little room is set below its key."""
    found = _COMMENTED.fullmatch(line)
    if len(line) <= width or found is None:
        indent = line[: len(line) - len(line.lstrip())]
        return _wrap(line, width, "", indent) or [""]
    label, comment = found.groups()
    if len(label) <= width // 2:
        return _wrap(comment, width, label, " " * len(label))
    return [label.rstrip(), *_wrap(comment, width, _BELOW, _BELOW)]


def _wrap(text: str, width: int, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def _given(
    groups: Mapping[str, str], given: Sequence[str], conf: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the groups' choices, and the keys' values, with what is given among them.

    Raises:
        ConfigError: for a choice that there isn't.
    """
    choices, values = dict(groups), {}
    for word in given:
        key, _, value = word.lstrip("+").partition("=")
        if key not in groups:
            values[key] = value
        else:
            choices[key] = value.partition(",")[0]  # of a sweep's choices the first
            check_choices([f"{key}={choices[key]}"], conf)
    return choices, values


def page(conf: Path) -> str:
    """Return the reference of all verbs' keys, in Markdown.

    Args:
        conf: folder of the configuration.
    """
    primary = conf / "simulate.yaml"
    groups = _groups(primary)
    lines = ["| key | default | meaning |", "|---|---|---|"]
    keys = _composed(primary, "", conf, dict.fromkeys(groups, "null"))
    for key, (value, comment) in keys.items():
        if value:
            lines.append(f"| `{key}` | `{value}` | {_cell(comment)} |")
    lines += ["", "| choice | what it is | what it sets |", "|---|---|---|"]
    for group in [*groups, "recipe"]:
        for path in sorted((conf / group).glob("*.yaml")):
            package = "" if group == "debug" else group
            found = {k: v for k, (v, _) in _keys(path, package).items() if v}
            sets = ", ".join(f"`{k}={v}`" for k, v in found.items())
            # A recipe is taken by itself, where its train and noise are.
            choice = "" if group == "recipe" else f"`{group}={path.stem}`"
            lines.append(f"| {choice} | {_cell(_first_comment(path))} | {sets} |")
    lines += ["", "## Other verbs", "", "| verb | key | default | meaning |", "|---|---|---|---|"]
    for name in _OTHERS:
        for key, (value, comment) in _keys(conf / f"{name}.yaml", "").items():
            if value:
                lines.append(f"| `fedmodel {name}` | `{key}` | `{value}` | {_cell(comment)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _groups(primary: Path) -> dict[str, str]:
    """Return group → default choice from a primary file's defaults list."""
    pairs = (entry.partition(":") for entry in _defaults(primary) if ":" in entry)
    return {group: choice.strip() for group, _, choice in pairs if "${" not in choice}


def _chosen(conf: Path, groups: Mapping[str, str]) -> dict[str, str]:
    """Return the default choices, with what one choice says about another group."""
    chosen = dict(groups)
    for group, choice in groups.items():
        for entry in _defaults(conf / group / f"{choice}.yaml"):
            other, colon, value = entry.removeprefix("override /").partition(":")
            if colon and other != entry.partition(":")[0]:
                chosen[other.partition("@")[0]] = value.strip()
    return chosen


def _composed(
    path: Path, package: str, conf: Path, chosen: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Return dotted key → (value, comment) of a file and of what its defaults list names.

    Later files outrank earlier ones, as they do in a run; a value's comment stays when a later
    file changes the value without one.
    """
    entries = _defaults(path)
    keys: dict[str, tuple[str, str]] = {}
    for entry in entries if "_self_" in entries else [*entries, "_self_"]:
        group, colon, choice = entry.partition(":")
        if entry == "_self_":
            found = _keys(path, package)
        elif not colon:
            found = _composed(path.with_name(f"{entry}.yaml"), package, conf, chosen)
        elif entry.startswith("override "):
            continue
        else:
            name = chosen.get(group, choice.strip())
            for other, value in chosen.items():
                name = name.replace(f"${{{other}}}", value)
            found = _composed(conf / group / f"{name}.yaml", group, conf, chosen)
        for key, (value, comment) in found.items():
            keys[key] = (value, comment or keys.get(key, ("", ""))[1])
    return keys


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _first_comment(path: Path) -> str:
    comments = (line[2:] for line in _lines(path) if line.startswith("# "))
    return next((comment for comment in comments if not comment.startswith("@")), "")


def _defaults(path: Path) -> list[str]:
    """Return the entries of a file's defaults list."""
    bodies = (line.partition("#")[0].strip() for line in _lines(path))
    entries = (body.removeprefix("- ") for body in bodies if body.startswith("- "))
    return [entry.removeprefix("optional ") for entry in entries]


def _keys(path: Path, package: str) -> dict[str, tuple[str, str]]:
    """Return dotted key → (value, comment behind it) of a YAML file of plain mappings."""
    out: dict[str, tuple[str, str]] = {}
    lines = _lines(path)
    if lines and lines[0].startswith("# @package _global_"):
        package = lines[0].removeprefix("# @package _global_").lstrip(".")
    base = parents = [package] if package else []
    for line in lines:
        body = line.strip()
        if not body or body.startswith(("#", "-", "{", "defaults:")):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        key, _, rest = body.partition(":")
        value, _, comment = rest.partition("  # ")
        parents = [*parents[: len(base) + depth], key]
        out[".".join(parents)] = (value.strip(), comment.strip())
    return out
