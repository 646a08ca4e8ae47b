"""Letters: signed for one place, and for no other."""

import json
from dataclasses import replace

import pytest

from fedmodel import config
from fedmodel.errors import ProtocolError, UnsignedError
from fedmodel.identity import SigningKey
from fedmodel.transport.letters import (
    LARGEST_HEADER,
    Order,
    Reply,
    Signed,
    check_same,
    sign_header,
    verified_header,
)

KEY, OTHER = SigningKey(bytes(32)), SigningKey(bytes(31) + b"\1")
ORDER = Order(
    run="run-1",
    epoch=1,
    start="0b" * 16,
    seq=4,
    member=2,
    roster="0c" * 32,
    type="train",
    group="3.1",
    size=5,
    sha256="0d" * 32,
)
REPLY = Reply(
    run="run-1",
    epoch=1,
    start="0b" * 16,
    seq=4,
    member=2,
    order="0e" * 32,
    size=5,
    sha256="0d" * 32,
)


def test_a_header_that_was_signed_verifies() -> None:
    made = sign_header(ORDER, KEY.sign)
    assert verified_header(Order, made.text, made.signature, KEY.public) == ORDER
    made = sign_header(REPLY, KEY.sign)
    assert verified_header(Reply, made.text, made.signature, KEY.public) == REPLY


def test_another_key_or_another_kind_or_a_changed_text_does_not() -> None:
    made = sign_header(ORDER, KEY.sign)
    changed = made.text.replace(b'"member":2', b'"member":3')
    for text, key in [(made.text, OTHER.public), (changed, KEY.public)]:
        with pytest.raises(UnsignedError, match="isn't signed by"):
            verified_header(Order, text, made.signature, key)
    with pytest.raises(UnsignedError, match="isn't signed by"):
        verified_header(Reply, made.text, made.signature, KEY.public)


def test_an_orders_signature_is_none_of_a_reply() -> None:
    # The very bytes of a reply, signed as an order's: the domains differ.
    text = sign_header(REPLY, KEY.sign).text
    signature = KEY.sign(Order.domain + text)
    with pytest.raises(UnsignedError):
        verified_header(Reply, text, signature, KEY.public)


@pytest.mark.parametrize(
    "changed",
    [{"epoch": 0}, {"seq": 0}, {"member": -1}, {"size": -1}, {"size": 1 << 41}, {"start": "x"}],
    ids=str,
)
def test_numbers_that_no_letter_has_are_refused(changed: dict[str, object]) -> None:
    text = sign_header(ORDER, KEY.sign).text
    text = config.canonical({**json.loads(text), **changed})
    signature = KEY.sign(Order.domain + text)
    with pytest.raises(ProtocolError, match="malformed Order"):
        verified_header(Order, text, signature, KEY.public)


def test_a_header_that_is_too_long_is_not_even_verified() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        verified_header(Order, bytes(LARGEST_HEADER + 1), bytes(64), KEY.public)


def test_a_digest_is_of_the_header_alone() -> None:
    made = sign_header(ORDER, KEY.sign)
    assert made.digest == Signed(made.text, bytes(64)).digest
    assert made.digest != sign_header(replace(ORDER, seq=5), KEY.sign).digest


def test_what_must_agree_is_named_where_it_does_not() -> None:
    check_same("order", [("run", "a", "a")])
    with pytest.raises(UnsignedError, match="expected the order of epoch 2, got 1"):
        check_same("order", [("run", "a", "a"), ("epoch", 2, 1)])
