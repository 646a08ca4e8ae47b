"""Mutants of frames: what is nearly right, what isn't at all, and what lies about its sizes."""

import random
import struct
from collections.abc import Sequence

from fedmodel import config
from fedmodel.transport.frames import (
    Ack,
    Bye,
    Challenge,
    Chunk,
    Head,
    HelloFrame,
    Letter,
    WelcomeFrame,
    encode,
)

HEADS: list[Head] = [
    Challenge(nonce="0a" * 32, run="run-1", epoch=3, start="0b" * 16),
    HelloFrame(),
    WelcomeFrame(),
    Letter(header=12, offset=5),
    Chunk(seq=7, offset=1 << 40),
    Ack(seq=9),
    Bye(code="again", reason="why"),
]
_TEXTS = [
    b"null", b"[]", b"{}", b"[" * 5000, b'{"seq":' * 900, b'{"seq":1e400}', b'{"seq":NaN}',
    b'{"seq":true}', b'{"seq":' + b"9" * 5000 + b"}", b'{"seq":-1}', b'{"seq":1.0}', b'{"seq": 1}',
    b'{"seq":1,"seq":1}', b'{"offset":0,"seq":9007199254740993}', b"\xff\xfe", b"\0" * 64,
    b'{"code":"\\ud800","reason":""}', b'{"code":"\xed\xa0\x80"}',
    b'{"header":9007199254740991,"offset":0}', b'{"header":0,"offset":9007199254740991}',
]  # fmt: skip


def mutated(random_: random.Random, data: bytes) -> bytes:
    """Return some bytes with one to four changes."""
    made = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        what, at = random_.randrange(4), random_.randrange(min(len(made), 400) + 1)
        if what == 0:
            made[at : at + 1] = bytes([random_.randrange(256)])
        elif what == 1:
            del made[at : at + random_.randint(1, 8)]
        elif what == 2:
            made[at:at] = random_.randbytes(random_.randint(1, 8))
        else:
            made[at : at + 4] = random_.choice([b"\xff" * 4, bytes(4), b"1e99", b'"\\u0', b"[[[["])
    return bytes(made)


def mutant(random_: random.Random, good: Sequence[bytes]) -> bytes:
    """Return something that may come instead of a frame.

    Args:
        random_: draws it.
        good: frames that would be right.
    """
    what = random_.randrange(10)
    if what < 4:
        return mutated(random_, random_.choice(good))
    if what < 6:
        return random_.choice(good)
    if what == 6:
        return random_.randbytes(random_.choice([0, 1, 6, 7, 8, 40, 3000]))
    if what == 7:
        return encode(random_.choice(HEADS), [random_.randbytes(random_.choice([0, 1, 64, 900]))])
    if what == 8:
        text = random_.choice(_TEXTS)
        length = len(text) + random_.choice([0, 0, -1, 1, 1 << 14, 1 << 31])
        kind = random_.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 255])
        return b"F\x01" + struct.pack(">BI", kind, max(length, 0)) + text + random_.randbytes(70)
    numbers = [0, 1, 2, 7, 64, 1 << 31, 1 << 52, (1 << 53) - 1]
    seq, other = random_.choice(numbers), random_.choice(numbers)
    heads: list[Head] = [
        Chunk(seq=seq, offset=other),
        Letter(header=seq, offset=other),
        Ack(seq=seq),
    ]
    size = random_.choice([0, 64, 500])
    return encode(random_.choice(heads), [config.canonical({"size": 1}), random_.randbytes(size)])
