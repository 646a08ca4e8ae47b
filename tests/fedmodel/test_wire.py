import contextlib
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import wire
from fedmodel._paths import source_digest
from fedmodel.errors import BudgetError, DataError, FedmodelError, ProtocolError
from fedmodel.job import Job
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update


def test_round_trips() -> None:
    job = Job.from_mapping({"model": {"labels": ["a", "b"]}})
    assert wire.decode_job(wire.encode_job(job)) == job
    vector = np.arange(5, dtype=np.float32)
    order = wire.decode_order(wire.encode_order(3, job.sha256, wire.pack(vector)))
    assert (order.round, order.job_sha256) == (3, job.sha256)
    np.testing.assert_array_equal(order.vector, vector)
    sent = wire.encode_update(Update.of(vector, 2.0, {"train_loss": 1.5}))
    update = wire.decode_update(sent, 5)
    np.testing.assert_array_equal(update.vector, 2 * vector)
    assert (update.weight, update.metrics) == (2.0, {"train_loss": 3.0})
    for values in ((17, -3), (0, 10**12), (), (-1,) * 3000):
        sent = wire.encode_counts(Counts(values=values))
        assert wire.decode_counts(sent, len(values)) == Counts(values=values)


def _update(**change: Any) -> RecordDict:
    parts: dict[str, Any] = {
        "arrays": ArrayRecord({"vector": wire.pack(np.ones(2, np.float32))}),
        "metrics": MetricRecord({"weight": 1.0}),
        "config": ConfigRecord({"version": wire.VERSION}),
    } | change
    return RecordDict({k: v for k, v in parts.items() if v is not None})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_update(config=None), "configuration record"),
        (_update(config=ConfigRecord({"version": "fedmodel.wire/0"})), "expected version"),
        (_update(arrays=None), "one array named 'vector'"),
        (_update(arrays=ArrayRecord({"v": Array(np.ones(2, np.float32))})), "one array named"),
        (_update(arrays=ArrayRecord({"vector": Array(np.ones(2))})), "flat float32"),
        (_update(arrays=ArrayRecord({"vector": Array(np.ones(3, np.float32))})), "of 2 parameters"),
        (
            _update(arrays=ArrayRecord({"vector": Array(np.array([1, np.nan], np.float32))})),
            "NaN, infinity or a number above",
        ),
        (
            _update(arrays=ArrayRecord({"vector": Array("float32", (2,), "numpy.ndarray", b"x")})),
            "can't be read",
        ),
        (_update(metrics=None), "metric record"),
        (_update(metrics=MetricRecord({"train_loss": 1.0})), "no weight"),
        (_update(metrics=MetricRecord({"weight": 0.0})), "must be in [1"),
        (_update(metrics=MetricRecord({"weight": 1.0, "round": 3.0})), "unknown metric"),
        (_update(metrics=MetricRecord({"weight": float("nan")})), "one finite number"),
        (_update(metrics=MetricRecord({"weight": [1.0]})), "one finite number"),
    ],
)
def test_malformed_updates_are_refused_by_name(content: RecordDict, says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_update(content, 2)
    assert says in str(caught.value)


def _counts(values: dict[str, Any] | None, version: str = wire.VERSION) -> RecordDict:
    content = RecordDict({"config": ConfigRecord({"version": version})})
    if values is not None:
        content["metrics"] = MetricRecord(values)
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (RecordDict({"metrics": MetricRecord({"counts": [1, 1]})}), "configuration record"),
        (_counts({"counts": [1, 1]}, "fedmodel.wire/0"), "expected version"),
        (_counts(None), "just 'counts'"),
        (_counts({"correct": 1, "wrong": 1}), "just 'counts'"),
        (_counts({"counts": [1, 1], "rows": 2}), "just 'counts'"),
        (_counts({"counts": [1.0, 1.0]}), "must be whole numbers"),
        (_counts({"counts": [1.0, float("nan")]}), "must be whole numbers"),
        (_counts({"counts": [1, -(10**12) - 1]}), "must be whole numbers"),
        (_counts({"counts": [1]}), "a list of 2 whole numbers, got 1"),
        (_counts({"counts": [1, 1, 1]}), "a list of 2 whole numbers, got 3"),
        (_counts({"counts": []}), "a list of 2 whole numbers, got 0"),
        (_counts({"counts": 1}), "a list of 2 whole numbers, got int"),
        (_update(metrics=MetricRecord({"weight": 1.0})), "just 'counts'"),
        (_update(metrics=ConfigRecord({"counts": [1, 1]})), "just 'counts'"),
    ],
)
def test_malformed_counts_are_refused_by_name(content: RecordDict, says: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_counts(content, 2)
    assert says in str(caught.value)


numbers = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.floats(), max_size=3),
)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["counts", "wrong", "weight"]), numbers, max_size=2))
def test_whatever_comes_as_counts_is_refused_or_two_whole_numbers(values: dict[str, Any]) -> None:
    with contextlib.suppress(ProtocolError):
        got = wire.decode_counts(_counts(values), 2)
        assert values == {"counts": list(got.values)}
        assert [type(value) for value in got.values] == [int, int]


def test_a_job_must_be_canonical_and_known() -> None:
    text = Job().to_json().decode()
    for bad in (text + " ", text.replace('"seed":0', '"seed":0,"extra":1'), "{", "[]", "[" * 9999):
        fields = {"version": wire.VERSION, "job": bad, "sources": source_digest()}
        config = ConfigRecord({**fields})
        with pytest.raises(ProtocolError):
            wire.decode_job(RecordDict({"config": config}))


def test_a_coordinator_that_runs_other_code_is_refused() -> None:
    content = wire.encode_job(Job())
    content.config_records["config"]["sources"] = "0" * 64
    with pytest.raises(ProtocolError, match="runs other code"):
        wire.decode_job(content)


scalars = st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=20), st.booleans())


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(
    config=st.dictionaries(st.sampled_from(["version", "round", "job", "x"]), scalars),
    data=st.binary(max_size=200),
    stype=st.sampled_from(["numpy.ndarray", "x"]),
    good_version=st.booleans(),
)
def test_only_typed_errors_escape_the_parsers(
    config: dict[str, Any], data: bytes, stype: str, good_version: bool
) -> None:
    if good_version:
        config["version"] = wire.VERSION
    content = RecordDict(
        {
            "arrays": ArrayRecord({"vector": Array("float32", (2,), stype, data)}),
            "config": ConfigRecord(config),
        }
    )
    parsers = (
        wire.decode_order,
        wire.decode_job,
        lambda c: wire.decode_counts(c, 2),
        lambda c: wire.decode_update(c, 2),
    )
    for parse in parsers:
        with contextlib.suppress(FedmodelError):
            parse(content)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_array_is_refused_or_read_as_floats(data: st.DataObject) -> None:
    good = wire.pack(np.arange(4, dtype=np.float32)).data
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255))
    bad = good[:place] + bytes([byte]) + good[place + 1 :]
    content = _update(arrays=ArrayRecord({"vector": Array("float32", (4,), "numpy.ndarray", bad)}))
    with contextlib.suppress(ProtocolError):
        assert wire.decode_update(content, 4).vector.dtype == np.float32


def test_errors_travel_without_facts_about_rows() -> None:
    message = Message(RecordDict(), 7, "train")
    told = wire.encode_error(BudgetError("the budget is spent"), message).error
    assert wire.decode_error(told) == wire.Failure(reason="the budget is spent", budget=True)
    for error in (DataError("row 17 has label XYZ"), RuntimeError("row 17 has label XYZ")):
        hidden = wire.decode_error(wire.encode_error(error, message).error)
        assert "17" not in hidden.reason
        assert type(error).__name__ in hidden.reason
        assert not hidden.budget
