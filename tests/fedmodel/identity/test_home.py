"""Folders of parties and of a consortium: whole or not there, and what they take over."""

import os
import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fedmodel import _files
from fedmodel.errors import (
    ConfigError,
    EquivocationError,
    ExpiredError,
    IdentityError,
    LedgerError,
    OutdatedError,
    PurposeError,
    RevokedError,
    SignerError,
)
from fedmodel.identity import SigningKey
from fedmodel.identity import home as home_module
from fedmodel.identity.certificates import certified_key
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import request_in, signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.trust import accept
from fedmodel.ledger.site_state import SiteState
from tests.fedmodel.identity.folders import World
from tests.fedmodel.identity.parties import NOW

OTHER = SigningKey(b"o" * 32)
WORDS = b"correct horse battery staple"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_secrets_are_made_where_they_stay(world: World) -> None:
    world.admit()
    for home in world.parties:
        world.take(home)
    folders = [*(home.folder for home in world.parties), world.consortium.folder]
    secrets = {
        path: path.read_text().split()[1]
        for folder in folders
        for path in folder.iterdir()
        if path.name.endswith("key")
    }
    assert len(secrets) == len(set(secrets.values())) == 9
    for path in world.consortium.folder.parent.rglob("*"):
        if path.is_file() and path not in secrets:
            assert not [secret for secret in secrets.values() if secret in path.read_text()]
    for folder in folders:
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in secrets:
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_taken_over_fits(world: World) -> None:
    world.admit()
    world.take(world.north)
    found = world.north.certificate()
    assert found is not None
    assert found.key == certified_key(kept_secret(world.north.folder / "tls-key", "tls-key"))
    assert found.subject == world.north.read().identity
    world.take(world.north)  # again
    assert [row.event for row in world.north.log.rows()] == [
        *("keys-made", "request-signed"),
        *("roster-taken", "certificate-taken") * 2,
    ]


def test_a_partys_folder_is_a_sites_state(world: World) -> None:
    # Its ledgers are signed by the identity that is on the roster.
    state = SiteState(world.north.folder, "north")
    assert state.key.public.hex() == world.north.read().key


@pytest.mark.long
@pytest.mark.usefixtures("cheap_scrypt")
def test_a_sealed_identity_opens_a_sites_state(tmp_path: Path) -> None:
    home = PartyHome(tmp_path / "north", lambda: NOW)
    party = home.make("site", "north", None, WORDS)
    assert home.sealed
    assert SiteState(home.folder, "north", passphrase=WORDS).key.public.hex() == party.key
    with pytest.raises(ConfigError, match="is sealed, and no passphrase is given"):
        assert SiteState(home.folder, "north").key
    with pytest.raises(IdentityError, match="doesn't open"):
        home.secret("key", WORDS[::-1])
    assert home.log.rows()[-1].event == "key-refused"
    with pytest.raises(ConfigError, match="no certificate to renew yet"):
        home.renew(WORDS)


def test_nothing_is_written_over(world: World, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for make in (
        lambda: world.north.make("site", "x", None),
        lambda: world.consortium.make("x"),
        lambda: PartyHome(world.consortium.folder).make("site", "x", None),
        lambda: PartyHome(world.north.folder / "party.json").make("site", "x", None),
    ):
        with pytest.raises((ConfigError, LedgerError)):
            make()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_a_killed_process_has_left_is_taken_away(tmp_path: Path) -> None:
    gone, alive = tmp_path / ".north.99999999.tmp", tmp_path / ".north.1.tmp"
    others = [tmp_path / ".northern.99999999.tmp", tmp_path / ".north.x.tmp"]
    for left in (gone, alive, *others):
        left.mkdir()
        (left / "key").write_text("secret")
    PartyHome(tmp_path / "north").make("site", "north", None)
    assert not gone.exists()
    assert all(left.exists() for left in (alive, *others))


def test_a_name_that_isnt_one_leaves_nothing(tmp_path: Path) -> None:
    for name, tls in (("a\n", None), ("a", "A B"), ("", None)):
        with pytest.raises(ConfigError):
            PartyHome(tmp_path / "x").make("site", name, tls)
    with pytest.raises(ConfigError):
        ConsortiumHome(tmp_path / "y").make(" ")
    assert list(tmp_path.iterdir()) == []


# -- what isn't taken over -----------------------------------------------------------------------


def state(home: PartyHome) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in home.folder.iterdir() if p.suffix in (".json", ".pem")}


def test_what_cant_be_relied_on_changes_nothing_and_is_logged(world: World, tmp_path: Path) -> None:
    world.admit()
    roster = signed_roster_in(world.consortium.roster_path)
    foreign = replace(roster, consortium=OTHER.public.hex(), version=9).signed(OTHER)
    world.take(world.north)
    twin = World(tmp_path / "twin")
    twin.admit()
    cases: list[tuple[Any, Any, type[Exception]]] = [
        (foreign, None, SignerError),
        (signed_roster_in(twin.consortium.roster_path), None, SignerError),
        (None, world.certificate(world.south), PurposeError),
        (None, world.certificate(world.coordinator), PurposeError),
        (None, twin.certificate(twin.north), SignerError),
        (None, "-----BEGIN", IdentityError),
    ]
    before = state(world.north)
    for handed, certificate, error in cases:
        with pytest.raises(error):
            world.north.take(handed, certificate, confirmed=True)
        assert world.north.log.rows()[-1].event == "refused"
    assert state(world.north) == before


def test_a_first_roster_is_confirmed(world: World) -> None:
    world.admit()
    roster = signed_roster_in(world.consortium.roster_path)
    with pytest.raises(ConfigError, match="a certificate needs a roster first"):
        world.north.take(None, world.certificate(world.north), confirmed=True)
    with pytest.raises(ConfigError, match="nobody has confirmed"):
        world.north.take(roster, None)
    assert not (world.north.folder / "trust.json").exists()


def test_an_older_roster_and_another_of_its_version_are_refused(world: World) -> None:
    world.admit(world.coordinator, world.north)
    old = signed_roster_in(world.consortium.roster_path)
    world.take(world.north)
    saved = world.consortium.folder.with_name("copy")
    shutil.copytree(world.consortium.folder, saved)
    world.admit(world.south)
    world.take(world.north)
    with pytest.raises(OutdatedError):
        world.north.take(old, None)
    # A consortium that was restored from a copy would give version 2 a second time.
    shutil.rmtree(world.consortium.folder)
    saved.rename(world.consortium.folder)
    other = PartyHome(world.south.folder.with_name("east"), world.clock)
    other.make("site", "east", None)
    world.admit(other)
    with pytest.raises(EquivocationError):
        world.north.take(signed_roster_in(world.consortium.roster_path), None)


def test_the_roster_that_is_relied_on_is_the_newest_and_good_now(world: World) -> None:
    with pytest.raises(ConfigError, match="has no roster yet"):
        world.north.current_roster()
    world.admit(world.coordinator, world.north)
    world.take(world.north)
    old = (world.north.folder / "roster.json").read_bytes()
    assert world.north.current_roster().version == 1
    world.admit(world.south)
    world.take(world.north)
    assert world.north.current_roster().version == 2
    # Whoever can write the folder puts the old file back.
    (world.north.folder / "roster.json").write_bytes(old)
    with pytest.raises(OutdatedError):
        world.north.current_roster()
    world.take(world.north)
    world.clock.now = NOW + timedelta(days=90)
    with pytest.raises(ExpiredError):
        world.north.current_roster()


def test_a_roster_that_is_just_taken_over_is_no_older_one_to_who_reads_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running coordinator would let all its sites go: the highest version is written first."""
    world.admit()
    world.take(world.north)
    with world.consortium.opened() as found:
        world.consortium.save(found.revoke("south").issued(NOW))
    between, read = threading.Event(), threading.Event()

    def slow(*args: Any, **more: Any) -> None:
        accept(*args, **more)
        between.set()
        read.wait(0.1)  # for as long as that is, the reader waits

    monkeypatch.setattr("fedmodel.identity.home.accept", slow)
    writing = threading.Thread(target=world.take, args=[world.north])
    writing.start()
    between.wait(60)
    try:
        assert world.north.current_roster().version == 2
    finally:
        read.set()
        writing.join(60)


def test_a_roster_is_read_again_when_a_file_has_changed_and_its_time_is_looked_at_always(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admit(world.coordinator, world.north)
    world.take(world.north)
    known = world.north.current_roster()
    read: list[Path] = []

    def counted(path: Path) -> SignedRoster:
        read.append(path)
        return signed_roster_in(path)

    monkeypatch.setattr(home_module, "signed_roster_in", counted)
    assert world.north.current_roster() is known
    assert not read
    for name in ("roster.json", "trust.json", "party.json"):
        os.utime(world.north.folder / name, (1, 1))
        assert world.north.current_roster() == known
        assert read.pop() == world.north.roster_path
    world.clock.now = NOW + timedelta(days=90)
    with pytest.raises(ExpiredError):
        world.north.current_roster()
    assert not read


def test_a_revoked_party_is_told(world: World) -> None:
    world.admit()
    world.take(world.north)
    for home, name in ((world.north, "north"), (world.coordinator, "Trial office")):
        with world.consortium.opened() as found:
            found = found.revoke(name)
            if name != "north":
                new = PartyHome(home.folder.with_name("office"), world.clock)
                new.make("coordinator", "New office", "new.example.org")
                found = found.admit(new.request(), NOW)
            world.consortium.save(found.issued(NOW))
        with pytest.raises(RevokedError, match="taken back"):
            home.take(signed_roster_in(world.consortium.roster_path), None, confirmed=True)


def test_a_party_moves_to_another_consortium_only_by_hand(world: World, tmp_path: Path) -> None:
    world.admit()
    world.take(world.north)
    world.north.renew()
    world.admit(world.north)
    world.take(world.north)  # so that what it asked for last is a renewal
    other = ConsortiumHome(tmp_path / "other", world.clock)
    other.make("highlands")
    with other.opened() as found:
        for home in world.parties:
            assert found.unconfirmed(home.request()) == "it is new here"
            found = found.admit(home.request(), NOW)
        other.save(found.issued(NOW))
    roster = signed_roster_in(other.roster_path)
    certificate = other.certificate_path("north.example.org").read_text()
    with pytest.raises(SignerError):
        world.north.take(roster, certificate, confirmed=True)
    (world.north.folder / "trust.json").unlink()
    with pytest.raises(ConfigError, match="nobody has confirmed"):
        world.north.take(roster, certificate)
    world.north.take(roster, certificate, confirmed=True)
    assert world.north.current_roster().name == "highlands"


def test_a_coordinator_finds_itself_on_the_roster(world: World, tmp_path: Path) -> None:
    world.admit()
    twin = PartyHome(tmp_path / "twin", world.clock)
    twin.make("coordinator", "Trial office", "fl.example.org")
    with pytest.raises(PurposeError, match="another coordinator, 'Trial office' at fl"):
        twin.take(signed_roster_in(world.consortium.roster_path), None, confirmed=True)


# -- renewal -------------------------------------------------------------------------------------


def test_a_renewal_takes_the_place_of_what_it_renews_once_its_certificate_is_there(
    world: World,
) -> None:
    world.admit()
    world.take(world.north)
    first = world.north.certificate()
    world.clock.now = NOW + timedelta(days=70)
    assert [warning.split(" expires in 20 days")[0] for warning in world.north.warnings()] == [
        "version 1 of the roster",
        "the certificate",
    ]
    request = world.north.renew()
    assert world.north.renew() == request == request_in(world.north.request_path)
    assert world.north.certificate() == first
    with world.consortium.opened() as found:
        assert found.unconfirmed(request) is None  # nobody need call
    world.admit(world.north)
    world.take(world.north)
    second = world.north.certificate()
    assert second is not None
    assert second != first
    assert second.key == certified_key(kept_secret(world.north.folder / "tls-key", "tls-key"))
    assert not (world.north.folder / "renewal").exists()
    assert world.north.warnings() == []
    world.clock.now = NOW + timedelta(days=170)
    with pytest.raises(ExpiredError):
        world.take(world.north)


def test_a_first_certificate_that_comes_late_doesnt_end_a_renewal(world: World) -> None:
    world.admit()
    late = world.certificate(world.north)
    world.take(world.north)
    request = world.north.renew()
    world.north.take(None, late)
    assert world.north.request() == request


def test_a_renewal_is_settled_by_two_processes_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admit()
    world.take(world.north)
    renewed = world.north.renew()
    world.admit(world.north)
    move = _files.move

    def moved_before(source: Path, target: Path) -> None:
        move(source, target)
        move(source, target)  # as the other's turn

    monkeypatch.setattr(_files, "move", moved_before)
    world.take(world.north)
    found = world.north.certificate()
    assert found is not None
    assert found.key == certified_key(kept_secret(world.north.folder / "tls-key", "tls-key"))
    assert world.north.request() == renewed
