"""A coordinator's keys, made once, and the roster of it and the sites."""

from pathlib import Path

import pytest

from fedmodel._hazmat import x25519_public
from fedmodel.errors import ConfigError, IdentityError, LedgerError
from fedmodel.identity import SigningKey
from fedmodel.identity.provision import provision
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.seeds import Entropy

KEYS = {name: SigningKey(name[:1].encode() * 32) for name in ("south", "north", "east")}


class Refusing(Entropy):
    """Nothing may be drawn."""

    def bytes(self, count: int) -> bytes:
        raise AssertionError("a key was drawn again")


def test_keys_are_made_once_and_kept(tmp_path: Path) -> None:
    home = tmp_path / "consortium" / "coordinator"
    first = provision(home, KEYS, Entropy())
    again = provision(home, KEYS, Refusing())
    assert again.roster == first.roster
    assert again.roster.sha256 == first.roster.sha256
    assert again.signer.public == first.signer.public
    assert again.seal == first.seal
    assert sorted(p.name for p in home.iterdir()) == [".lock", "consortium", "key", "seal-key"]
    # Another folder is another coordinator, though the sites are the same.
    other = provision(tmp_path / "other", KEYS, Entropy())
    assert [m.key for m in other.roster.members] == [m.key for m in first.roster.members]
    assert other.roster.coordinator != first.roster.coordinator
    assert other.roster.seal != first.roster.seal
    assert other.seal != first.seal


def test_its_two_keys_have_nothing_in_common_and_arent_shown(tmp_path: Path) -> None:
    made = provision(tmp_path, KEYS, Entropy())
    signing = (tmp_path / "key").read_text().split()[1]
    assert signing != made.seal.hex()
    for secret in (signing, made.seal.hex(), repr(made.seal)):
        assert secret not in repr(made)
        assert secret not in made.roster.to_json().decode()


def test_the_roster_has_all_and_only_public_keys(tmp_path: Path) -> None:
    made = provision(tmp_path, KEYS, Entropy())
    roster = made.roster
    assert isinstance(roster, SignedRoster)
    assert (roster.version, roster.revoked) == (1, ())
    assert roster.coordinator == made.signer.public.hex()
    assert roster.seal == x25519_public(made.seal).hex()
    assert {m.name: m.key for m in roster.members} == {n: k.public.hex() for n, k in KEYS.items()}
    assert SignedRoster.from_json(roster.to_json()) == roster  # it has verified
    # Whoever is told the sites in another order has the same roster.
    backwards = dict(reversed(KEYS.items()))
    assert provision(tmp_path, backwards, Refusing()).roster == made.roster


def test_other_sites_get_the_next_version(tmp_path: Path) -> None:
    whole = provision(tmp_path, KEYS, Entropy()).roster
    fewer = {name: key for name, key in KEYS.items() if name != "east"}
    less = provision(tmp_path, fewer, Refusing()).roster
    back = provision(tmp_path, KEYS, Entropy()).roster
    other = provision(tmp_path, KEYS | {"east": SigningKey(b"x" * 32)}, Entropy()).roster
    versions = [
        each.version for each in (whole, less, back, other) if isinstance(each, SignedRoster)
    ]
    assert versions == [1, 2, 3, 4]
    assert [m.name for m in less.members] == ["north", "south"]
    assert len({each.sha256 for each in (whole, less, back, other)}) == 4


def test_a_site_may_be_called_coordinator(tmp_path: Path) -> None:
    made = provision(tmp_path, {"coordinator": KEYS["east"]}, Entropy())
    assert [m.name for m in made.roster.members] == ["coordinator"]


def test_a_register_that_was_changed_is_refused(tmp_path: Path) -> None:
    provision(tmp_path, KEYS, Entropy())
    path = tmp_path / "consortium" / "register.json"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"name":"north"', b'"name":"nord!"'))
    with pytest.raises(IdentityError, match="isn't this consortium's, or was changed"):
        provision(tmp_path, KEYS, Entropy())
    path.write_bytes(text)
    (tmp_path / "consortium" / "consortium-key").unlink()
    with pytest.raises(IdentityError, match="isn't this consortium's, or was changed"):
        provision(tmp_path, KEYS, Entropy())


def test_a_roster_that_was_handed_out_is_the_one(tmp_path: Path) -> None:
    made = provision(tmp_path, KEYS, Entropy())
    (tmp_path / "roster.json").write_bytes(made.roster.to_json())
    (tmp_path / "consortium" / "register.json").unlink()
    assert provision(tmp_path, KEYS, Refusing()).roster == made.roster
    others = {name: key for name, key in KEYS.items() if name != "east"}
    with pytest.raises(ConfigError, match="lists east, north, south, by keys of their own"):
        provision(tmp_path, others, Refusing())
    with pytest.raises(ConfigError, match="by keys of their own"):
        provision(tmp_path, KEYS | {"east": SigningKey(b"x" * 32)}, Refusing())
    (tmp_path / "key").unlink()
    with pytest.raises(ConfigError, match="other keys of the coordinator"):
        provision(tmp_path, KEYS, Entropy())


@pytest.mark.parametrize("name", ["key", "seal-key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_keys_that_others_may_read_are_refused(tmp_path: Path, name: str, mode: int) -> None:
    provision(tmp_path, KEYS, Entropy())
    for kept in ("key", "seal-key"):
        assert (tmp_path / kept).stat().st_mode & 0o777 == 0o600
    (tmp_path / name).chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 .*{name}'"):
        provision(tmp_path, KEYS, Refusing())
    (tmp_path / name).chmod(0o600)
    provision(tmp_path, KEYS, Refusing())


def test_one_key_isnt_taken_for_the_other(tmp_path: Path) -> None:
    provision(tmp_path, KEYS, Entropy())
    (tmp_path / "key").rename(tmp_path / "x")
    (tmp_path / "seal-key").rename(tmp_path / "key")
    (tmp_path / "x").rename(tmp_path / "seal-key")
    with pytest.raises(LedgerError, match="isn't a key file"):
        provision(tmp_path, KEYS, Refusing())


def test_a_folder_that_cant_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"can't write .*file/home: Not a directory"):
        provision(tmp_path / "file" / "home", KEYS, Entropy())


@pytest.mark.parametrize(
    ("sites", "says"),
    [
        ({}, "at least 1 member"),
        ({" north": KEYS["north"]}, "printable characters"),
        ({"north": KEYS["north"], "south": KEYS["north"]}, "'north' has the same key"),
    ],
)
def test_sites_that_cant_be_on_a_roster_are_refused(
    tmp_path: Path, sites: dict[str, SigningKey], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        provision(tmp_path, sites, Entropy())


def test_a_site_with_the_coordinators_own_key_is_refused(tmp_path: Path) -> None:
    own = provision(tmp_path, KEYS, Entropy()).signer
    with pytest.raises(ConfigError, match="'coordinator' has the same key"):
        provision(tmp_path, KEYS | {"west": own}, Entropy())
