"""The roster: what it must hold, and that no text gives anything but one or an error."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedmodel.errors import ConfigError, FedmodelError, ProtocolError
from fedmodel.identity import Member, Roster
from tests.examples import examples

FUZZ = settings(max_examples=examples(300), deadline=None, derandomize=True)


def key(number: int) -> str:
    return f"{number:064x}"


def roster(*names: str, **changes: Any) -> Roster:
    members = tuple(Member(name=n, key=key(i)) for i, n in enumerate(names or ("a", "b", "c"), 1))
    fields: dict[str, Any] = {"coordinator": key(100), "seal": key(101), "members": members}
    return Roster(**(fields | changes))


# -- as a value ----------------------------------------------------------------------------------


def test_members_have_numbers_from_one() -> None:
    found = roster("süd", "nord")
    assert found.name == "simulation"
    assert (found.number_of("süd"), found.number_of("nord")) == (1, 2)
    assert found.keys == {1: bytes.fromhex(key(1)), 2: bytes.fromhex(key(2))}
    assert found.member(2).name == "nord"
    for number in (-1, 0, 3):
        with pytest.raises(ProtocolError, match=f"members 1 to 2, got {number}"):
            found.member(number)
    with pytest.raises(ConfigError, match=r"no member 'nrod' \(did you mean 'nord'\?\)"):
        found.number_of("nrod")


def test_its_hash_names_all_of_it() -> None:
    whole = roster()
    others = [
        roster("a", "b"),
        roster("a", "c", "b"),
        replace(whole, name="x"),
        replace(whole, coordinator=key(102)),
        replace(whole, seal=key(102)),
        replace(whole, members=whole.members[::-1]),
    ]
    assert len({whole.sha256, *(r.sha256 for r in others)}) == 1 + len(others)
    assert whole.sha256 == roster().sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinator": key(1)}, "'a' has the same key as the coordinator"),
        ({"coordinator": "AB" * 32}, "coordinator's key must be 64 digits of lower-case hex"),
        ({"seal": "ab" * 31}, "seal key must be 64 digits"),
        ({"members": ()}, "at least 1 member, got none"),
        ({"name": ""}, "name must be 1 to 200 printable"),
    ],
)
def test_what_isnt_a_roster_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        roster(**change)


def test_members_differ_in_name_and_key() -> None:
    with pytest.raises(ConfigError, match="two members are called 'a'"):
        roster("a", "b", "a")
    twice = (Member(name="a", key=key(1)), Member(name="b", key=key(1)))
    with pytest.raises(ConfigError, match="'b' has the same key as 'a'"):
        roster(members=twice)


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\n", "\x1b[2J", "\u202eab", "\ud800", "x" * 201]
)
def test_a_name_can_be_shown(name: str) -> None:
    with pytest.raises(ConfigError, match="a member's name must be"):
        Member(name=name, key=key(1))


@pytest.mark.parametrize("bad", ["", "ab" * 33, "0x" + "a" * 62, "g" * 64, "AB" * 32, "٣" * 64])
def test_a_key_is_hex(bad: str) -> None:
    with pytest.raises(ConfigError, match="the key of 'a' must be 64 digits of lower-case hex"):
        Member(name="a", key=bad)


# -- as a text -----------------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    made = roster("Klinikum Süd", 'with "quotes" \\', name="Verbund")
    assert Roster.from_json(made.to_json()) == made
    (tmp_path / "roster.json").write_bytes(made.to_json())
    assert Roster.load(tmp_path / "roster.json") == made


def changed(**change: Any) -> bytes:
    mapping = json.loads(roster().to_json()) | change
    return json.dumps(mapping, separators=(",", ":"), sort_keys=True).encode()


def test_only_the_canonical_text_is_a_roster() -> None:
    text = roster().to_json()
    assert changed() == text
    for other in (
        text + b"\n",
        b" " + text,
        json.dumps(json.loads(text), indent=1).encode(),
        text.replace(b'"name":"simulation"', b'"name":"x","name":"simulation"'),
        text.replace(b"simulation", b"simul\\u0061tion"),
        text.decode().encode("utf-16"),
        text.replace(b'"format":"fedmodel.roster/1",', b""),
    ):
        with pytest.raises(ConfigError, match="canonical JSON"):
            Roster.from_json(other)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b"\xff",
        b"9" * 5000,
        changed(format="fedmodel.roster/2"),
        changed(members=[]),
        changed(members=5),
        changed(members={"a": "b"}),
        changed(members=["ab"]),
        changed(members=[{"name": "a"}]),
        changed(members=[{"name": "a", "key": 5}]),
        changed(coordinator=None),
        changed(more=1),
    ],
)
def test_another_text_is_told_from_a_roster(text: bytes) -> None:
    with pytest.raises(ConfigError, match="not a roster of this version"):
        Roster.from_json(text)


def test_a_roster_has_a_largest_size() -> None:
    with pytest.raises(ConfigError, match="at most 4194304 bytes, got 4194305"):
        Roster.from_json(b" " * (2**22 + 1))


def test_a_file_that_isnt_a_roster_is_named(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    with pytest.raises(ConfigError, match=r"can't read the roster .*roster\.json: No such file"):
        Roster.load(path)
    path.write_bytes(b"{}")
    with pytest.raises(ConfigError, match=r"roster\.json: not a roster of this version"):
        Roster.load(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(key(7)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def read(text: bytes) -> None:
    try:
        found = Roster.from_json(text)
    except FedmodelError:
        return
    assert found.to_json() == text


@pytest.mark.long
@FUZZ
@example(b"\xef\xbb\xbf{}")
@given(st.binary(max_size=200))
def test_any_bytes_give_a_roster_or_an_error(text: bytes) -> None:
    read(text)


@pytest.mark.slow
@pytest.mark.long
@FUZZ
@given(
    st.dictionaries(st.sampled_from(["format", "name", "coordinator", "seal", "members"]), VALUES)
)
def test_any_fields_give_a_roster_or_an_error(change: dict[str, Any]) -> None:
    read(changed(**change))


@pytest.mark.long
@FUZZ
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_gives_another_roster_or_an_error(place: int, value: int) -> None:
    text = bytearray(roster().to_json())
    text[place % len(text)] = value
    read(bytes(text))
