"""Bytes that travel beside a message's fields: whatever comes, it is bytes or one clear error."""

import math
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.errors import ProtocolError
from fedmodel.update import Update
from fedmodel.wire import add_parcel, parcel, update_from_bytes, update_to_bytes


@pytest.mark.long
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=200), min_size=1))
def test_what_is_put_in_comes_out(parcels: dict[str, bytes]) -> None:
    content = RecordDict()
    for name, data in parcels.items():
        assert add_parcel(content, name, data) is content
    for name, data in parcels.items():
        assert parcel(content, name).tobytes() == data
        assert parcel(content, name, len(data)).dtype == np.uint8


def test_arrays_are_put_in_as_they_are() -> None:
    data = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(parcel(add_parcel(RecordDict(), "x", data), "x"), data)


def test_other_records_stay() -> None:
    content = RecordDict({"config": ConfigRecord({"a": 1})})
    add_parcel(add_parcel(content, "one", b"1"), "two", b"2")
    assert set(content) == {"config", "parcels"}
    assert parcel(content, "one").tobytes() == b"1"


def contents() -> dict[str, RecordDict]:
    uint8 = Array(np.zeros(4, np.uint8))
    flat = "numpy.ndarray"
    return {
        "nothing": RecordDict(),
        "another record": RecordDict({"parcels": ConfigRecord({"x": b"1234"})}),
        "a metric": RecordDict({"parcels": MetricRecord({"x": 1})}),
        "another name": RecordDict({"parcels": ArrayRecord({"y": uint8})}),
        "another record's name": RecordDict({"arrays": ArrayRecord({"x": uint8})}),
        "floats": RecordDict({"parcels": ArrayRecord({"x": Array(np.zeros(4, np.float32))})}),
        "int8": RecordDict({"parcels": ArrayRecord({"x": Array(np.zeros(4, np.int8))})}),
        "a matrix": RecordDict({"parcels": ArrayRecord({"x": Array(np.zeros((2, 2), np.uint8))})}),
        "a number": RecordDict({"parcels": ArrayRecord({"x": Array(np.array(3, np.uint8))})}),
        "cut short": RecordDict(
            {"parcels": ArrayRecord({"x": Array("uint8", (4,), flat, uint8.data[:-1])})}
        ),
        "empty": RecordDict({"parcels": ArrayRecord({"x": Array("uint8", (4,), flat, b"")})}),
        "no array": RecordDict(
            {"parcels": ArrayRecord({"x": Array("uint8", (4,), flat, b"\x80\x04K\x01.")})}
        ),
        "another format": RecordDict(
            {"parcels": ArrayRecord({"x": Array("uint8", (4,), "pickle", uint8.data)})}
        ),
    }


@pytest.mark.parametrize("case", contents())
def test_what_is_no_parcel_is_one_clear_error(case: str) -> None:
    with pytest.raises(ProtocolError, match="parcel"):
        parcel(contents()[case], "x")


def test_a_size_is_checked() -> None:
    content = add_parcel(RecordDict(), "x", b"12345")
    with pytest.raises(ProtocolError, match="'x' must have 4 bytes, got 5"):
        parcel(content, "x", 4)


@given(st.binary(max_size=300), st.sampled_from(["numpy.ndarray", "", "x"]))
def test_any_bytes_for_an_array_are_a_parcel_or_one_clear_error(data: bytes, stype: str) -> None:
    content = RecordDict({"parcels": ArrayRecord({"x": Array("uint8", (4,), stype, data)})})
    try:
        found = parcel(content, "x")
    except ProtocolError:
        return
    assert found.dtype == np.uint8


@pytest.mark.long
@given(st.data())
def test_a_changed_array_is_a_parcel_or_one_clear_error(data: st.DataObject) -> None:
    good = bytearray(Array(np.arange(40, dtype=np.uint8)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    array = Array("uint8", (40,), "numpy.ndarray", bytes(good))
    try:
        found = parcel(RecordDict({"parcels": ArrayRecord({"x": array})}), "x", 40)
    except ProtocolError:
        return
    assert found.dtype == np.uint8
    assert found.shape == (40,)


# -- updates as bytes ----------------------------------------------------------------------------

FLOATS = st.floats(-1e3, 1e3, width=32)


@pytest.mark.long
@given(st.lists(FLOATS, max_size=20), st.floats(1, 1e6), st.none() | st.floats(-10, 10))
def test_an_update_comes_back(values: list[float], weight: float, loss: float | None) -> None:
    metrics = {} if loss is None else {"train_loss": loss}
    update = Update(vector=np.array(values, np.float32), weight=weight, metrics=metrics)
    vector, found = update_from_bytes(update_to_bytes(update))
    assert vector.dtype == np.float32
    assert vector.tobytes() == update.vector.tobytes()
    assert found == {"weight": weight, **metrics}


def test_the_bytes_are_those_of_every_version() -> None:
    update = Update(vector=np.array([1, -2], np.float32), weight=3.0, metrics={"train_loss": 0.5})
    assert update_to_bytes(update).hex() == (
        b"fedmodel.update/1\n".hex() + "0000000000000840" + "000000000000e03f" + "0000803f000000c0"
    )


@pytest.mark.parametrize("change", ["version", "short head", "odd", "empty"])
def test_what_is_no_update_is_refused(change: str) -> None:
    good = update_to_bytes(Update(vector=np.ones(3, np.float32), weight=1.0))
    bad = {
        "version": b"fedmodel.update/2\n" + good[18:],
        "short head": good[:30],
        "odd": good[:-1],
        "empty": b"",
    }[change]
    with pytest.raises(ProtocolError, match="expected an update"):
        update_from_bytes(bad)


@given(st.binary(max_size=100), st.booleans())
def test_any_bytes_are_an_update_or_one_clear_error(data: bytes, header: bool) -> None:
    try:
        vector, metrics = update_from_bytes((b"fedmodel.update/1\n" if header else b"") + data)
    except ProtocolError:
        return
    checked: dict[str, Any] = dict(metrics)
    assert vector.ndim == 1
    assert not math.isnan(checked.get("train_loss", 0.0))
