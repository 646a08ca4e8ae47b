"""A hospital that takes part by its own file: what it is given, and how it ends."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict

from clients import join as joining
from clients.current_roster import CurrentRoster
from clients.line import Line
from fedmodel import cli
from fedmodel.errors import ConfigError, IdentityError, UnavailableError
from fedmodel.identity.home import PartyHome
from tests.deployed import Deployed

pytestmark = pytest.mark.long


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    made = Deployed(tmp_path)
    for name in made.names:
        made.fill(name, "address: null", "address: fl.example.org:8443")
    return made


def join(deployed: Deployed, carrier: Callable[[Line], None], **asked: Any) -> int:
    said = {"site": str(deployed.file("site-1")), **asked}
    return joining.main(said, carrier=carrier)


def provision(deployed: Deployed, role: str, home: str, *words: str) -> None:
    assert cli.main(["provision", f"role={role}", f"home={deployed.state / home}", *words]) == 0


def test_it_is_given_what_its_file_says_and_ends_in_good_order(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[Line] = []

    def carrier(line: Line) -> None:
        lines.append(line)
        os.kill(os.getpid(), signal.SIGTERM)
        assert line.stop.wait(5)

    deployed.fill("site-1", "proxy: null", "proxy: none")
    before = signal.getsignal(signal.SIGTERM)
    assert join(deployed, carrier, patience=60.0) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    (line,) = lines
    assert (line.address, line.proxy, line.patience) == ("fl.example.org:8443", "none", 60.0)
    assert line.passphrase is None
    assert line.home.folder == deployed.state / "site-1"
    told = capsys.readouterr().err
    assert "INFO site site-1: ready for runs of fl.example.org:8443" in told
    assert "INFO asked to stop: what runs have reserved stays" in told


def test_a_signal_before_it_has_started_ends_it_too(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(joining, "start", start)
    assert join(deployed, lambda line: pytest.fail("it was asked to stop")) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError("gone"), 3),
        (IdentityError("forged"), 1),
        (ConfigError("odd"), 2),
        (OSError(28, "No space left on device"), 3),
        (OSError(5, "Input/output error"), 1),
    ],
)
def test_why_it_could_not_go_on_is_its_exit_code(
    deployed: Deployed, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def carrier(line: Line) -> None:
        raise error

    assert join(deployed, carrier, format="json") == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert f'"level": "ERROR", "logger": "clients.join", "text": "{error}"' in last


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("address: fl.example.org:8443", "address: null", "write whom to dial"),
        ('name: "site-1"', "name: site-2", "has the site 'site-1', and the file is of the site"),
        ("state: .", "state: nowhere", "has no keys of a site yet"),
        ("state: .", "state: ../coordinator", "has the coordinator 'coordinator'"),
        ("records: [20, 40]", "records: [1, 9]", "declared.records says 1 to 9"),
    ],
)
def test_what_its_file_lacks_is_said(
    deployed: Deployed, before: str, after: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.fill("site-1", before, after)
    assert join(deployed, lambda line: pytest.fail("nothing is dialled")) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"site": None}, "join needs site="),
        ({"patience": 0.0}, "patience must be seconds above 0"),
        ({"address": "fl.example.org"}, "a host name and a port"),
    ],
)
def test_wrong_usage_is_said(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        joining.Ask.of({"site": "x", **asked})


def test_a_roster_that_is_taken_over_counts_without_a_restart(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    home, board = deployed.state / "site-1", deployed.state / "consortium"
    roster = CurrentRoster(PartyHome(home))
    first = roster.read()
    assert roster.read() is first
    sites: list[Any] = []

    def carrier(line: Line) -> None:
        site_of = line.site_app._site_of
        context = Context(1, 2, {}, RecordDict(), {})
        sites.append(site_of(context))
        assert site_of(context) is sites[0]
        provision(deployed, "consortium", "consortium", "revoke=site-3", "why=lost")
        provision(deployed, "site", "site-1", f"roster={board / 'roster.json'}")
        sites.append(site_of(context))
        assert line.home.current_roster().version == first.version + 1

    assert join(deployed, carrier) == 0
    one, other = sites
    assert one.roster.version < other.roster.version
    assert [m.name for m in other.roster.members] == ["site-1", "site-2"]
    assert one.state is other.state
    assert f"INFO version {other.roster.version} of the roster is taken" in capsys.readouterr().err


def test_a_roster_that_cannot_be_relied_on_is_not_replaced_by_the_one_before(
    deployed: Deployed,
) -> None:
    home = PartyHome(deployed.state / "site-1")
    roster = CurrentRoster(home)
    roster.read()
    text = home.roster_path.read_bytes()
    home.roster_path.write_bytes(text.replace(b"site-3", b"site-4"))
    with pytest.raises((IdentityError, ConfigError)):
        roster.read()
    with pytest.raises((IdentityError, ConfigError)):
        roster.read()
    home.roster_path.write_bytes(text)
    assert roster.read().to_json() == text
    home.roster_path.unlink()
    with pytest.raises(ConfigError, match="can't be read"):
        roster.read()
