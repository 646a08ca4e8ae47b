"""Messages are read in one way only, and stay the same bytes from version to version."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedmodel import config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg import messages
from fedmodel.secagg.fields import check_hex, check_members, check_numbers, label, only
from fedmodel.secagg.keys import pair_seed, recovery_key
from fedmodel.secagg.messages import Advert, Consent, Manifest, Open, decode, digest, encode
from tests.fedmodel.secagg.recorded import GOLDEN, VECTORS, derivations, transcript

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

KINDS: dict[str, type] = {
    "advert": messages.Advert,
    "open": messages.Open,
    "shares": messages.Shares,
    "deliver": messages.Deliver,
    "upload": messages.Upload,
    "survivors": messages.Survivors,
    "consent": messages.Consent,
    "request": messages.Request,
    "reveal": messages.Reveal,
}


def golden(worlds: "type[World]") -> dict[str, bytes]:
    return transcript(worlds(**GOLDEN))


def of_kind(found: dict[str, bytes], name: str) -> bytes:
    return next(data for key, data in found.items() if key.split()[0] == name)


# -- bytes that stay -------------------------------------------------------------------------------


def test_bytes_are_those_of_version_2(worlds: "type[World]") -> None:
    # If this fails, sites of two versions can't be in one round: give the protocol a new version.
    vectors = json.loads((VECTORS / "secagg_v2.json").read_text())
    found = golden(worlds)
    assert {k: hashlib.sha256(v).hexdigest() for k, v in found.items()} == vectors["sha256"]
    for name, text in vectors["texts"].items():
        assert found[name].decode() == text
    assert found["vector 1"].hex() == vectors["vector_1"]
    assert np.frombuffer(found["sum"], "<i8").tolist() == vectors["sum"]


def test_derivations_are_those_of_version_2() -> None:
    kept = json.loads((VECTORS / "secagg_v2.json").read_text())["derivations"]
    assert derivations() == kept
    secret, attempt = bytes(range(32)), bytes(range(32, 64))
    assert pair_seed(secret, attempt, 2, 300) == pair_seed(secret, attempt, 300, 2)
    # What version 1 derived is another: no key of one is one of the other. Streams are the same.
    old = json.loads((VECTORS / "secagg_v1.json").read_text())["derivations"]
    assert {name for name in kept if kept[name] == old[name]} == {"mask"}


def test_derivations_differ_in_each_part() -> None:
    secret, attempt = bytes(32), b"a" * 32
    found: set[object] = {
        pair_seed(secret, attempt, 1, 2),
        pair_seed(b"1" * 32, attempt, 1, 2),
        pair_seed(secret, b"b" * 32, 1, 2),
        pair_seed(secret, attempt, 1, 3),
        pair_seed(secret, attempt, 3, 2),
        recovery_key(secret, attempt, 1),
        recovery_key(secret, attempt, 2),
        recovery_key(secret, b"b" * 32, 1),
    }
    assert len(found) == 8
    # A label's parts can't run into one another.
    assert label("x", b"ab", b"c") != label("x", b"a", b"bc") != label("x", b"abc")
    assert label("x", 1, 2) != label("x", 1) + label("x", 2)


# -- one way of writing ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_each_message_comes_back(worlds: "type[World]", name: str) -> None:
    data = of_kind(golden(worlds), name)
    found: object = decode(KINDS[name], data)
    assert isinstance(found, KINDS[name])
    assert encode(found) == data
    assert data.startswith(f"fedmodel.secagg/2 {name}\n".encode())
    for other, kind in KINDS.items():
        if other != name:
            with pytest.raises(ProtocolError, match=rf"expected a message '\S+ {other}', got"):
                decode(kind, data)


RESPELLED: list[tuple[str, Callable[[str], str]]] = [
    ("space", lambda t: t.replace(":", ": ", 1)),
    ("newline after", lambda t: t + "\n"),
    ("newline before", lambda t: "\n" + t),
    ("byte order mark", lambda t: "\ufeff" + t),
    ("trailing text", lambda t: t + "{}"),
    ("a key twice", lambda t: '{"member":1,' + t[1:]),
    ("another key", lambda t: '{"a":1,' + t[1:]),
    ("order", lambda t: json.dumps(dict(reversed(json.loads(t).items())), separators=(",", ":"))),
    ("float", lambda t: t.replace('"member":1', '"member":1.0')),
    ("exponent", lambda t: t.replace('"member":1', '"member":1e0')),
    ("text for a number", lambda t: t.replace('"member":1', '"member":"1"')),
    ("true", lambda t: t.replace('"member":1', '"member":true')),
    ("null", lambda t: t.replace('"member":1', '"member":null')),
    ("NaN", lambda t: t.replace('"member":1', '"member":NaN')),
    ("Infinity", lambda t: t.replace('"member":1', '"member":-Infinity')),
    ("minus zero", lambda t: t.replace('"member":1', '"member":-0')),
    ("zero", lambda t: t.replace('"member":1', '"member":0')),
    ("negative", lambda t: t.replace('"member":1', '"member":-1')),
    ("too many sites", lambda t: t.replace('"member":1', '"member":65536')),
    ("2**53", lambda t: t.replace('"member":1', '"member":9007199254740993')),
    ("huge", lambda t: t.replace('"member":1', f'"member":1{"0" * 5000}')),
    ("escaped", lambda t: t.replace('"member"', '"\\u006dember"')),
    ("lone surrogate", lambda t: t.replace('"signature":"', '"signature":"\\ud800')),
    ("upper case", lambda t: t.replace('"signature":"', '"signature":"AB')),
    ("not hex", lambda t: t.replace('"signature":"', '"signature":"zz')),
    ("longer", lambda t: t.replace('"signature":"', '"signature":"00')),
    ("a newline in hex", lambda t: t.replace('"}', '\\n"}')),
    ("nested", lambda t: t.replace('"member":1', f'"member":{"[" * 100_000}{"]" * 100_000}')),
    ("a list", lambda t: f"[{t}]"),
    ("a number", lambda _: "1"),
    ("null alone", lambda _: "null"),
    ("nothing", lambda _: ""),
]


@pytest.mark.parametrize(("how", "change"), RESPELLED, ids=[h for h, _ in RESPELLED])
def test_other_spellings_are_refused(how: str, change: Callable[[str], str]) -> None:
    good = encode(Consent(member=1, signature="0f" * 64))
    name, text = good.split(b"\n", 1)
    changed = name + b"\n" + change(text.decode()).encode()
    assert changed != good, how
    said = r"a malformed message|isn't in canonical form|bytes; among"
    with pytest.raises(ProtocolError, match=said):
        decode(Consent, changed)


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_other_encodings_are_refused(codec: str) -> None:
    name, text = encode(Consent(member=1, signature="0f" * 64)).split(b"\n", 1)
    with pytest.raises(ProtocolError):
        decode(Consent, name + b"\n" + text.decode().encode(codec))


def test_names_and_sizes() -> None:
    good = encode(Consent(member=1, signature="0f" * 64))
    for data in (
        b"",
        b"fedmodel.secagg/2",
        good.replace(b"/2 ", b"/1 ", 1),
        good.replace(b"consent", b"consents", 1),
        good[1:],
        b" " + good,
    ):
        with pytest.raises(ProtocolError, match=r"expected a message 'fedmodel\.secagg/2 consent'"):
            decode(Consent, data)
    with pytest.raises(ProtocolError, match=r"of 713 bytes; among 5 sites it has at most 512"):
        decode(Consent, good + bytes(713 - len(good)), 5)


def test_numbers_in_a_message_are_in_order(world: "World") -> None:
    opened = decode(Open, world.begin().open_for(1))
    for cohort in ((2, 1), (1, 1), (0, 1), (1, 65536)):
        with pytest.raises(ConfigError, match="cohort must be site numbers"):
            replace(opened.manifest, cohort=cohort)
    text = encode(opened)
    assert b'"cohort":[1,2,3,4,5]' in text
    with pytest.raises(ProtocolError, match="cohort must be site numbers in rising order"):
        decode(Open, text.replace(b'"cohort":[1,2,3,4,5]', b'"cohort":[2,1,3,4,5]'))


def test_fields() -> None:
    check_hex("x", "")
    check_hex("x", "00ff", 4)
    for text, digits in (("0", None), ("0g", None), ("00\n", None), ("00", 4), ("٠٠", 2)):
        with pytest.raises(ConfigError, match="x must be"):
            check_hex("x", text, digits)
    check_members("x", 1, 65535)
    check_numbers("x", ())
    only((1, 2), (2, 1), "what")
    with pytest.raises(ProtocolError, match=r"what: sites \[1, 3\] are missing or too many"):
        only((1, 2), (2, 3), "what")


# -- signatures ------------------------------------------------------------------------------------


def test_a_signature_is_over_every_field(worlds: "type[World]") -> None:
    found = golden(worlds)
    manifest = decode(Open, found["open 1"]).manifest
    for name, value in config.to_mapping(manifest).items():
        if name == "signature":
            other: Any = "0" * 128
        elif isinstance(value, str):
            other = value[:-1] + ("1" if value[-1] != "1" else "2")
        else:
            lists = {"cohort": (1, 2, 3, 5), "keys": ("0" * 64,) * 4}
            other = lists[name] if name in lists else value + 1
        changed = replace(manifest, **{name: other})
        assert (changed.signed() == manifest.signed()) == (name == "signature")
        assert (digest(changed) == digest(manifest)) == (name == "signature")
    advert = decode(Advert, found["advert 1"])
    for name in ("session", "job", "roster", "key"):
        assert replace(advert, **dict[str, Any]({name: "7" * 64})).signed() != advert.signed()
    assert replace(advert, member=2).signed() != advert.signed()


def test_what_is_signed_says_what_for(worlds: "type[World]") -> None:
    found = golden(worlds)
    signed = [
        decode(Advert, found["advert 1"]).signed(),
        decode(Open, found["open 1"]).manifest.signed(),
        decode(messages.Shares, found["shares 1"]).signed(),
        decode(messages.Survivors, found["survivors"]).signed(),
    ]
    prefixes = [text.split(b"\0", 1)[0] for text in signed]
    names = ("advert", "manifest", "shares", "consent")
    assert prefixes == [f"fedmodel.secagg/2 {name}".encode() for name in names]
    assert isinstance(decode(Open, found["open 1"]).manifest, Manifest)
