"""The commands of docs/provision.md, as they stand there: each house after the other."""

import re
import shlex
from pathlib import Path

import pytest

from fedmodel import cli, errors
from fedmodel._hazmat import fingerprint
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import request_in, signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.names import grouped

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "provision.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]


def heard(command: list[str]) -> list[str]:
    """Return a command with the fingerprint that its owner has read out."""
    keys = dict(part.partition("=")[::2] for part in command[1:])
    if keys.get("confirm") != "FINGERPRINT":
        return command
    if "request" in keys:
        digits = request_in(Path(keys["request"])).fingerprint
    else:
        consortium = signed_roster_in(Path(keys["roster"])).consortium
        digits = fingerprint(bytes.fromhex(consortium))
    return [part.replace("FINGERPRINT", grouped(digits)) for part in command]


@pytest.mark.long
def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) >= 15
    for command in COMMANDS:
        assert cli.main(heard(command)) == 0, f"{command}: {capsys.readouterr().err}"
    log = [row.event for row in ConsortiumHome(Path("board")).log.rows()]
    assert {"certificate-issued", "roster-issued", "revoked"} <= set(log)
    found = PartyHome(Path("north")).certificate()
    assert found is not None
    issued = signed_roster_in(Path("board/roster.json"))
    assert (issued.version, [m.name for m in issued.members]) == (4, ["Klinikum Nord"])


def test_the_files_and_errors_that_the_page_names_are_there() -> None:
    for name in re.findall(r"`(\w+Error)`", PAGE):
        assert issubclass(getattr(errors, name), errors.FedmodelError)
    shown = re.findall(r"at least (\d+) characters", PAGE)
    from fedmodel.identity import keyfile, passphrase

    assert shown == [str(passphrase.LEAST)]
    assert keyfile.SCRYPT.n == 1 << 17
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (Path(__file__).resolve().parents[3] / "docs" / target).exists()
