"""Requests: what they show, and that nobody can ask with a key that he hasn't."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import config
from fedmodel.errors import ConfigError, FedmodelError, IdentityError, PossessionError
from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import make_request
from fedmodel.identity.request import Owner, PartyRequest
from tests.examples import examples
from tests.fedmodel.identity.parties import NOW, OWNERS, SITES, coordinators, request

FUZZ = settings(max_examples=examples(200), deadline=None, derandomize=True)
OTHER = SigningKey(b"o" * 32)


def test_round_trip() -> None:
    for made in (request(), coordinators(), request(renews=SITES["north"]), request("południe")):
        assert PartyRequest.from_json(made.to_json()) == made
        assert b"private" not in made.to_json().lower()


def test_its_fingerprint_covers_all_of_it() -> None:
    whole = request()
    others = [
        request("południe"),
        request(signer=OTHER),
        request(tls_seed=b"x" * 32),
        request(owner=replace(OWNERS["north"], tls="n.example.org")),
        request(owner=replace(OWNERS["north"], name="North")),
        replace(whole, time="2026-03-01T12:00:01Z"),
    ]
    assert len({whole.fingerprint, *(each.fingerprint for each in others)}) == 7
    assert len(whole.fingerprint) == 32


@pytest.mark.parametrize(
    "change",
    [
        {"key": OTHER.public.hex()},
        {"owner": replace(OWNERS["north"], name="south")},
        {"owner": replace(OWNERS["north"], tls="fl.example.org")},
        {"time": "2027-03-01T12:00:00Z"},
        {"signature": "0" * 128},
        {"certificate_request": make_request(b"m" * 32, "0" * 32, "s1.example.org")},
        # Its maker has signed it, but the TLS key in it is somebody else's.
        {"renews": OTHER.public.hex()},
        {"renewal": "1" * 128},
    ],
)
def test_what_was_changed_on_its_way_is_refused(change: dict[str, Any]) -> None:
    text = replace(request(), **change).to_json()
    with pytest.raises(PossessionError, match="ask for it again"):
        PartyRequest.from_json(text)


def test_a_tls_key_that_its_maker_hasnt_is_refused() -> None:
    # Another party's certificate request, put into a request of one's own and signed.
    stolen = request("południe").certificate_request
    made = request()
    body = replace(made, certificate_request=stolen, signature="0" * 128, renewal=None)
    signature = SITES["north"].sign(b"fedmodel.request/1\0" + config.canonical(body)).hex()
    with pytest.raises(PossessionError, match="it was made for somebody else"):
        PartyRequest.from_json(replace(body, signature=signature).to_json())


def test_a_renewal_is_signed_by_the_old_key() -> None:
    made = request(signer=OTHER, renews=SITES["north"])
    made.verify()
    forged = request(signer=OTHER, renews=OTHER)
    for bad in (
        replace(made, renewal=None),
        replace(made, renewal=made.signature),
        replace(forged, renews=SITES["north"].public.hex()),
    ):
        with pytest.raises(PossessionError):
            bad.verify()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"role": "coordinator"}, "a coordinator has a seal key"),
        ({"seal": "ab" * 32}, "nobody else has one"),
        ({"name": "a\x1b[2J"}, "printable characters"),
        ({"tls": "*.example.org"}, "must be a DNS name"),
        ({"name": "Su\u0308d"}, "must be in one form"),  # another name that looks like it
        ({"name": "a  b"}, "must be in one form"),
    ],
)
def test_an_owner_is_one(change: dict[str, Any], says: str) -> None:
    fields: dict[str, Any] = {"role": "site", "name": "a", "tls": "a.example.org"} | change
    with pytest.raises(ConfigError, match=says):
        Owner(**fields)


def changed(**change: Any) -> bytes:
    mapping = json.loads(request().to_json()) | change
    return json.dumps(mapping, separators=(",", ":"), sort_keys=True).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[" * 10_000,
        request().to_json() + b"\n",
        changed(schema="fedmodel.request/2"),
        changed(owner=None),
        changed(time="2026-02-30T12:00:00Z"),
        changed(more=1),
        b" " * (1 << 15),
    ],
)
def test_another_text_is_told_from_a_request(text: bytes) -> None:
    with pytest.raises(IdentityError, match="a request"):
        PartyRequest.from_json(text)


@FUZZ
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(text: bytes) -> None:
    with pytest.raises(FedmodelError):
        PartyRequest.from_json(text)


@pytest.mark.long
@FUZZ
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(place: int, bit: int) -> None:
    text = bytearray(WHOLE)
    text[place % len(text)] ^= 1 << bit
    with pytest.raises(FedmodelError):
        PartyRequest.from_json(bytes(text))


WHOLE = request(now=NOW).to_json()
