import contextlib
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import config, wire
from fedmodel._paths import source_digest
from fedmodel.errors import (
    AccusationError,
    BudgetError,
    DataError,
    FedmodelError,
    ProtocolError,
    RefusedError,
    UnapprovedError,
)
from fedmodel.job import Model, Performance
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from tests.examples import examples
from tests.jobs import make_job


def test_round_trips() -> None:
    job = make_job(model=Model(labels=("a", "b", "ü ☃")))
    wanted = Performance(physical_batch=7, engine="hooks")
    for offer in (
        wire.Offer(run="test", job=job),
        wire.Offer(run="test", job=job, performance=wanted, joining="0f" * 32),
    ):
        found = wire.decode_offer(wire.encode_offer(offer))
        assert found == offer
        assert found.job.sha256 == job.sha256
    # What a site has for a device is its own affair, and nobody else's choice.
    told = wire.encode_offer(
        wire.Offer(run="test", job=job, performance=Performance(device="cuda"))
    )
    assert wire.decode_offer(told).performance.device == "auto"
    vector = np.arange(5, dtype=np.float32)
    order = wire.decode_order(wire.encode_order("test", 3, job.sha256, wire.pack(vector)))
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
@settings(max_examples=examples(300), deadline=None)
@given(st.dictionaries(st.sampled_from(["counts", "wrong", "weight"]), numbers, max_size=2))
def test_whatever_comes_as_counts_is_refused_or_two_whole_numbers(values: dict[str, Any]) -> None:
    with contextlib.suppress(ProtocolError):
        got = wire.decode_counts(_counts(values), 2)
        assert values == {"counts": list(got.values)}
        assert [type(value) for value in got.values] == [int, int]


def _offer(**change: Any) -> RecordDict:
    """Return the content of an offer with some fields changed, or missing where they are null."""
    good = (
        dict(wire.encode_offer(wire.Offer(run="test", job=make_job())).config_records["config"])
        | change
    )
    return RecordDict({"config": ConfigRecord({k: v for k, v in good.items() if v is not None})})


JOB = make_job().json.decode()
ASKED = config.canonical(Performance()).decode()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (JOB + " ", "canonical JSON"),
        (JOB.replace('"seed":0', '"seed":0,"extra":1'), "unknown key 'extra'"),
        (JOB.replace("fedmodel.job/2", "fedmodel.job/1"), "expected a job of format"),
        (JOB.replace('"rate":1', '"rate":null'), "privacy.rate must be a number"),
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[]", "expected a job of format"),
        ("[" * 9999, "expected JSON"),
        ("\ud800", "not a job this version understands"),
        ("x" * ((1 << 20) + 1), "a job of 1048577 characters; at most 1048576"),
        (7, "field 'job': expected str"),
        (None, "field 'job': expected str"),
    ],
)
def test_a_job_must_be_canonical_and_known(bad: Any, says: str) -> None:
    assert wire.decode_offer(_offer()).job == make_job()
    with pytest.raises(ProtocolError) as caught:
        wire.decode_offer(_offer(job=bad))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (ASKED + " ", "canonical JSON"),
        ("{}", "canonical JSON"),  # defaults are written out
        (ASKED.replace('"engine"', '"extra":1,"engine"'), "unknown key 'extra'"),
        (ASKED.replace("fast", "slow"), "isn't a choice"),
        (ASKED.replace(":32", ":0"), "physical_batch must be at least 1"),
        (ASKED.replace(":32", ":32.0"), "physical_batch must be a whole number"),
        ("", "expected JSON"),
        ("[]", "must be a mapping"),
        ("[" * 4000, "expected JSON"),
        ("\ud800", "not a proposal of performance"),
        (" " * 4097, "a performance of 4097 characters; at most 4096"),
        (7, "field 'performance': expected str"),
        (None, "field 'performance': expected str"),
    ],
)
def test_a_wish_about_machines_must_be_canonical_known_and_short(bad: Any, says: str) -> None:
    assert wire.decode_offer(_offer(performance=ASKED)).performance == Performance()
    with pytest.raises(ProtocolError) as caught:
        wire.decode_offer(_offer(performance=bad))
    assert says in str(caught.value)


@pytest.mark.parametrize("bad", ["0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n", 5, None])
def test_a_joining_is_named_by_64_hex_digits_or_not_at_all(bad: Any) -> None:
    assert wire.decode_offer(_offer(joining="")).joining == ""
    assert wire.decode_offer(_offer(joining="ab" * 32)).joining == "ab" * 32
    with pytest.raises(ProtocolError, match="joining"):
        wire.decode_offer(_offer(joining=bad))


def test_a_coordinator_that_runs_other_code_is_refused() -> None:
    assert wire.decode_offer(_offer(sources=source_digest())).job == make_job()
    for bad, says in (
        ("0" * 64, "runs other code"),
        (None, "field 'sources'"),
        (3, "expected str"),
    ):
        with pytest.raises(ProtocolError, match=says):
            wire.decode_offer(_offer(sources=bad))
    with pytest.raises(ProtocolError, match="expected version"):
        wire.decode_offer(_offer(version="fedmodel.wire/1"))


scalars = st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=20), st.booleans())
KEYS = ["version", "round", "job", "performance", "heads", "joining", "sources", "entries", "x"]


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from(KEYS), scalars),
    data=st.binary(max_size=200),
    stype=st.sampled_from(["numpy.ndarray", "x"]),
    good_version=st.booleans(),
)
def test_only_typed_errors_escape_the_parsers(
    fields: dict[str, Any], data: bytes, stype: str, good_version: bool
) -> None:
    if good_version:
        fields |= {"version": wire.VERSION, "sources": source_digest()}
    content = RecordDict(
        {
            "arrays": ArrayRecord({"vector": Array("float32", (2,), stype, data)}),
            "config": ConfigRecord(fields),
        }
    )
    parsers = (
        wire.decode_order,
        wire.decode_offer,
        lambda c: wire.decode_counts(c, 2),
        lambda c: wire.decode_update(c, 2),
    )
    for parse in parsers:
        with contextlib.suppress(FedmodelError):
            parse(content)


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_a_damaged_array_is_refused_or_read_as_floats(data: st.DataObject) -> None:
    good = wire.pack(np.arange(4, dtype=np.float32)).data
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255))
    bad = good[:place] + bytes([byte]) + good[place + 1 :]
    content = _update(arrays=ArrayRecord({"vector": Array("float32", (4,), "numpy.ndarray", bad)}))
    with contextlib.suppress(ProtocolError):
        assert wire.decode_update(content, 4).vector.dtype == np.float32


@pytest.mark.parametrize("kind", [BudgetError, AccusationError, UnapprovedError, RefusedError])
def test_only_a_spent_budget_and_an_accusation_are_read_as_such(kind: Any) -> None:
    error = kind(3, "rubbish") if kind is AccusationError else kind("the shares from site 3: none")
    read = wire.decode_error(wire.encode_error(error, Message(RecordDict(), 7, "train")).error)
    assert (read.kind, read.budget) == (kind.__name__, kind is BudgetError)
    assert read.accuses == (3 if kind is AccusationError else None)


def test_errors_travel_without_facts_about_rows() -> None:
    message = Message(RecordDict(), 7, "train")
    told = wire.encode_error(BudgetError("the budget is spent"), message).error
    assert wire.decode_error(told) == wire.Failure(reason="the budget is spent", budget=True)
    for error in (DataError("row 17 has label XYZ"), RuntimeError("row 17 has label XYZ")):
        hidden = wire.decode_error(wire.encode_error(error, message).error)
        assert "17" not in hidden.reason
        assert type(error).__name__ in hidden.reason
        assert not hidden.budget
