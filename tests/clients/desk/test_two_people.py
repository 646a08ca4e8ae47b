"""Two people's approval: each with a key of their own, and the site goes by its policy."""

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clients.approvers import People, kept_people
from clients.desk.arguments import Ask
from clients.policy import Policy
from clients.site_file import SiteFile
from fedmodel import cli, config
from fedmodel.cli import main
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.identity import SigningKey, kept_secret
from fedmodel.identity.security_log import SecurityLog
from fedmodel.identity.validity import utc_now
from fedmodel.provision.site_file import site_file_text
from simulations.scenario import Scenario
from tests.clients.test_app import PLAIN, Talk

A, B = "0a" * 32, "0b" * 32
ADA, BEN = f"Ada Weber {A}", f"Ben Cho {B}"


@pytest.mark.parametrize(
    ("approvers", "needed", "says"),
    [
        ((ADA, f"Ada again {A}"), 2, "the same key, and nobody counts twice"),
        ((ADA, f"Ada Weber {B}"), 2, "the same name"),
        ((ADA,), 2, "2 approvals are needed, of 1"),
        ((), 2, "2 approvals are needed, of 1"),
        ((ADA, BEN), 0, "0 approvals are needed"),
        (("Ada Weber",), 1, "a name and the 64 hex digits"),
        ((A,), 1, "an approver's name must be"),
        ((f"Ada\x1b[2J {A}",), 1, "printable"),
    ],
)
def test_people_who_cannot_be_told_apart_are_refused(
    approvers: tuple[str, ...], needed: int, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Policy(approvers=approvers, needed=needed)


def test_approvers_whom_nobody_asks_are_refused() -> None:
    with pytest.raises(ConfigError, match="approval=auto asks nobody"):
        Policy(approvers=(ADA,), approval="auto")


def test_who_is_needed_is_told_by_name() -> None:
    people = People(approvers=(ADA, BEN), needed=2)
    assert people.standing([]) == ([], ["Ada Weber", "Ben Cho"], 2)
    assert people.standing([B]) == (["Ben Cho"], ["Ada Weber"], 1)
    assert people.standing([A, B]) == (["Ada Weber", "Ben Cho"], [], 0)


def test_the_copy_for_the_desk_follows_the_policy(tmp_path: Path) -> None:
    People().keep(tmp_path / "home")
    assert not (tmp_path / "home").exists()
    for people in (People(approvers=(ADA, BEN), needed=2), People(approvers=(BEN,)), People()):
        people.keep(tmp_path / "home")
        assert kept_people(tmp_path / "home") == people
    (tmp_path / "home" / "approvers.json").write_bytes(b"{")
    with pytest.raises(RunFolderError, match=r"approvers\.json"):
        kept_people(tmp_path / "home")


def test_a_simulation_takes_them_as_typed() -> None:
    words = ["debug=fast", "approval=each", f"approvers=[{ADA}, {BEN}]", "needed=2"]
    policy = Scenario.from_mapping(cli.compose("simulate", words)).homes.policy
    assert policy.people == People(approvers=(ADA, BEN), needed=2)


def key(folder: Path, name: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Make somebody's key as the documents say; return the line for the policy."""
    capsys.readouterr()
    assert main(["site", "key", f"as={folder / name}.key", f"name={name}", *more]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def say(words: list[str], capsys: pytest.CaptureFixture[str], passphrase: str = "") -> Any:
    capsys.readouterr()
    if passphrase:
        words = [*words, typed(passphrase)]
    assert main(["site", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def typed(passphrase: str) -> str:
    read, write = os.pipe()
    os.write(write, passphrase.encode() + b"\n")
    os.close(write)
    return f"passphrase=fd:{read}"


def why(reply: Any) -> str:
    return str(reply.error.reason) if reply.has_error() else ""


@pytest.mark.long
@pytest.mark.usefixtures("cheap_scrypt")
def test_a_run_needs_both_and_one_suffices_to_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = key(tmp_path, "Ada Weber", capsys, typed("five random words here"))
    ben = key(tmp_path, "Ben", capsys)
    assert key(tmp_path, "Ben", capsys) == ben  # the same key again
    assert (tmp_path / "Ben.key").stat().st_mode & 0o777 == 0o600
    eve = key(tmp_path, "Eve", capsys)
    assert len({ada[-64:], ben[-64:], eve[-64:]}) == 3
    talk = Talk(tmp_path)
    talk.restart(policy=Policy(approvers=(ada, ben), needed=2))
    assert "waits for the approval" in why(talk.join(PLAIN))
    where = f"state={talk.site.state.folder}"
    as_ada, as_ben, as_eve = (f"as={tmp_path / n}.key" for n in ("Ada Weber", "Ben", "Eve"))
    words = "five random words here"

    # Neither the site's key nor a stranger's, and the same person doesn't count twice.
    assert main(["site", "approve", "test", where]) == 2
    assert "names who decides (Ada Weber, Ben); say whose word it is" in capsys.readouterr().err
    assert main(["site", "approve", "test", where, as_eve]) == 2
    assert "is of nobody who may decide here" in capsys.readouterr().err
    assert main(["site", "approve", "test", where, as_ada]) == 2
    assert "is sealed, and no passphrase is given" in capsys.readouterr().err
    for _ in range(2):
        assert say(["approve", "test", where, as_ada], capsys, words)["status"] == "waiting"
    assert "waits for the approval" in why(talk.join(PLAIN))
    (row,) = say(["jobs", where], capsys)["jobs"]
    found = (row["approved_by"], row["not_yet"], row["missing"], row["status"])
    assert found == (["Ada Weber"], ["Ben"], 1, "waiting")
    assert main(["site", "show", "test", where]) == 0
    out = capsys.readouterr().out
    assert "approved by Ada Weber; 1 more needed, of Ben" in out
    assert "by Ada Weber, key " in out
    assert main(["site", "jobs", where]) == 0
    assert "Ada" in capsys.readouterr().out

    assert main(["site", "approve", "test", where, f"as={tmp_path / 'nobody.key'}"]) == 2
    assert "nobody.key: there is no such file; give that of your key" in capsys.readouterr().err
    assert say(["approve", "test", where, as_ben], capsys)["status"] == "approved"
    assert not talk.join(PLAIN).has_error()
    assert say(["revoke", "test", where, as_ben, "why=no"], capsys)["status"] == "revoked"
    assert "have revoked" in why(talk.order())
    assert "have revoked" in why(talk.join(PLAIN))
    # Both again, for a no takes back all before it.
    assert say(["approve", "test", where, as_ben], capsys)["status"] == "waiting"
    assert "waits for the approval" in why(talk.join(PLAIN))
    log = SecurityLog(talk.site.state.folder / "security.jsonl").rows()
    said = [(row.event, row.about["approver"], row.about["status"]) for row in log]
    assert said == [
        *[("run-approved", "Ada Weber", "waiting")] * 2,
        ("run-approved", "Ben", "approved"),
        ("run-revoked", "Ben", "revoked"),
        ("run-approved", "Ben", "waiting"),
    ]


@pytest.mark.long
def test_what_both_have_approved_ends_with_the_first_of_their_approvals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, ben = (key(tmp_path, name, capsys) for name in ("Ada", "Ben"))
    talk = Talk(tmp_path)
    talk.restart(policy=Policy(approvers=(ada, ben), needed=2))
    talk.join(PLAIN)
    where = f"state={talk.site.state.folder}"
    say(["approve", "test", where, f"as={tmp_path / 'Ada'}.key", "expires=90d"], capsys)
    say(["approve", "test", where, f"as={tmp_path / 'Ada'}.key", "expires=1d"], capsys)
    told = say(["approve", "test", where, f"as={tmp_path / 'Ben'}.key", "expires=30d"], capsys)
    tomorrow = utc_now() + timedelta(days=1, minutes=1)
    assert told["status"] == "approved"
    assert datetime.fromisoformat(told["expires"]) < tomorrow
    (row,) = say(["jobs", where], capsys)["jobs"]
    assert row["expires"] == told["expires"]


def test_the_sites_passphrase_is_not_for_the_keys_of_its_people(tmp_path: Path) -> None:
    """With a site's file that says where its own key's passphrase is read."""
    text = site_file_text("north", "strict").encode()
    said = SiteFile.parse(text, tmp_path)
    said = replace(said, coordinator=replace(said.coordinator, passphrase="credential:site"))
    asked = {"do": "approve", "job": "test", "site": "site.yaml"}
    for signer, own, expected in (
        (None, None, "credential:site"),
        ("ada.key", None, None),
        ("ada.key", "prompt", "prompt"),
        (None, "prompt", "prompt"),
    ):
        ask = config.build(Ask, asked | {"signer": signer, "passphrase": own})
        assert ask.by(said).passphrase == expected


def test_whoever_changes_the_desks_copy_lets_no_run_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eve = SigningKey(kept_secret(tmp_path / "eve.key", "key", Talk(tmp_path).site.entropy))
    talk = Talk(tmp_path)
    talk.restart(policy=Policy(approvers=(ADA, BEN), needed=2))
    talk.join(PLAIN)
    folder = talk.site.state.folder
    People(approvers=(f"Eve {eve.public.hex()}",)).keep(folder)
    words = ["approve", "test", f"state={folder}", f"as={tmp_path / 'eve.key'}"]
    assert say(words, capsys)["status"] == "approved"
    assert talk.join(PLAIN).has_error()
    assert kept_people(folder).needed == 2  # the site has put its own back
    # What she left there keeps nobody from seeing the others.
    (row,) = say(["jobs", f"state={folder}"], capsys)["jobs"]
    assert row["status"] == "unreadable"
    assert "waits for the approval" in why(talk.join(PLAIN, run="other"))
