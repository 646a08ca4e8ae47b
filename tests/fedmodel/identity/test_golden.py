"""What released versions wrote of identities: every later one reads and verifies it."""

import json
import shutil
from pathlib import Path

import pytest

from fedmodel import config
from fedmodel.errors import IdentityError
from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import certified_key, check_authority, check_certificate
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.register import Consortium
from fedmodel.identity.request import PartyRequest
from fedmodel.identity.security_log import SecurityLog
from fedmodel.identity.signed_roster import SignedRoster, load_roster
from fedmodel.identity.trust import read_trust
from fedmodel.identity.validity import as_time
from tests.fedmodel.identity.parties import (
    CONSORTIUM,
    COORDINATOR,
    NAMES,
    OWNERS,
    SITES,
    consortium,
    roster,
)

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
ONE = VECTORS / "identity_v1"
ROSTER = VECTORS / "roster_v2.json"


def test_a_signed_roster_names_the_same_consortium() -> None:
    found = load_roster(ROSTER)
    assert isinstance(found, SignedRoster)
    assert found.to_json() == ROSTER.read_bytes()
    assert found.sha256 == "519b2d7899eaefa2414d056209ab0122ae6e1117cbfcba274e9a74065d508dcd"
    found.check(CONSORTIUM.public.hex(), as_time("2026-07-01T00:00:00Z"))
    assert (found.name, found.version, found.expires) == ("lowlands", 2, "2026-07-29T12:00:00Z")
    assert found.coordinator == COORDINATOR.public.hex()
    assert (found.coordinator_name, found.coordinator_tls) == ("Trial office", "fl.example.org")
    assert [m.name for m in found.members] == list(NAMES)
    assert [m.tls for m in found.members] == [f"s{i}.example.org" for i in (1, 2, 3)]
    assert [(r.name, r.key, r.version) for r in found.revoked] == [
        ("north", SITES["north"].public.hex(), 2)
    ]
    check_authority(found.authority, as_time("2036-01-01T00:00:00Z"))


def test_a_signed_roster_is_what_was_trusted() -> None:
    trust = read_trust(ONE / "trust.json")
    found = load_roster(ROSTER)
    assert trust is not None
    assert isinstance(found, SignedRoster)
    trust.check(found, as_time("2026-07-01T00:00:00Z"))
    assert config.canonical(trust) == (ONE / "trust.json").read_bytes()


def test_a_party_is_who_its_folder_says(tmp_path: Path) -> None:
    shutil.copy(ONE / "party.json", tmp_path)
    party = PartyHome(tmp_path).read()
    assert (party.owner, party.key) == (OWNERS["north"], SITES["north"].public.hex())
    party.check_listed(roster(consortium("north")))


def test_requests_still_show_that_their_makers_have_the_keys() -> None:
    made = PartyRequest.from_json((ONE / "request.json").read_bytes())
    assert made.fingerprint == "7e3168e917f87dbb302067b52b838347"
    assert (made.owner.role, made.owner.name, made.renews) == ("site", "north", made.key)
    other = PartyRequest.from_json((ONE / "request-of-coordinator.json").read_bytes())
    assert (other.owner.role, other.owner.seal, other.renews) == ("coordinator", "ab" * 32, None)


def test_a_register_is_read_and_what_it_issued_is_good() -> None:
    found = Consortium.read((ONE / "register.json").read_bytes(), CONSORTIUM, b"A" * 32)
    assert found.to_json() == (ONE / "register.json").read_bytes()
    assert found.register.signed_roster() == load_roster(ROSTER)
    keys = SITES | {"north": SigningKey(b"N" * 32), "Trial office": COORDINATOR}
    for party in found.register.parties:
        check_certificate(
            party.certificate,
            found.register.authority,
            purpose=party.owner.role,
            subject=keys[party.owner.name].fingerprint,
            name=party.owner.tls,
            now=as_time("2026-05-20T00:00:00Z"),
        )


@pytest.mark.long
def test_secrets_are_read_sealed_and_in_the_clear(tmp_path: Path) -> None:
    for name in ("key-sealed", "tls-key"):
        shutil.copy(ONE / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    sealed, clear = tmp_path / "key-sealed", tmp_path / "tls-key"
    words = b"correct horse battery staple"
    assert kept_secret(sealed, "key", passphrase=words) == bytes(range(32))
    with pytest.raises(IdentityError):
        kept_secret(sealed, "key", passphrase=words[::-1])
    seed = kept_secret(clear, "tls-key")
    # How a TLS key follows from its seed can't change either.
    assert config.sha256(certified_key(seed)) == (
        "093da8577d8b6702be4ef62e0ff3a72d2a9847f06c6ab85d3d4bfbd586f0e18d"
    )


def test_a_security_log_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "security.jsonl"
    shutil.copy(ONE / "security.jsonl", path)
    rows = SecurityLog(path).rows()
    assert [row.event for row in rows] == ["keys-made", "roster-accepted", "torn", "roster-refused"]
    SecurityLog(path).add("more")
    assert len(SecurityLog(path).rows()) == 5
    assert json.loads(path.read_text().splitlines()[0])["by"] == "alice"
