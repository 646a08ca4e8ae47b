"""Frames: what goes in comes out, and nothing else is read."""

import random
import struct

import pytest

from fedmodel import config
from fedmodel.errors import ProtocolError
from fedmodel.transport import frames
from fedmodel.transport.frames import (
    Ack,
    Chunk,
    Head,
    Letter,
    decode,
    encode,
)
from tests.fedmodel.transport.mutants import HEADS, mutated

ALL = frozenset(type(head) for head in HEADS)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_what_goes_in_comes_out(head: Head) -> None:
    found = decode(encode(head, [b"ab", memoryview(b"c")]), ALL)
    assert found.head == head
    assert bytes(found.body) == b"abc"


def test_a_frame_has_the_bytes_that_its_module_says() -> None:
    text = config.canonical({"seq": 9})
    assert encode(Ack(seq=9), [b"x"]) == b"F\x01\x06" + struct.pack(">I", len(text)) + text + b"x"


def test_a_body_is_a_view_and_no_copy() -> None:
    data = encode(Chunk(seq=1, offset=0), [bytes(1000)])
    assert decode(data, ALL).body.obj is data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "expected a frame of"),
        (b"F\x01", "expected a frame of"),
        (b"G\x01" + encode(Ack(seq=1))[2:], "version 1"),
        (b"F\x02" + encode(Ack(seq=1))[2:], "version 1"),
        (b"F\x01\x63" + encode(Ack(seq=1))[3:], "kind 99"),
        (b"F\x01\x06\xff\xff\xff\xff{}", "by its own word"),
        (b"F\x01\x06\x00\x00\x00\x05{}", "by its own word"),
        (b"F\x01\x06\x00\x00\x00\x02{}", "missing key 'seq'"),
        (b"F\x01\x06\x00\x00\x00\x0a{\"seq\": 1}", "canonical"),
        (b"F\x01\x06\x00\x00\x00\x0a{\"seq\":-1}", "seq must be"),
        (b"F\x01\x06\x00\x00\x00\x0d{\"seq\":1e400}", "seq|finite|JSON|Infinity"),
        (b"F\x01\x06\x00\x00\x00\x10" + b"[" * 16, "JSON"),
        (encode(Ack(seq=1), [bytes(frames.LARGEST_BODY + 1)]), "bytes"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode(data, ALL)


def test_a_kind_that_may_not_come_now_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Letter came where none may"):
        decode(encode(Letter(header=1)), frozenset([Ack]))


@pytest.mark.parametrize(
    "count",
    [pytest.param(3000, marks=pytest.mark.long), pytest.param(150_000, marks=pytest.mark.slow)],
)
def test_mutated_frames_raise_nothing_but_protocol_errors(count: int) -> None:
    random_ = random.Random(1)
    whole = [encode(head, [b"body"]) for head in HEADS]
    refused = 0
    for _ in range(count):
        data = mutated(random_, random_.choice(whole))
        try:
            decode(data, ALL)
        except ProtocolError:
            refused += 1
    assert 0.5 * count < refused < count
