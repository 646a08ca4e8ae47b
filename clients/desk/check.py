"""Check of a hospital's own file, for its people: what it declares beside what its rows are now."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from clients.circumstances import check_dates
from clients.declared import Declared
from clients.limits import Limits
from clients.site_file import SiteFile, policy_of
from clients.start import read_rows
from fedmodel.errors import FedmodelError, RefusedError
from fedmodel.identity import kept_secret
from fedmodel.identity.home import PartyHome
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.identity.validity import utc_now
from fedmodel.ledger.caps import Caps
from fedmodel.secagg.agreement import Floors

__all__ = ["Checked", "check_file", "show_checked"]

_LABELS, _SHORT = 20, 30  # a wrong column's labels are texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found. It is for the site's people alone.

    Args:
        file: of the hospital.
        found: what the rows are now; ``None`` where they can't be read.
        held_out: how many of them are held out.
        problems: what isn't as the file says, or keeps the site from taking part.
    """

    file: SiteFile
    found: Declared | None
    held_out: int
    problems: tuple[str, ...]


def check_file(path: Path, passphrase: str | None = None) -> Checked:
    """Read a site's file, its rows and its keys, and say what doesn't fit.

    Args:
        path: of the file.
        passphrase: where the one is read that the keys are sealed under; ``None``: as the file
            says.

    Raises:
        ConfigError: for a file that can't be read.
    """
    file = SiteFile.read(path)
    problems = [*_of_keys(file, passphrase), *_of_days(file.policy.limits)]
    found, held_out = None, 0
    try:
        rows, test = read_rows(file)
    except FedmodelError as error:
        problems.append(str(error))
    else:
        found = Declared.of(rows, test)
        held_out = 0 if test is None else len(test)
        if file.declared is not None:
            problems += [str(each) for each in file.declared.mismatches(rows, test)]
    if file.declared is None:
        hint = "" if found is None else f", such as {_wide(found.records[0])}"
        problems.append(f"declared.records is null: write how many rows there are{hint}")
    return Checked(file=file, found=found, held_out=held_out, problems=tuple(problems))


def _wide(count: int) -> list[int]:
    """Return a bracket around a number that few rows more or less leave as it is.

    >>> _wide(1830), _wide(7)
    ([900, 4000], [3, 20])
    """
    least, most = count // 2, 2 * count
    low, high = (10 ** max(0, len(str(value)) - 1) for value in (least, most))
    return [least // low * low, (most // high + 1) * high]


def _of_keys(file: SiteFile, passphrase: str | None) -> list[str]:
    home = PartyHome(file.state)
    if not home.exists:
        made = f"fedmodel provision role=site home={home.folder} makes them"
        return [f"{home.folder} has no keys: {made}"]
    found = []
    try:
        name = home.read().owner.name
        if name != file.name:
            found.append(f"name: the file says {file.name!r}, and the keys are of {name!r}")
        if home.roster() is None:
            found.append(
                "no roster was taken over yet: fedmodel provision role=site "
                f"home={home.folder} roster=FILE"
            )
        source = passphrase or file.coordinator.passphrase
        key = home.folder / "key"
        sealed = key.exists() and home.sealed
        kept_secret(key, "key", passphrase=read_passphrase(source) if sealed else None)
        found += home.warnings()
    except FedmodelError as error:
        found.append(str(error))
    return found


def _of_days(limits: Limits) -> list[str]:
    try:
        check_dates(limits, utc_now())
    except RefusedError:
        days = f"policy.begins={limits.begins or 'null'}, policy.ends={limits.ends or 'null'}"
        return [f"today every job is refused, by {days} (UTC)"]
    return []


# -- what is shown -------------------------------------------------------------------------------


def show_checked(checked: Checked, *, as_json: bool) -> None:
    """Print what was found.

    Args:
        checked: what was.
        as_json: for scripts.
    """
    if as_json:
        print(json.dumps(_plain(checked), indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    from fedmodel.report.tables import cell
    from fedmodel.report.terminal import Terminal

    terminal = Terminal()
    numbers = Table(title=f"rows of {checked.file.name}: for this site's people alone")
    for column in ("", "declared", "the rows now"):
        numbers.add_column(column, overflow="fold")
    for row in _numbers(checked):
        numbers.add_row(*map(cell, row))
    terminal.print(numbers)
    rules = Table(title=f"what it allows (preset {checked.file.preset})")
    for column in ("key", "allowed", "by the preset"):
        rules.add_column(column, overflow="fold")
    for row in _rules(checked.file):
        rules.add_row(*map(cell, row))
    terminal.print(rules)
    for problem in checked.problems:
        terminal.print(cell(f"not so: {problem}"), style="yellow")
    if not checked.problems:
        terminal.print("all of it is as the file says")


def _numbers(checked: Checked) -> list[tuple[str, str, str]]:
    held = f", {checked.held_out} of them held out" if checked.held_out else ""
    rows = []
    for name, word in (
        ("records", "records"),
        ("patients", "patients"),
        ("labels", "classes"),
        ("held_out", "held out"),
    ):
        said = "nothing" if checked.file.declared is None else _number(checked.file.declared, name)
        found = "unknown" if checked.found is None else _number(checked.found, name)
        rows.append((word, said, found + held if name == "records" else found))
    return rows


def _number(declared: Declared, name: str) -> str:
    value = getattr(declared, name)
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name != "labels":
        return str(value[0]) if value[0] == value[1] else f"{value[0]} to {value[1]}"
    shown = [label if len(label) <= _SHORT else f"{label[:_SHORT]}…" for label in value[:_LABELS]]
    more = f" and {len(value) - _LABELS} more" if len(value) > _LABELS else ""
    return ", ".join(shown) + more


def _rules(file: SiteFile) -> list[tuple[str, str, str]]:
    preset = policy_of(file.preset, {})
    found: list[tuple[str, str, str]] = []
    for group, kind, own, usual in (
        ("policy", Limits, file.policy.limits, preset.limits),
        ("budget", Caps, file.policy.caps, preset.caps),
        ("floors", Floors, file.policy.floors, preset.floors),
    ):
        for each in fields(kind):
            value, before = getattr(own, each.name), getattr(usual, each.name)
            told = "" if value == before else _said(before)
            found.append((f"{group}.{each.name}", _said(value), told))
    return found


def _said(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _plain(checked: Checked) -> dict[str, Any]:
    from fedmodel import config

    return {
        "schema": "fedmodel.site-check/1",
        "site": checked.file.name,
        "declared": config.to_mapping(checked.file.declared),
        "found": config.to_mapping(checked.found),
        "held_out": checked.held_out,
        "policy": config.to_mapping(checked.file.policy),
        "problems": list(checked.problems),
    }
