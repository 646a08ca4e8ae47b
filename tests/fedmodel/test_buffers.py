"""Contents as bytes: all comes back, an array's bytes where they were, and in one form only."""

import json
import math
import mmap
import struct
import tracemalloc
from array import array
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.update import Update
from fedmodel.wire.arrays import array_of, view
from fedmodel.wire.buffers import packed, unpacked
from fedmodel.wire.layout import LONGEST_TEXTS, MOST_VALUES
from simulations.loopback import isolated
from tests.examples import examples
from tests.fedmodel.contents import GOLDEN, golden, joined, sent
from tests.fedmodel.test_signed import COORDINATOR, order


def alike(found: Any, expected: Any) -> bool:
    """Return whether two contents are alike in types too, and NaN in all its bits."""
    if isinstance(expected, Error):
        return isinstance(found, Error) and vars(found) == vars(expected)
    if type(found) is not type(expected) or isinstance(expected, bytes | str | bool | int):
        return bool(type(found) is type(expected) and found == expected)
    if isinstance(expected, float):
        return struct.pack("<d", found) == struct.pack("<d", expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(expected, Array):
        return bool(found == expected)
    same = set(found) == set(expected)
    return same and all(alike(found[name], expected[name]) for name in expected)


# -- what comes back -----------------------------------------------------------------------------


@pytest.mark.long
def test_all_that_is_sent_comes_back() -> None:
    contents = sent()
    made = {name for name in wire.__all__ if name.startswith(("encode_", "add_"))}
    assert made | {"sign_content", "answer_hello"} == {n for n in contents if " " not in n}
    for name, content in contents.items():
        payload = joined(content)
        found = unpacked(payload)
        assert alike(found, content), name
        assert joined(found) == payload, name


def test_what_was_signed_verifies_when_it_comes_back() -> None:
    found = unpacked(joined(order()))
    assert isinstance(found, RecordDict)
    assert wire.signed_by(found, "train", COORDINATOR.public).member == 2
    assert wire.decode_order(found).vector.tolist() == [0, 1, 2, 3, 4]


def arrays_of(arrays: dict[str, Array]) -> ArrayRecord:
    record = ArrayRecord()  # given the arrays, it would make them anew, of nothing but ``bytes``
    for name, each in arrays.items():
        record[name] = each
    return record


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9)
whole = st.integers(-(2**63), 2**64 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
scalars = st.one_of(st.booleans(), whole, st.floats(), texts, st.binary(max_size=300))
lists = st.one_of(*(st.lists(s, max_size=3) for s in (st.booleans(), whole, st.floats(), texts)))
numbers = st.one_of(whole, st.floats(), st.lists(whole, max_size=4), st.lists(st.floats()))
arrays = st.builds(
    lambda dtype, shape, stype, data: array_of(dtype, tuple(shape), stype, data),
    texts.map(lambda t: t[:20]),
    st.lists(st.integers(0, 2**40), max_size=4),
    names,
    st.binary(max_size=200),
)
records = st.one_of(
    st.dictionaries(names, st.one_of(scalars, lists), max_size=5).map(ConfigRecord),
    st.dictionaries(names, numbers, max_size=5).map(MetricRecord),
    st.dictionaries(names, arrays, min_size=1, max_size=4).map(arrays_of),
)


@pytest.mark.long
@settings(max_examples=examples(150), deadline=None)
@given(st.dictionaries(names, records, max_size=4).map(RecordDict))
def test_any_records_come_back(content: RecordDict) -> None:
    payload = joined(content)
    assert alike(unpacked(payload), content)
    assert alike(naive(payload), content)


@pytest.mark.long
@given(st.integers(-(2**63), 2**63), st.none() | texts)
def test_any_error_comes_back(code: int, reason: str | None) -> None:
    found = unpacked(joined(Error(code, reason)))
    assert isinstance(found, Error)
    assert (found.code, found.reason) == (code, reason)


def test_a_reason_that_is_no_unicode_is_told_all_the_same() -> None:
    found = unpacked(joined(Error(1, "a\udcff")))
    assert isinstance(found, Error)
    assert found.reason == "a\\udcff"


def test_numbers_of_numpy_come_back_as_their_values() -> None:
    record = ConfigRecord({"loss": np.float64(0.1)})
    record["losses"] = [np.float64(2.0)]  # type: ignore[assignment]
    found = unpacked(joined(RecordDict({"config": record})))
    assert found == RecordDict({"config": ConfigRecord({"loss": 0.1, "losses": [2.0]})})


def naive(payload: bytes) -> RecordDict:
    """Read a payload by its description, trusting it."""
    line, rest = payload[:19], payload[19:]
    assert line == b"fedmodel.content/1\n"
    size = int.from_bytes(rest[:4], "big")
    body = payload[math.ceil((23 + size) / 64) * 64 :]

    def value(told: list[Any]) -> Any:
        kind, *rest = told
        if len(rest) == 2:
            data = body[rest[0] : sum(rest)]
            return data if kind == "bytes" else data.decode()
        made: dict[str, Any] = {
            "bool": bool,
            "int": int,
            "float": lambda t: np.frombuffer(bytes.fromhex(t), ">f8")[0].item(),
            "str": str,
            "bytes": bytes.fromhex,
            "list": lambda items: [value(each) for each in items],
        }
        return made[kind](rest[0])

    def array_in(told: dict[str, Any]) -> Array:
        data = body[told["offset"] : told["offset"] + told["size"]]
        return Array(told["dtype"], tuple(told["shape"]), told["stype"], data)

    found = RecordDict()
    for name, (kind, values) in json.loads(rest[4 : 4 + size])["records"].items():
        record: Any = {"arrays": ArrayRecord, "config": ConfigRecord, "metrics": MetricRecord}[kind]
        read: Any = array_in if kind == "arrays" else value
        found[name] = record({key: read(each) for key, each in values.items()})
    return found


# -- without copies ------------------------------------------------------------------------------


def test_arrays_are_neither_copied_in_nor_out(tmp_path: Path) -> None:
    vector = np.arange(1 << 20, dtype=np.float32)
    content = wire.encode_update(Update.of(vector))
    data = content.array_records["arrays"]["vector"].data
    assert any(part is data for part in packed(content))
    path = tmp_path / "payload"
    path.write_bytes(joined(content))
    del content, data
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tracemalloc.start()
    try:
        found = unpacked(memoryview(mapped))
        assert isinstance(found, RecordDict)
        update = wire.decode_update(found, vector.size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18
    assert not update.vector.flags.writeable
    start = np.frombuffer(mapped, np.uint8).ctypes.data
    assert start < update.vector.ctypes.data < start + len(mapped)
    assert update.vector.ctypes.data % 64 == 0
    np.testing.assert_array_equal(update.vector, vector)


def test_what_is_packed_again_is_passed_on_without_a_copy() -> None:
    payload = joined(golden()["arrays"])
    parts = packed(unpacked(payload))
    views = [part for part in parts if isinstance(part, memoryview)]
    assert len(views) == 4
    assert all(view.obj is payload for view in views)
    assert b"".join(parts) == payload


def test_an_array_is_read_of_a_view_as_of_bytes() -> None:
    vector = np.arange(9, dtype=np.float32)
    good = wire.pack(vector).data
    read = partial(view, kind="float32")
    of = partial(array_of, "float32", (9,), "numpy.ndarray")
    writable = memoryview(bytearray(good))
    for data in (memoryview(good), writable, memoryview(b"x" + good + b"x")[1:-1]):
        found = read(of(data))
        assert found.tobytes() == vector.tobytes()
        assert not found.flags.writeable
    assert np.shares_memory(read(of(writable)), np.frombuffer(writable, np.uint8))
    stored = BytesIO()
    np.save(stored, vector.reshape(3, 3).astype(">f8").T)
    other = read(of(memoryview(stored.getvalue())))
    np.testing.assert_array_equal(other, vector.reshape(3, 3).T)
    wrong: tuple[Any, ...] = (
        memoryview(good)[:-1],
        memoryview(good + b"x"),
        memoryview(good)[::-1],
        memoryview(array("B", good).tobytes()).cast("b"),
        memoryview(array("d", bytes(160))),
        memoryview(b""),
        bytearray(good),
    )
    for data in wrong:
        with pytest.raises(ValueError, match=r"."):
            read(of(data))


def test_a_view_goes_through_a_loopback_as_it_is() -> None:
    content = unpacked(joined(golden()["arrays"]))
    assert isinstance(content, RecordDict)
    copied, size = isolated(content)
    assert copied == content
    before, after = (c.array_records["arrays"]["vector"] for c in (content, copied))
    assert after.data is before.data
    assert size == sum(len(a.data) for a in content.array_records["arrays"].values()) + 1


# -- golden --------------------------------------------------------------------------------------


def test_what_version_1_wrote_is_read_and_written_alike() -> None:
    kept = {n: bytes.fromhex(t) for n, t in json.loads(GOLDEN.read_text())["payloads"].items()}
    expected = golden()
    assert kept.keys() == expected.keys()
    for name, payload in kept.items():
        assert alike(unpacked(payload), expected[name]), name
        assert joined(expected[name]) == payload, name


# -- what can't be sent --------------------------------------------------------------------------


def config_of(**values: Any) -> RecordDict:
    return RecordDict({"config": ConfigRecord(values)})


def with_array(dtype: str, shape: tuple[int, ...], data: Any) -> RecordDict:
    return RecordDict({"arrays": arrays_of({"x": array_of(dtype, shape, "x", data)})})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (config_of(x=2**64), "'x': a whole number of more than 64 bits"),
        (config_of(x=-(2**63) - 1), "more than 64 bits"),
        (config_of(x="\ud800"), "half of a surrogate pair"),
        (config_of(x=["a", "\udfff"]), "half of a surrogate pair"),
        (config_of(**{"a b": 1}), "a value named 'a b'"),
        (config_of(**{"\x1b": 1}), r"a value named '\\x1b'"),
        (config_of(**{"n" * 101: 1}), "1 to 100 ASCII characters"),
        (RecordDict({"": ConfigRecord()}), "a record named ''"),
        (config_of(x=[1] * MOST_VALUES), f"more than {MOST_VALUES} records and values"),
        (config_of(x="a" * (LONGEST_TEXTS + 1)), "'x': texts of more than"),
        (config_of(x=["a" * 250] * 5000), "a header of"),
        (with_array("x", (1,), bytearray(3)), "neither bytes nor a plain view"),
        (
            with_array("x", (1,), memoryview(array("d", bytes(24)))),
            "neither bytes nor a plain view",
        ),
        (with_array("x", (1,), memoryview(bytes(9))[::2]), "neither bytes nor a plain view"),
        (with_array("\ud800", (1,), b""), "canonical"),
        (with_array("x", (2**60,), b""), "canonical"),
        (Error("one", "x"), "an error has a whole number"),  # type: ignore[arg-type]
    ],
    ids=[str(n) for n in range(17)],
)
def test_what_would_not_be_read_is_not_written(content: Any, says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        packed(content)
