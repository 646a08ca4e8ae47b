"""The signed roster: one byte changed, rolled back, expired, or signed by another."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import (
    ConfigError,
    EquivocationError,
    ExpiredError,
    FedmodelError,
    IdentityError,
    LedgerError,
    OutdatedError,
    RevokedError,
    SignerError,
)
from fedmodel.identity import Roster, SigningKey
from fedmodel.identity.register import Consortium
from fedmodel.identity.signed_roster import (
    Revoked,
    SignedMember,
    SignedRoster,
    load_roster,
    read_roster,
)
from fedmodel.identity.trust import accept, read_trust
from tests.examples import examples
from tests.fedmodel.identity.parties import (
    CONSORTIUM,
    NAMES,
    NOW,
    OWNER,
    SITES,
    consortium,
    coordinators,
    request,
    roster,
)

FUZZ = settings(max_examples=examples(300), deadline=None, derandomize=True)
WHOLE = roster(consortium())
TEXT = WHOLE.to_json()
OTHER = SigningKey(b"o" * 32)
TWIN = SignedMember(name="x", key="11" * 32, tls="s2.example.org")


def test_it_says_who_belongs_to_it() -> None:
    assert [m.name for m in WHOLE.members] == list(NAMES)
    assert WHOLE.keys == {i: SITES[name].public for i, name in enumerate(NAMES, start=1)}
    assert (WHOLE.name, WHOLE.version, WHOLE.revoked) == ("lowlands", 1, ())
    assert WHOLE.number_of("południe") == 3
    assert WHOLE.own("north", SITES["north"].public.hex()).tls == "s1.example.org"
    WHOLE.check(CONSORTIUM.public.hex(), NOW)


def test_both_versions_are_read(tmp_path: Path) -> None:
    assert read_roster(TEXT) == SignedRoster.from_json(TEXT) == WHOLE
    first = Path(__file__).resolve().parents[2] / "vectors" / "roster_v1.json"
    assert load_roster(first).format == "fedmodel.roster/1"
    (tmp_path / "roster.json").write_bytes(TEXT)
    assert load_roster(tmp_path / "roster.json") == WHOLE
    with pytest.raises(ConfigError, match=r"expected a roster of format fedmodel\.roster/1"):
        Roster.from_json(first.read_bytes().replace(b"roster/1", b"roster/2"))


# -- what isn't relied on ------------------------------------------------------------------------


def test_a_roster_that_another_has_signed_is_refused() -> None:
    forged = replace(WHOLE, consortium=OTHER.public.hex()).signed(OTHER)
    found = SignedRoster.from_json(forged.to_json())  # rightly signed, by somebody
    with pytest.raises(SignerError, match=r"is signed by consortium .*, expected"):
        found.check(CONSORTIUM.public.hex(), NOW)
    pretended = replace(forged, consortium=WHOLE.consortium)
    with pytest.raises(IdentityError, match="the roster's signature doesn't verify"):
        SignedRoster.from_json(pretended.to_json())
    with pytest.raises(ConfigError, match="signed by the consortium that it names"):
        WHOLE.signed(OTHER)


def test_it_has_a_time() -> None:
    key = CONSORTIUM.public.hex()
    WHOLE.check(key, NOW + timedelta(days=90, seconds=-1))
    with pytest.raises(ExpiredError, match="version 1 of the roster of 'lowlands' was good until"):
        WHOLE.check(key, NOW + timedelta(days=90))
    with pytest.raises(ExpiredError, match="is good from"):
        WHOLE.check(key, NOW - timedelta(hours=1))


# How long it is changes with the signatures in its certificates, and names of cases mustn't.
@pytest.mark.parametrize(
    "place",
    [0, 5, 100, 500, len(TEXT) // 2, -200, -2],
    ids=["0", "5", "100", "500", "half", "-200", "-2"],
)
@pytest.mark.parametrize("bit", [0, 3])
def test_one_changed_byte_is_noticed(place: int, bit: int) -> None:
    text = bytearray(TEXT)
    text[place] ^= 1 << bit
    with pytest.raises((IdentityError, ConfigError)):
        read_roster(bytes(text))


@pytest.mark.slow
@pytest.mark.long
def test_each_changed_byte_is_noticed() -> None:
    for place in range(len(TEXT)):
        text = bytearray(TEXT)
        text[place] ^= 1
        with pytest.raises((IdentityError, ConfigError)):
            read_roster(bytes(text))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 0}, "version must be 1 or more"),
        ({"version": 1 << 60}, "version must be 1 or more"),
        ({"expires": WHOLE.issued}, "can't end at"),
        ({"issued": "2026-02-30T12:00:00Z"}, "there is no such time"),
        ({"coordinator_tls": "s1.example.org"}, "'north' has the TLS name of the coordinator"),
        ({"consortium": SITES["north"].public.hex()}, "has the consortium's own key"),
        ({"authority": "x" * 5000}, "authority's certificate is longer"),
        ({"members": ()}, "at least 1 member"),
        (
            {
                "members": (
                    *WHOLE.members,
                    SignedMember(name="x", key="11" * 32, tls="s2.example.org"),
                )
            },
            "'x' has the TLS name of .*Sant.*, s2",
        ),
        (
            {"revoked": (Revoked(name="n", key=SITES["north"].public.hex(), version=1),)},
            "was revoked and can't be on a roster again",
        ),
        ({"revoked": (Revoked(name="n", key="11" * 32, version=1),) * 2}, "revoked twice"),
    ],
)
def test_what_isnt_a_roster_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(WHOLE, **change)


def test_a_site_finds_itself_or_is_told_why_not() -> None:
    own = SITES["north"].public.hex()
    with pytest.raises(ConfigError, match="another key under the name 'north'"):
        WHOLE.own("north", OTHER.public.hex())
    with pytest.raises(ConfigError, match="no member 'nord'"):
        WHOLE.own("nord", own)
    after = roster(consortium().revoke("north").issued(NOW))
    with pytest.raises(RevokedError, match="taken back in version 2"):
        after.own("north", own)


def test_what_a_new_version_changes_is_told() -> None:
    before = roster(consortium("north", "południe"))
    assert before.changes_since(before) == []
    found = consortium().revoke("north").issued(NOW)
    assert roster(found).changes_since(before) == [
        'new: "Ospedale Sant\'Anna"',
        "no longer listed: 'north'",
        "revoked: 'north'",
    ]
    mail = request(signer=SigningKey(b"N" * 32), renews=SITES["north"])
    found = consortium().admit(mail, NOW).revoke("Trial office")
    other = coordinators(signer=OTHER, owner=replace(OWNER, name="New office"))
    after = roster(found.admit(other, NOW).issued(NOW))
    assert after.changes_since(roster(consortium())) == [
        "another identity key: 'north'",
        "another coordinator: 'New office' at fl.example.org",
        "revoked: 'north'",
        "revoked: 'Trial office'",
    ]
    assert replace(WHOLE, seal="cd" * 32).changes_since(WHOLE) == [
        "another key of the coordinator that updates are sealed to"
    ]


# -- the newest one ------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trust.json"


def next_one(found: Consortium) -> Consortium:
    return found.issued(NOW, anew=True)


def test_the_first_roster_is_taken_once_somebody_has_confirmed_whose_it_is(path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody has confirmed the consortium's key"):
        accept(path, WHOLE, NOW)
    assert read_trust(path) is None
    accept(path, WHOLE, NOW, confirmed=True)
    kept = read_trust(path)
    assert kept is not None
    assert (kept.consortium, kept.version) == (CONSORTIUM.public.hex(), 1)
    assert path.stat().st_mode & 0o777 == 0o600
    accept(path, WHOLE, NOW)  # again


def test_older_rosters_are_refused_for_ever(path: Path) -> None:
    first = consortium()
    second = next_one(first)
    third = next_one(second)
    accept(path, roster(second), NOW, confirmed=True)
    with pytest.raises(OutdatedError, match=r"version 1 .* version 2 was seen here"):
        accept(path, roster(first), NOW)
    accept(path, roster(third), NOW)
    for older in (first, second):
        with pytest.raises(OutdatedError):
            accept(path, roster(older), NOW, confirmed=True)
    accept(path, roster(third), NOW)


def test_two_rosters_of_one_version_are_told(path: Path) -> None:
    accept(path, WHOLE, NOW, confirmed=True)
    twin = roster(consortium("north"))
    assert twin.version == WHOLE.version
    with pytest.raises(EquivocationError, match="two different rosters of version 1"):
        accept(path, twin, NOW)


def test_nothing_else_takes_the_place_of_what_is_trusted(path: Path) -> None:
    accept(path, WHOLE, NOW, confirmed=True)
    before = path.read_bytes()
    forged = replace(WHOLE, consortium=OTHER.public.hex(), version=9).signed(OTHER)
    first = Path(__file__).resolve().parents[2] / "vectors" / "roster_v1.json"
    for bad, late, error in (
        (forged, NOW, SignerError),
        (load_roster(first), NOW, SignerError),
        (roster(next_one(consortium())), NOW + timedelta(days=365), ExpiredError),
    ):
        with pytest.raises(error):
            accept(path, bad, late, confirmed=True)
    assert path.read_bytes() == before


def test_a_memory_that_cant_be_read_is_told(path: Path) -> None:
    path.write_bytes(b"{}")
    with pytest.raises(IdentityError, match=r"trust\.json isn't a file of this version"):
        accept(path, WHOLE, NOW, confirmed=True)
    with pytest.raises(LedgerError, match="can't write"):
        accept(path.parent / "none" / "trust.json", WHOLE, NOW, confirmed=True)


# -- any text ------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def read(text: bytes) -> None:
    try:
        found = read_roster(text)
    except FedmodelError:
        return
    assert found.to_json() == text == TEXT


@pytest.mark.long
@FUZZ
@given(st.binary(max_size=200).map(lambda b: b'{"format":"fedmodel.roster/2",' + b))
def test_any_bytes_give_the_roster_or_an_error(text: bytes) -> None:
    read(text)


@pytest.mark.long
@settings(FUZZ, max_examples=examples(100))
@given(st.dictionaries(st.sampled_from(sorted(json.loads(TEXT))), VALUES, min_size=1))
def test_any_fields_give_the_roster_or_an_error(change: dict[str, Any]) -> None:
    mapping = json.loads(TEXT) | change
    read(
        json.dumps(mapping, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )
    )
