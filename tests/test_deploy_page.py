"""The commands of docs/deploy.md, in its order: from nothing to a finished run of three sites."""

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fedmodel import cli
from fedmodel.errors import FloorError, UnavailableError
from fedmodel.job.secagg import ProposedSecAgg, masked_sums
from fedmodel.runs import RunFolder
from fedmodel.secagg.agreement import Floors
from tests.deployed import rows_of, write_rows
from tests.fedmodel.provision.test_provision_page import heard
from tests.server.test_over_network import free_port
from tests.zygote import Forked, Zygote

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "deploy.md").read_text()
SITES = ("nord", "ost", "west")
PORT = "8443"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


COMMANDS = [
    shlex.split(line)[1:]
    for block in blocks("bash")
    for line in block.splitlines()
    if line.startswith("fedmodel ")
]


def filled_in(text: str, lines: str) -> str:
    """Return a site's file with the lines of another in place of its own."""
    wanted = {
        (section, key): value
        for section, keys in yaml.safe_load(lines).items()
        for key, value in keys.items()
    }
    section, made = "", []
    for line in text.splitlines():
        if found := re.match(r"(\w+):", line):
            section = found[1]
        key = re.match(r"  (\w+): null", line)
        if key and (section, key[1]) in wanted:
            line = f"  {key[1]}: {wanted.pop((section, key[1]))}"
        made.append(line)
    assert not wanted, wanted
    return "\n".join(made) + "\n"


class Walk:
    """The walk through the page: each command as it stands there, but for the port.

    Args:
        folder: in which the parties' folders stand side by side.
        zygote: that processes are forked from.
    """

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self.zygote = folder, zygote
        self.port = str(free_port())
        self.sites: list[Forked] = []
        self.served: list[Forked] = []

    def fill(self) -> None:
        """Do what the page says is to be written by hand."""
        site, job = blocks("yaml")
        for number, name in enumerate(SITES, start=1):
            path = self.folder / name / "site.yaml"
            path.write_text(filled_in(path.read_text(), site.replace(PORT, self.port)))
            rows = [row for k in range(5) for row in rows_of(10 * number + k)]
            write_rows(self.folder / name / "letters.csv", ["text", "label"], rows)
        (self.folder / "job.yaml").write_text(job)

    def do(self, command: list[str]) -> None:
        """Do one command."""
        words = [part.replace(f"0.0.0.0:{PORT}", f"127.0.0.1:{self.port}") for part in command]
        if words[0] == "join":
            self.sites.append(self.zygote.start(*words))
            self.sites[-1].wait_for("ready for runs of localhost")
        elif words[0] == "serve" and "check=true" not in words:
            self.served.append(self.zygote.start(*words))
            # The first ends where people have to approve.
            expected = 0 if len(self.served) > 1 else UnavailableError.exit_code
            assert self.served[-1].wait() == expected, self.served[-1].said
        else:
            if words[:2] == ["site", "check"] and not (self.folder / "job.yaml").exists():
                self.fill()
            assert cli.main(heard(words)) == 0, words


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    monkeypatch.chdir(tmp_path)
    with Zygote(tmp_path) as zygote:
        yield Walk(tmp_path, zygote)


@pytest.mark.long
@pytest.mark.slow
def test_the_commands_of_the_page_lead_to_a_finished_run(
    walk: Walk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(COMMANDS) >= 35
    for command in COMMANDS:
        walk.do(command)
    first, second = walk.served
    assert "0 of 3 sites joined" in first.said
    for line in ("3 site(s) wait for their people's approval", "try again later: the same"):
        assert line in PAGE.replace("\n", " ")
        assert line in first.said
    assert "3 of 3 sites joined" in second.said
    assert "INFO finished: runs/letters" in second.said
    served = "".join(each.said for each in walk.served)
    assert not re.search(r"^[IWE]\d{4} ", served, re.MULTILINE), "gRPC's own lines"
    for site in walk.sites:
        assert site.stop() == 0
        assert "trained in round 3 of the run" in site.said
    run = RunFolder.open(Path("runs/letters"))
    summary = run.summary()
    assert summary is not None
    assert {each.rounds for each in summary.privacy.sites.values()} == {3}
    assert (Path("model") / "config.json").exists()
    assert "all of it is as the file says" in capsys.readouterr().out


def test_three_sites_refuse_unless_they_say_that_none_may_collude() -> None:
    three = masked_sums(ProposedSecAgg(mode="on"), sites=3)
    four = masked_sums(ProposedSecAgg(mode="on"), sites=4)
    asked = [
        {name: getattr(sums, name) for name in ("survivors", "threshold", "colluders")}
        for sums in (three, four)
    ]
    with pytest.raises(FloorError):
        Floors().of_roster(3).check(cohort=3, **asked[0])
    Floors(colluders=0).of_roster(3).check(cohort=3, **asked[0])
    Floors().of_roster(4).check(cohort=4, **asked[1])


def test_the_units_start_again_what_may_come_and_nothing_else() -> None:
    units = blocks("ini")
    assert len(units) == 2
    for text in units:
        unit = configparser.ConfigParser(strict=True, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        service = unit["Service"]
        assert service["Restart"] == "on-failure"
        assert service["RestartPreventExitStatus"].split() == ["1", "2"]
        assert str(UnavailableError.exit_code) not in service["RestartPreventExitStatus"]
        words = shlex.split(service["ExecStart"])
        assert words[1:] in COMMANDS, "a command of the page"
