"""Sealed updates: what an envelope's way may do to it, and that none of it goes unnoticed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import _hazmat
from fedmodel.errors import ConfigError, LedgerError, ProtocolError
from fedmodel.identity import SigningKey, kept_secret, seal
from fedmodel.identity.seal import Context
from fedmodel.seeds import Entropy
from tests.examples import examples

FUZZ = settings(max_examples=examples(200), deadline=None, derandomize=True)
PRIVATE, STRANGER = b"p" * 32, b"s" * 32
TO = _hazmat.x25519_public(PRIVATE)
SITES = {1: SigningKey(b"1" * 32), 2: SigningKey(b"2" * 32)}
CONTEXT = Context(session="5e" * 32, job="0b" * 32, roster="1f" * 32, member=1, round=3)
TEXT = b"an update of one site"
VERSION = len(b"fedmodel.seal/1\n")


def sealed(text: bytes = TEXT, **changes: Any) -> bytes:
    context = replace(CONTEXT, **changes)
    return seal.seal(text, to=TO, sign=SITES[context.member].sign, context=context)


def opened(envelope: bytes, private: bytes = PRIVATE, sender: int = 1, **changes: Any) -> bytes:
    context = replace(CONTEXT, **changes)
    return seal.open_(envelope, private=private, sender=SITES[sender].public, context=context)


@pytest.mark.parametrize("text", [b"", TEXT, bytes(1 << 20)])
def test_round_trip(text: bytes) -> None:
    envelope = sealed(text)
    assert opened(envelope) == text
    assert envelope.startswith(b"fedmodel.seal/1\n")
    assert len(envelope) == VERSION + 64 + 32 + len(text) + 16
    assert not text or text not in envelope
    assert sealed(text) != envelope


@pytest.mark.parametrize(
    "change",
    [
        {"session": "5f" * 32},
        {"job": "0c" * 32},
        {"roster": "20" * 32},
        {"member": 2},
        {"round": 4},
        {"purpose": "evaluation"},
    ],
)
def test_an_envelope_is_for_one_context(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="the signature doesn't verify"):
        opened(sealed(), **change)
    # The encryption is bound to it too: a site that signs anew what it didn't seal gets no further.
    envelope = sealed()
    hidden = envelope[VERSION + 64 :]
    signature = SITES[1].sign(seal._signed(hidden, replace(CONTEXT, **change)))
    with pytest.raises(ProtocolError, match="doesn't open"):
        opened(envelope[:VERSION] + signature + hidden, **change)


def test_a_replay_in_another_round_is_refused() -> None:
    earlier = sealed(round=2)
    assert opened(earlier, round=2) == TEXT
    with pytest.raises(ProtocolError):
        opened(earlier, round=3)


def test_a_relay_cant_swap_two_sites_envelopes() -> None:
    one, two = sealed(b"one", member=1), sealed(b"two", member=2)
    assert opened(two, sender=2, member=2) == b"two"
    for envelope, member in ((two, 1), (one, 2)):
        with pytest.raises(ProtocolError):
            opened(envelope, sender=member, member=member)


def test_a_site_cant_pass_off_another_ones_update_as_its_own() -> None:
    envelope = sealed(member=1)
    hidden = envelope[VERSION + 64 :]
    own = replace(CONTEXT, member=2)
    stolen = envelope[:VERSION] + SITES[2].sign(seal._signed(hidden, own)) + hidden
    with pytest.raises(ProtocolError, match="doesn't open"):
        opened(stolen, sender=2, member=2)


def test_a_signature_by_another_site_is_refused() -> None:
    forged = seal.seal(TEXT, to=TO, sign=SITES[2].sign, context=CONTEXT)
    with pytest.raises(ProtocolError, match="the signature doesn't verify"):
        opened(forged)
    assert opened(forged, sender=2) == TEXT


def test_only_the_coordinators_key_opens_it() -> None:
    with pytest.raises(ProtocolError, match="doesn't open"):
        opened(sealed(), private=STRANGER)
    for private in (b"", b"p" * 31):
        with pytest.raises(ProtocolError):
            opened(sealed(), private=private)


@pytest.mark.parametrize("to", [b"", bytes(32), b"x" * 33])
def test_a_key_that_cant_be_sealed_to_is_refused(to: bytes) -> None:
    with pytest.raises(ProtocolError, match="isn't usable"):
        seal.seal(TEXT, to=to, sign=SITES[1].sign, context=CONTEXT)


@pytest.mark.parametrize("version", [b"fedmodel.seal/2\n", b"fedmodel.seal/1 ", b""])
def test_another_version_is_refused(version: bytes) -> None:
    with pytest.raises(
        ProtocolError, match=r"expected a sealed update of version fedmodel\.seal/1"
    ):
        opened(version + sealed()[VERSION:])


def test_a_cut_or_longer_envelope_is_refused() -> None:
    envelope = sealed()
    for size in range(len(envelope)):
        with pytest.raises(ProtocolError):
            opened(envelope[:size])
    with pytest.raises(ProtocolError):
        opened(envelope + b"\0")


@pytest.mark.long
@FUZZ
@given(st.integers(0, 10_000))
def test_a_flipped_bit_is_noticed(place: int) -> None:
    envelope = bytearray(sealed())
    place %= 8 * len(envelope)
    envelope[place // 8] ^= 1 << place % 8
    with pytest.raises(ProtocolError):
        opened(bytes(envelope))


@pytest.mark.long
@FUZZ
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_refused(noise: bytes, signed: bool) -> None:
    with pytest.raises(ProtocolError):
        opened(noise)
    # As a member of the consortium may send them, rightly signed.
    signature = SITES[1].sign(seal._signed(noise, CONTEXT)) if signed else b""
    with pytest.raises(ProtocolError):
        opened(b"fedmodel.seal/1\n" + signature + noise)


@pytest.mark.parametrize(
    "change",
    [
        {"session": "5e" * 16},
        {"job": "0B" * 32},
        {"roster": ""},
        {"member": 0},
        {"round": 0},
        {"purpose": ""},
    ],
)
def test_a_context_says_all_of_it(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(CONTEXT, **change)


def test_the_coordinators_key_is_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "seal-key"
    with pytest.raises(LedgerError, match="restore the coordinator's seal-key from a copy"):
        kept_secret(path, "seal-key")
    private = kept_secret(path, "seal-key", Entropy())
    assert path.stat().st_mode & 0o777 == 0o600
    to = _hazmat.x25519_public(kept_secret(path, "seal-key"))
    envelope = seal.seal(TEXT, to=to, sign=SITES[1].sign, context=CONTEXT)
    assert opened(envelope, private=private) == TEXT
    with pytest.raises(LedgerError, match="isn't a key file"):
        kept_secret(path, "key")
