"""The page of a site's own file: its commands, as they stand there, and the file they write."""

import os
import re
import shlex
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.provision.site_file import PRESETS, site_file_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "site.md"
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.slow
def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        # The check says that the file has to be filled in; of that run there is nothing to hand in.
        expected = {"check": 1, "hand-in": 2}.get(command[1], 0) if command[0] == "site" else 0
        small = ["train=head"] if command[0] == "simulate" else []
        assert cli.main([*command, *small]) == expected, f"{command}: {capsys.readouterr().err}"
    assert "has nothing of run 'demo-0123abcd'" in capsys.readouterr().err


def test_the_file_that_the_page_shows_is_the_one_that_is_written() -> None:
    text = PAGE.read_text()
    shown = f"```yaml\n{site_file_text('Klinikum Nord', 'strict')}```"
    found = re.sub(r"(?<=<!-- site.yaml -->\n)```yaml\n.*?```", lambda _: shown, text, flags=re.S)
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        PAGE.write_text(found)
    assert PAGE.read_text() == found
    assert all(f"`{preset}`" in text for preset in PRESETS)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / target).exists()
