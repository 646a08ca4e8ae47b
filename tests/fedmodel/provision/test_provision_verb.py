"""The verb ``provision``, as the people of three houses type it."""

import re
import shutil
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.home import PartyHome
from fedmodel.provision import show

WORDS = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "ask_at_terminal", lambda prompt: None)  # nobody is there


class Told:
    """What a command says."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.error = ""

    def __call__(self, *args: str, code: int = 0) -> str:
        found = cli.main(["provision", *args])
        out = self._capsys.readouterr()
        self.error = out.err
        assert found == code, out.err
        return out.out

    def fingerprint(self, *args: str) -> str:
        """Return the fingerprint that a command shows, as its owner reads it out."""
        found = re.findall(r"^fingerprint of .*:\n  ([0-9a-f-]{39})$", self(*args), re.MULTILINE)
        assert len(found) == 1
        return str(found[0])


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    return Told(capsys)


def make(told: Told) -> str:
    """Make three houses; return the consortium's fingerprint."""
    told("role=site", "home=north", "name=Klinikum Nord", "tls=north.example.org")
    told("role=coordinator", "home=office", "name=Trial office", "tls=fl.example.org")
    return told.fingerprint("role=consortium", "home=board", "name=Herzverbund, Süd")


def sign(told: Told, role: str, home: str) -> str:
    read = told.fingerprint(f"role={role}", f"home={home}")
    request = f"request={home}/request.json"
    return told("role=consortium", "home=board", request, f"confirm={read}")


def kept() -> dict[Path, bytes]:
    """Return all files but logs and locks."""
    found = [path for path in Path().rglob("*") if path.is_file()]
    return {p: p.read_bytes() for p in found if p.suffix != ".jsonl" and p.name != ".lock"}


# -- the way from keys to a roster ---------------------------------------------------------------


@pytest.mark.long
def test_three_houses_come_to_know_one_another(told: Told) -> None:
    board = make(told)
    assert "there is no roster yet; it takes a coordinator" in sign(told, "site", "north")
    assert "roster: version 1, 1 site, until" in sign(told, "coordinator", "office")
    for role, home, tls in (("site", "north", "north"), ("coordinator", "office", "fl")):
        said = told(
            f"role={role}",
            f"home={home}",
            "roster=board/roster.json",
            f"certificate=board/certificates/{tls}.example.org.pem",
            f"confirm={board}",
        )
        assert "version 1: 1 site and the coordinator 'Trial office' at fl.example.org" in said
        assert f"Herzverbund, Süd, {board}" in said
        assert "certificate until" in said
    assert [row.event for row in ConsortiumHome(Path("board")).log.rows()][-4:] == [
        *("key-used", "key-used", "certificate-issued", "roster-issued"),
    ]


@pytest.mark.long
def test_the_same_command_again_changes_nothing(told: Told) -> None:
    make(told)
    sign(told, "site", "north")
    before = kept()
    first = told("role=site", "home=north", "name=Klinikum Nord", "tls=north.example.org")
    assert first == told("role=site", "home=north")
    assert "it was signed before; nothing was changed" in sign(told, "site", "north")
    told("role=consortium", "home=board", "name=Herzverbund, Süd")
    assert kept() == before


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("role=site", "home=north", "name=South"), "has the site 'Klinikum Nord'"),
        (("role=site", "home=north", "tls=s.example.org"), "(tls=north.example.org), not tls="),
        (
            ("role=coordinator", "home=north", "name=x", "tls=x"),
            "(role=site), not role=coordinator",
        ),
        (("role=consortium", "home=north", "name=x"), "north has something else in it"),
        (("role=site", "home=board", "name=x"), "board has something else in it"),
        (("role=consortium", "home=board", "name=x"), "has the consortium 'Herzverbund, Süd'"),
        (("role=demo", "home=north"), "north has something else in it"),
    ],
)
def test_nothing_is_written_over(told: Told, args: tuple[str, ...], says: str) -> None:
    make(told)
    before = kept()
    told(*args, code=2)
    assert says in told.error
    assert kept() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


# -- fingerprints --------------------------------------------------------------------------------


@pytest.mark.long
def test_a_sites_file_is_written_once_and_again_where_it_is_gone(told: Told) -> None:
    make(told)
    path = Path("north/site.yaml")
    assert "preset: strict" in path.read_text()
    path.write_text("ours")
    told("role=site", "home=north")
    assert path.read_text() == "ours"
    told("role=site", "home=north", "preset=trial", code=2)
    assert "is there already" in told.error
    path.unlink()
    assert "preset=trial" in told("role=site", "home=north", "preset=trial")
    assert "preset: trial" in path.read_text()
    assert not Path("office/site.yaml").exists()
    told("role=coordinator", "home=office", "preset=trial", code=2)
    assert "preset isn't for role=coordinator" in told.error


def test_nothing_is_signed_before_somebody_has_heard_the_fingerprint(told: Told) -> None:
    make(told)
    request = ("role=consortium", "home=board", "request=north/request.json")
    said = told(*request, code=1)
    assert "needed: it is new here" in said
    assert "have the fingerprint read to you" in told.error
    assert "confirm=FINGERPRINT" in told.error
    for heard in ("1111", "0" * 32, "yes", "FINGERPRINT"):
        told(*request, f"confirm={heard}", code=1)
        assert "you have heard another; nothing was signed" in told.error
    # The whole of it: not only its beginning.
    half = re.findall(r"^  ([0-9a-f-]{39})$", said, re.MULTILINE)[0][:19]
    told(*request, f"confirm={half}", code=1)
    board = ConsortiumHome(Path("board"))
    assert not list((board.folder / "certificates").iterdir())
    events = [row.event for row in board.log.rows()]
    assert events.count("request-shown") == 1
    assert events.count("request-refused") == 5


@pytest.mark.long
def test_what_is_heard_may_be_typed_at_the_terminal(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(told)
    read = told.fingerprint("role=site", "home=north")
    asked: list[str] = []
    spoken = read.upper().replace("-", " ")

    def typed(prompt: str) -> str:
        asked.append(prompt)
        return spoken

    monkeypatch.setattr(show, "ask_at_terminal", typed)
    told("role=consortium", "home=board", "request=north/request.json")
    assert "by a number that you had before" in asked[0]


@pytest.mark.long
def test_an_exchanged_request_isnt_signed(told: Told) -> None:
    make(told)
    read = told.fingerprint("role=site", "home=north")
    told("role=site", "home=fake", "name=Klinikum Nord", "tls=north.example.org")
    request = "request=fake/request.json"
    told("role=consortium", "home=board", request, f"confirm={read}", code=1)
    assert "somebody has exchanged the file on its way" in told.error


@pytest.mark.long
def test_the_first_roster_is_taken_after_a_call_alone(told: Told) -> None:
    board = make(told)
    sign(told, "site", "north")
    sign(told, "coordinator", "office")
    take = ("role=site", "home=north", "roster=board/roster.json")
    told(*take, code=1)
    assert "whoever made this file could name himself so" in told.error
    told(*take, f"confirm={board[::-1]}", code=1)
    assert "this isn't your consortium's file" in told.error
    assert not Path("north/trust.json").exists()
    told(*take, f"confirm={board}")
    told(*take)  # the next one needs no call
    told(*take, "confirm=1111", code=1)  # but what is said must be right
    assert "you have heard another fingerprint" in told.error


# -- later ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_certificate_is_renewed_without_a_call(told: Told) -> None:
    board = make(told)
    sign(told, "site", "north")
    sign(told, "coordinator", "office")
    certificate = "certificate=board/certificates/north.example.org.pem"
    roster = "roster=board/roster.json"
    told("role=site", "home=north", roster, certificate, f"confirm={board}")
    before = Path("north/certificate.pem").read_text()
    said = told("role=site", "home=north", "renew=tls")
    assert "the consortium needs no call to sign it" in said
    said = told("role=consortium", "home=board", "request=north/renewal/request.json")
    assert "not needed: its identity key signs it" in said
    assert "to everybody" not in said  # the roster is as it was
    told("role=site", "home=north", certificate)
    assert Path("north/certificate.pem").read_text() != before
    assert not Path("north/renewal").exists()


@pytest.mark.long
def test_a_revoked_site_is_off_the_next_roster(told: Told) -> None:
    make(told)
    told("role=site", "home=south", "name=South")
    sign(told, "site", "south")
    told("role=consortium", "home=board", "revoke=South")  # there is no roster that has it
    shutil.rmtree("south")
    told("role=site", "home=south", "name=South")
    for role, home in (("site", "north"), ("site", "south"), ("coordinator", "office")):
        sign(told, role, home)
    said = told("role=consortium", "home=board", "revoke=Klinikum Nord", "why=a laptop, stolen")
    assert "roster: version 2, 1 site" in said
    assert "to everybody at once" in said
    row = ConsortiumHome(Path("board")).log.rows()[-2]
    assert (row.event, row.about["why"]) == ("revoked", "a laptop, stolen")
    told("role=consortium", "home=board", "revoke=Klinikum Nrod", code=2)
    # The last one is revoked, too, and it is said that this doesn't help yet.
    told("role=consortium", "home=board", "revoke=South", code=1)
    assert "goes on trusting 'South', until it expires" in told.error
    said = told("role=consortium", "home=board")
    assert "warning: the roster still lists 'South', who is revoked" in said


@pytest.mark.long
def test_a_roster_is_renewed_before_it_ends(told: Told) -> None:
    make(told)
    told("role=consortium", "home=board", "renew=roster", code=1)
    assert "it takes a coordinator and a site" in told.error
    sign(told, "site", "north")
    sign(told, "coordinator", "office")
    assert "version 2, 1 site" in told("role=consortium", "home=board", "renew=roster", "days=10")
    said = told("role=consortium", "home=board")
    assert re.search(r"warning: version 2 of the roster .* expires in (9|10) days", said)


@pytest.mark.slow
@pytest.mark.long
def test_a_party_sees_who_is_new_on_the_roster(told: Told) -> None:
    board = make(told)
    sign(told, "site", "north")
    sign(told, "coordinator", "office")
    take = ("role=site", "home=north", "roster=board/roster.json")
    assert "since version" not in told(*take, f"confirm={board}")
    told("role=site", "home=south", "name=South")
    sign(told, "site", "south")
    said = told(*take)
    assert "since version 1: new: 'South'" in said
    assert "Klinikum Nord, South" in said


def test_a_security_log_that_was_edited_is_told(told: Told) -> None:
    make(told)
    said = told("role=site", "home=north")
    assert "security log: 2 lines in a whole chain; its end is " in said
    path = Path("north/security.jsonl")
    path.write_bytes(path.read_bytes().replace(b"Klinikum Nord", b"Klinikum Mord"))
    told("role=site", "home=north", code=1)
    assert "security.jsonl, line 2 doesn't follow the line before it" in told.error


# -- passphrases ---------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.usefixtures("cheap_scrypt")
def test_keys_are_sealed_under_a_passphrase_from_a_descriptor(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make(told)
    (tmp_path / "key").write_text(WORDS)
    (tmp_path / "key").chmod(0o400)
    with open("key", "rb") as words:
        source = f"passphrase=fd:{words.fileno()}"
        said = told("role=site", "home=s", "name=South", "tls=s.example.org", source)
    assert "sealed under a passphrase (scrypt, AES-256-GCM)" in said
    assert PartyHome(Path("s")).sealed
    sign(told, "site", "s")
    sign(told, "coordinator", "office")
    take = ("roster=board/roster.json", "certificate=board/certificates/s.example.org.pem")
    told("role=site", "home=s", *take, f"confirm={board}")  # its keys aren't needed for that
    told("role=site", "home=s", "renew=tls", code=2)
    assert "is sealed, and no passphrase is given" in told.error
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    told("role=site", "home=s", "renew=tls", "passphrase=credential:key")
    assert [row.event for row in PartyHome(Path("s")).log.rows()][-3:] == [
        *("key-refused", "key-used", "request-signed"),
    ]


def test_what_was_typed_for_a_passphrase_is_nowhere(told: Told) -> None:
    told("role=site", "home=x", "name=North", f"passphrase={WORDS}", code=2)
    assert WORDS not in told.error
    assert not Path("x").exists()


# -- texts of others, and a demo -----------------------------------------------------------------


def test_a_request_cant_upset_a_terminal(told: Told, tmp_path: Path) -> None:
    told("role=consortium", "home=board", "name=B")
    (tmp_path / "bad").write_bytes(b'{"\x1b[2J": 1}')
    told("role=consortium", "home=board", "request=bad", code=1)
    assert "\x1b" not in told.error
    assert "not a request of this version" in told.error


@pytest.mark.long
def test_a_demo_is_a_whole_consortium(told: Told) -> None:
    said = told("role=demo", "home=demo", "sites=2")
    for name in ("coordinator", "site-1", "site-2"):
        home = PartyHome(Path("demo") / name)
        roster, certificate = home.roster(), home.certificate()
        assert roster is not None
        assert certificate is not None
        assert [member.name for member in roster.members] == ["site-1", "site-2"]
        assert home.warnings() == []
    assert "nothing was changed" in told("role=demo", "home=demo", "sites=2")
    told("role=demo", "home=demo", "sites=3", code=2)
    commands = re.findall(r"fedmodel (provision .*)$", said, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        told(*command.split()[1:])


@pytest.mark.slow
@pytest.mark.long
def test_a_demo_is_simulated_under_its_own_roster(
    told: Told, capsys: pytest.CaptureFixture[str]
) -> None:
    said = told("role=demo", "home=demo", "sites=3")
    (command,) = re.findall(r"fedmodel (simulate .*)$", said, re.MULTILINE)
    before = Path("demo/consortium/register.json").read_bytes()
    small = ["debug=fast", "data.rows=200", "data.test_rows=40"]
    assert cli.main([*command.split(), *small, "run=a"]) == 0, capsys.readouterr().err
    assert not Path("demo/coordinator/consortium").exists()
    assert Path("demo/consortium/register.json").read_bytes() == before
    (command,) = re.findall(r"fedmodel (budget .*)$", said, re.MULTILINE)
    assert cli.main(command.split()) == 0
    # Other sites than those on the roster aren't taken on by the way.
    assert cli.main(["simulate", "state=demo", "federation.sites=2", "secagg=seal", *small]) == 2
    assert "lists site-1, site-2, site-3" in capsys.readouterr().err


def test_a_request_that_isnt_there_is_wrong_input(told: Told) -> None:
    told("role=consortium", "home=board", "name=Board")
    told("role=consortium", "home=board", "request=nowhere", code=2)
    assert "nowhere" in told.error
