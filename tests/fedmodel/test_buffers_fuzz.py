"""Payloads that nobody has packed: refused by name, with little memory; else read as what they are.

A payload that is read must be, to the byte, what its content makes. Cases follow from their number.
"""

import copy
import json
import random
import tracemalloc
from array import array
from collections import Counter
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict

from fedmodel.errors import ProtocolError
from fedmodel.wire.buffers import LONGEST_HEADER, unpacked
from fedmodel.wire.layout import LONGEST_TEXTS, MOST_VALUES
from tests.fedmodel.contents import golden, joined, sent

LINE = b"fedmodel.content/1\n"
FEW, MANY = 3_000, 130_000
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 63, 64, 2**31, 2**53, 2**63, 10**400, 0.5, 1e308, -0.0),
    *("", "int", "x" * 999, "\ud800", "9" * 5000, "ff", "nan", [], {}, [[]], ["list", []]),
    *(["int", "1"], ["int", "01"], ["int", "-0"], ["int", "9" * 20], ["float", "NaN"], ["bool", 1]),
    *(["str", 0, 2**62], ["bytes", 0, 8], ["bytes", "f"], ["list", [["list", []]]]),
)
Dice = random.Random


def headed(head: bytes, body: bytes = b"") -> bytes:
    """Return a payload of a header and a body, as they may be."""
    start = LINE + len(head).to_bytes(4, "big") + head
    return start + bytes(-len(start) % 64 if body else 0) + body


def split(payload: bytes) -> tuple[Any, bytes]:
    """Return the header and the body of a good payload."""
    size = int.from_bytes(payload[19:23], "big")
    stop = 23 + size
    return json.loads(payload[23:stop]), payload[stop + -stop % 64 :]


# -- ways to bend a payload ------------------------------------------------------------------------


def noise(dice: Dice, good: bytes) -> bytes:
    return dice.choice((b"", LINE, good[:23])) + dice.randbytes(dice.randrange(200))


def cut(dice: Dice, good: bytes) -> bytes:
    return good[: dice.randrange(len(good))]


def flipped(dice: Dice, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(dice.choice((1, 1, 2, 9))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(data)


def spliced(dice: Dice, good: bytes) -> bytes:
    at, size = dice.randrange(len(good)), dice.randrange(9)
    return good[:at] + dice.randbytes(dice.randrange(9)) + good[at + size :]


def longer(dice: Dice, good: bytes) -> bytes:
    return good + bytes(dice.choice((1, 63, 64, 999)))


def sized(dice: Dice, good: bytes) -> bytes:
    """Have the length of the header be another."""
    true = int.from_bytes(good[19:23], "big")
    size = dice.choice((0, 1, true - 1, true + 1, LONGEST_HEADER, 2**32 - 1, dice.randrange(2**32)))
    return good[:19] + size.to_bytes(4, "big") + good[23:]


def places(told: Any) -> list[tuple[Any, Any]]:
    """Return where in plain data something stands: its holder and its key."""
    items = told.items() if isinstance(told, dict) else enumerate(told)
    found = [(told, key) for key, _ in items] if isinstance(told, dict | list) else []
    return found + [p for _, v in items if isinstance(v, dict | list) for p in places(v)]


def bent(dice: Dice, good: bytes) -> bytes:
    """Have something else stand in the header, in canonical form where there is one."""
    told, body = split(good)
    for _ in range(dice.choice((1, 1, 2))):
        if not (found := places(told)):
            break
        holder, key = dice.choice(found)
        deed = dice.randrange(4)
        if deed == 0:
            holder[key] = copy.deepcopy(dice.choice(HOSTILE))
        elif deed == 1:
            other, name = dice.choice(found)
            holder[key] = copy.deepcopy(other[name])
        elif deed == 2 and isinstance(holder, dict):
            holder[str(dice.choice(("", "x", "kind", "a b", "\x1b", "n" * 101)))] = holder[key]
        else:
            del holder[key]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=dice.random() < 0.1)
    return headed(text.encode("utf-8", "surrogatepass"), body)


def misplaced(dice: Dice, good: bytes) -> bytes:
    """Have an offset or a size be another: parts overlap, lie apart or go beyond the end."""
    told, body = split(good)
    found = [(h, k) for h, k in places(told) if type(h[k]) is int]
    if found:
        holder, key = dice.choice(found)
        change = dice.choice((-64, -1, 1, 64, 2**20, 2**53, 2**63, 10**30))
        holder[key] = dice.choice((holder[key] + change, 0, -holder[key]))
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return headed(text.encode(), body)


def repeated(dice: Dice, good: bytes) -> bytes:
    """Have a name stand twice in the header."""
    size = int.from_bytes(good[19:23], "big")
    head, body = good[23 : 23 + size], good[23 + size + -(23 + size) % 64 :]
    at = dice.choice([n for n, byte in enumerate(head) if byte == ord("{")])
    more = dice.choice(
        (b'"records":{},', b'"error":null,', b'"dtype":"x",', b'"config":0,', b'"x":1,')
    )
    return headed(head[: at + 1] + more + head[at + 1 :], body)


WAYS = (noise, cut, flipped, spliced, longer, sized, bent, bent, bent, misplaced, repeated)


@pytest.fixture(scope="module")
def goods() -> dict[str, bytes]:
    """Return payloads that are read; those of any size are few enough to be bent often."""
    whole = {name: joined(content) for name, content in (golden() | sent()).items()}
    return {name: payload for name, payload in whole.items() if len(payload) < 20_000}


def tried(goods: dict[str, bytes], cases: range) -> Counter[str]:
    """Bend payloads; return how each way's ended."""
    ended: Counter[str] = Counter()
    longest = 0
    for number in cases:
        dice = Dice(number)
        way = WAYS[number % len(WAYS)]
        payload = way(dice, goods[dice.choice(sorted(goods))])
        try:
            content = unpacked(payload)
        except ProtocolError as error:
            ended[f"{way.__name__} refused"] += 1
            longest = max(longest, len(str(error)))
            continue
        assert joined(content) == payload, number
        ended[f"{way.__name__} read"] += 1
    assert longest < 1000
    return ended


@pytest.mark.long
def test_bent_payloads_are_refused_or_read_as_what_they_are(goods: dict[str, bytes]) -> None:
    ended = tried(goods, range(FEW))
    # What isn't a payload can hardly become one; other bytes in an array, or other values, are one.
    assert {name for name in ended if name.endswith("read")} >= {"flipped read", "bent read"}
    for way in WAYS:
        assert ended[f"{way.__name__} refused"] > FEW / len(WAYS) / 4, way
    assert not any(ended[f"{way.__name__} read"] for way in (cut, longer, repeated))


@pytest.mark.slow
def test_a_great_many_bent_payloads_are_refused_or_read(goods: dict[str, bytes]) -> None:
    ended = tried(goods, range(FEW, FEW + MANY))
    assert sum(ended.values()) == MANY
    assert not any(ended[f"{way.__name__} read"] for way in (cut, longer, repeated))


# -- what it costs ---------------------------------------------------------------------------------


def nested(text: bytes) -> bytes:
    return headed(b'{"records":{"c":["config",{"x":' + text + b"}]}}")


def filled(unit: bytes) -> bytes:
    room = LONGEST_HEADER - 100
    return nested(b"[" + unit * (room // len(unit) - 1) + unit.rstrip(b",") + b"]")


COSTLY = {
    "noughts": headed(bytes(LONGEST_HEADER)),
    "depth": headed(b"[" * LONGEST_HEADER),
    "digits": nested(b"9" * (LONGEST_HEADER - 100)),
    "lists": filled(b"[],"),
    "objects": filled(b"{},"),
    "integers": nested(b'["list",[' + b'["int","1"],' * 70_000 + b'["int","1"]]]'),
    "names": headed(
        b'{"records":{' + b",".join(b'"%d":["config",{}]' % n for n in range(45_000)) + b"}}"
    ),
    "one text over and over": headed(
        json.dumps(
            {"records": {"c": ["config", {str(n): ["str", 0, 10**6] for n in range(15_000)}]}},
            separators=(",", ":"),
            sort_keys=True,
        ).encode(),
        bytes(10**6),
    ),
    "room for terabytes": nested(b'["str",0,1099511627776]'),
    "a header of 4 GiB": LINE + b"\xff\xff\xff\xff" + b"{}",
}


@pytest.mark.long
@pytest.mark.parametrize("name", COSTLY)
def test_what_is_refused_has_taken_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            unpacked(COSTLY[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * LONGEST_HEADER


def test_long_texts_are_counted_before_they_are_read() -> None:
    size = LONGEST_TEXTS // 2 + 64
    content = RecordDict({"c": ConfigRecord({"a": "a" * size, "b": b"b" * (size - 128)})})
    payload = joined(content)
    assert unpacked(payload) == content
    told, body = split(payload)
    told["records"]["c"][1]["b"][2] += 64
    head = json.dumps(told, separators=(",", ":")).encode()
    with pytest.raises(ProtocolError, match="texts of more than"):
        unpacked(headed(head, body + bytes(64)))


@pytest.mark.long
def test_as_many_values_as_may_come_are_read_and_one_more_is_not() -> None:
    content = RecordDict({"c": ConfigRecord({"x": [1] * (MOST_VALUES - 2)})})
    payload = joined(content)
    assert unpacked(payload) == content
    told, body = split(payload)
    told["records"]["c"][1]["x"][1].append(["int", "1"])
    with pytest.raises(ProtocolError, match=f"more than {MOST_VALUES} records and values"):
        unpacked(headed(json.dumps(told, separators=(",", ":")).encode(), body))


# -- one reason ------------------------------------------------------------------------------------

ARRAY = '{"dtype":"f","offset":%s,"shape":[%s],"size":%s,"stype":"x"}'


def of_array(*told: object, body: bytes = b"") -> bytes:
    return headed(b'{"records":{"a":["arrays",{"x":' + (ARRAY % told).encode() + b"}]}}", body)


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"", "expected 'fedmodel.content/1', got b''"),
        (b"fedmodel.content/2\n" + bytes(99), "got b'fedmodel.content/2'"),
        (LINE, "end in the header"),
        (LINE + bytes(4), "its header isn't JSON"),
        (headed(b"[]"), "neither records nor an error"),
        (headed(b'{"error":{"code":1,"reason":null}}'), "a value that isn't one of"),
        (headed(b'{"error":{"code":["str","1"],"reason":null}}'), "an error has a whole number"),
        (headed(b'{"error":{"code":["int","1"],"reason":["int","1"]}}'), "and a text or none"),
        (headed(b'{"records":{"c":["others",{}]}}'), "none of arrays, config, metrics"),
        (headed(b'{"records":{"c":["config",{}],"c":["config",{}]}}'), "isn't in the one form"),
        (headed(b'{"records": {}}'), "isn't in the one form"),
        (headed(b'{"more":1,"records":{}}'), "isn't in the one form"),
        (headed(b'{"records":{}}') + bytes(26), "isn't in the one form"),
        (headed(b'{"records":{}}', b"x"), "1 bytes after its end"),
        (nested(b'["int","007"]'), "isn't in the one form"),
        (nested(b'["str","' + b"a" * 257 + b'"]'), "isn't in the one form"),
        (nested(b'["list",[["int","1"],["str","1"]]]'), "'x': no value of a record of config"),
        (of_array(0, 1, 5, body=b"1234"), "a part that ends at byte 5 of 4"),
        (of_array(64, 1, 4, body=bytes(68)), "one after the other"),
        (of_array(0, 1, -1), "one after the other"),
        (of_array(0, 1, "1.0", body=b"1"), "one after the other"),
        (of_array(0, -1, 1, body=b"1"), "an array has dtype"),
        (of_array(0, ",".join("1" * 33), 1, body=b"1"), "an array has dtype"),
        (of_array(0, 1, 1, body=b"12"), "1 bytes after its end"),
        (of_array("true", 1, 1, body=b"12"), "one after the other"),
    ],
    ids=[str(n) for n in range(25)],
)
def test_what_is_malformed_is_told(payload: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        unpacked(payload)


def test_what_is_not_plain_bytes_is_refused() -> None:
    for payload in (memoryview(array("d", bytes(64))), memoryview(bytes(99))[::2]):
        with pytest.raises(ProtocolError, match="isn't plain bytes"):
            unpacked(payload)
