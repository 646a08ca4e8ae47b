"""Help texts, read from the YAML files themselves so that they can't disagree with them.

The first comment line of a choice says what it is; a comment behind a key says what it means.
Nothing heavy is imported: help must appear at once.
"""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["overview", "verb"]


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
        "exit codes: 0 done, 1 the job failed or was refused, 2 wrong usage or input",
    ]
    return "\n".join(lines)


def verb(name: str, text: str, conf: Path) -> str:
    """Return the text of ``fedmodel VERB --help``.

    Args:
        name: the verb.
        text: what it does.
        conf: folder of the configuration.
    """
    primary = conf / f"{name}.yaml"
    groups = _groups(primary)
    lines = [f"usage: fedmodel {name} [group=choice ...] [key=value ...]", "", text, ""]
    if groups:
        lines[0] = f"usage: fedmodel {name} [-m] [group=choice ...] [key=value ...]"
        lines.append("groups (* is the default):")
    chosen = _chosen(conf, groups)
    for group, default in chosen.items():
        for path in sorted((conf / group).glob("*.yaml")):
            mark = "*" if path.stem == default else " "
            choice = f"{group}={path.stem}"
            lines.append(f" {mark}{choice:<22} {_first_comment(path)}")
    lines += ["", "keys and their defaults:"]
    for key, (value, comment) in _composed(primary, "", conf, chosen).items():
        if comment:
            lines.append(f"  {f'{key}={value}':<36} {comment}")
    if groups:
        lines.append("  (other choices of train and privacy bring rates and rounds of their own)")
        lines += ["", f"  -m right after the verb sweeps: fedmodel {name} -m privacy=none,record"]
    return "\n".join(lines)


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
