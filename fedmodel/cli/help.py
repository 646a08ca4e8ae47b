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


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            return line[2:]
    return ""


def _keys(path: Path, prefix: str = "") -> dict[str, tuple[str, str]]:
    """Return dotted key → (value, comment behind it) of a YAML file of plain mappings."""
    out: dict[str, tuple[str, str]] = {}
    parents = [prefix] if prefix else []
    base = len(parents)
    for line in path.read_text(encoding="utf-8").splitlines():
        body = line.strip()
        if not body or body.startswith(("#", "-")):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        key, _, rest = body.partition(":")
        value, _, comment = rest.partition("  # ")
        parents = [*parents[: base + depth], key]
        out[".".join(parents)] = (value.strip(), comment.strip())
    return out


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
    keys = _keys(primary)
    for group, default in groups.items():
        for path in sorted((conf / group).glob("*.yaml")):
            mark = "*" if path.stem == default else " "
            choice = f"{group}={path.stem}"
            lines.append(f" {mark}{choice:<22} {_first_comment(path)}")
        shown = conf / group / f"{default}.yaml"
        if shown.exists():
            keys |= _keys(shown, group)
    # The recipe of the default choices outranks them, here as in the run.
    recipe = conf / "recipe" / f"{groups.get('train')}_{groups.get('privacy')}.yaml"
    tuned = _keys(recipe) if recipe.exists() else {}
    lines += ["", "keys and their defaults:"]
    for key, (value, comment) in keys.items():
        if comment:
            lines.append(f"  {f'{key}={tuned.get(key, (value,))[0]}':<36} {comment}")
    if groups:
        lines.append("  (other choices of train and privacy bring rates and rounds of their own)")
    if groups:
        lines += ["", f"  -m right after the verb sweeps: fedmodel {name} -m privacy=none,record"]
    return "\n".join(lines)


def _groups(primary: Path) -> dict[str, str]:
    """Return group → default choice from a primary file's defaults list."""
    found: dict[str, str] = {}
    for line in primary.read_text(encoding="utf-8").splitlines():
        body = line.strip().removeprefix("- ").removeprefix("optional ")
        if line.strip().startswith("- ") and ":" in body and "${" not in body:
            group, _, default = body.partition(":")
            found[group.strip()] = default.split("#")[0].strip()
    return found
