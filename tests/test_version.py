"""Versions that agree: of the project, of what is installed, and of the changelog's sections.

Between releases the version ends in ``.dev0`` and the changelog collects under *Unreleased*. A
release takes both away in one commit: the version's ending, and the section's name.
"""

import json
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def fault(version: str, changelog: str) -> str | None:
    """Return what doesn't agree, or None."""
    sections = re.findall(r"^## \[([^\]]+)\](.*)$", changelog, flags=re.MULTILINE)
    released = [name for name, _ in sections if name != "Unreleased"]
    numbers = [tuple(map(int, name.split("."))) for name in released]
    if not released or numbers != sorted(set(numbers), reverse=True):
        return "the newest release comes first, and each once"
    if any(not re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for n, date in sections if n in released):
        return "a release has a date"
    unreleased = [name for name, _ in sections] != released
    if version.endswith(".dev0"):
        coming = tuple(map(int, version.removesuffix(".dev0").split(".")))
        return None if unreleased and coming > numbers[0] else "a .dev0 version is one to come"
    if unreleased:
        return "a release has nothing that is unreleased"
    return None if version == released[0] else f"the newest section is {released[0]}"


def test_the_project_and_the_changelog_name_one_version() -> None:
    assert fault(project_version(), (ROOT / "CHANGELOG.md").read_text()) is None


def test_what_is_installed_has_the_version_of_the_project() -> None:
    installed = distribution("fedmodel")
    origin = json.loads(installed.read_text("direct_url.json") or "{}").get("url", "")
    if origin != ROOT.as_uri():
        pytest.skip(f"the installed fedmodel is that of another folder: {origin}")
    assert installed.version == project_version(), "run: make install"


@pytest.mark.parametrize(
    ("version", "headings", "agree"),
    [
        ("0.2.0", ["[0.2.0] - 2026-12-01", "[0.1.0] - 2026-11-27"], True),
        ("0.2.0.dev0", ["[Unreleased]", "[0.1.0] - 2026-11-27"], True),
        ("0.10.0", ["[0.10.0] - 2026-12-01", "[0.9.0] - 2026-11-27"], True),
        ("0.2.0", ["[Unreleased]", "[0.1.0] - 2026-11-27"], False),
        ("0.2.0", ["[Unreleased]", "[0.2.0] - 2026-12-01"], False),
        ("0.3.0", ["[0.2.0] - 2026-12-01", "[0.1.0] - 2026-11-27"], False),
        ("0.2.0.dev0", ["[0.2.0] - 2026-12-01"], False),
        ("0.1.0.dev0", ["[Unreleased]", "[0.1.0] - 2026-11-27"], False),
        ("0.2.0", ["[0.2.0]"], False),
        ("0.1.0", ["[0.1.0] - 2026-11-27", "[0.2.0] - 2026-12-01"], False),
        ("0.2.0", [], False),
    ],
)
def test_the_check_sees_what_disagrees(version: str, headings: list[str], agree: bool) -> None:
    changelog = "\n".join(f"## {heading}\n\n- x" for heading in headings)
    assert (fault(version, changelog) is None) == agree
