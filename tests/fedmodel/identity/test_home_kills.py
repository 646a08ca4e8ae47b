"""Folders of parties and of a consortium under kills, and any bytes in place of their files."""

import itertools
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import (
    FedmodelError,
)
from fedmodel.identity.certificates import certified_key, read_certificate
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.register import Consortium
from fedmodel.identity.trust import read_trust
from tests.examples import examples
from tests.fedmodel.identity.folders import World
from tests.fedmodel.identity.killed import killed_at
from tests.fedmodel.identity.parties import NOW
from tests.fedmodel.identity.test_home import OTHER

# -- kills ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_kill_leaves_a_whole_folder_or_none(tmp_path: Path) -> None:
    for call in itertools.count(1):
        root = tmp_path / str(call)
        root.mkdir()
        home = PartyHome(root / "north", lambda: NOW)
        killed = killed_at(call, lambda home=home: home.make("site", "north", None))  # type: ignore[misc]
        if home.folder.exists():
            assert home.request().owner.name == "north"
            assert len(home.log.rows()) == 2
        else:
            assert killed
            for left in root.iterdir():
                assert left.stat().st_mode & 0o077 == 0
            home.make("site", "north", None)
        if not killed:
            break
    assert call > 20


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_consortium_goes_on_with_the_same_command(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.admit(world.coordinator)
    shutil.copytree(world.consortium.folder, tmp_path / "kept")
    for call in itertools.count(1):
        shutil.rmtree(world.consortium.folder)
        shutil.copytree(tmp_path / "kept", world.consortium.folder)
        killed = killed_at(call, lambda: world.admit(world.north))
        found = world.admit(world.north)
        issued = found.register.signed_roster()
        assert issued is not None
        assert issued.version == 1
        assert signed_roster_in(world.consortium.roster_path) == issued
        party = found.register.of_name("north")
        assert party is not None
        assert world.certificate(world.north) == party.certificate
        assert world.consortium.log.rows()
        if not killed:
            break
    assert call > 20


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_party_has_a_certificate_of_its_key_all_the_same(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.admit()
    world.take(world.north)
    world.north.renew()
    world.admit(world.north)
    shutil.copytree(world.north.folder, tmp_path / "kept")
    for call in itertools.count(1):
        shutil.rmtree(world.north.folder)
        shutil.copytree(tmp_path / "kept", world.north.folder)
        killed = killed_at(call, lambda: world.take(world.north))
        for _ in range(2):
            found = world.north.certificate()  # it goes on where it was
            assert found is not None
            seed = kept_secret(world.north.folder / "tls-key", "tls-key")
            assert found.key == certified_key(seed)
            world.take(world.north)
        newest = read_certificate(world.certificate(world.north))
        assert world.north.certificate() == newest
        if not killed:
            break
    assert call > 10


# -- any bytes -----------------------------------------------------------------------------------


@pytest.mark.long
@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(text=st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_any_bytes_in_place_of_a_file_are_an_error(
    text: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    for name in ("party.json", "request.json", "roster.json", "certificate.pem", "trust.json"):
        (folder / name).write_bytes(text)
    home = PartyHome(folder)
    for read in (
        home.read,
        home.request,
        home.roster,
        home.certificate,
        lambda: read_trust(folder / "trust.json"),
        lambda: Consortium.read(text, OTHER, b"A" * 32),
    ):
        with pytest.raises(FedmodelError):
            read()
