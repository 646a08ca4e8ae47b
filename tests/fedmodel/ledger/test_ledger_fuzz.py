"""Lines that nobody has written: read as what they are, or refused."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.ledger import Ledger
from fedmodel.ledger.entries import (
    DatasetEntry,
    Entry,
    GiveBackEntry,
    OpenEntry,
    OutcomeEntry,
    RepeatEntry,
    SpendEntry,
    TornEntry,
)
from fedmodel.ledger.lines import decode, encode
from fedmodel.ledger.mechanism import Mechanism
from tests.examples import examples
from tests.fedmodel.ledger.conftest import JOB, TERMS

LINE = (
    b'{"dataset":"main","key":"' + b"00" * 32 + b'","ledger":"x/main","nonce":"' + b"0" * 32
) + (
    b'","prev":"' + b"0" * 64 + b'","schema":"fedmodel.ledger/4","seq":0,"site":"a",'
    b'"time":"1970-01-01T00:00:00Z","type":"open"}\n'
)


def test_the_fuzzed_line_is_a_line() -> None:
    assert encode(decode(LINE[:-1])) + b"\n" == LINE


@pytest.mark.long
@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    raw=st.one_of(
        st.binary(max_size=200),
        st.tuples(st.binary(max_size=40), st.just(LINE), st.binary(max_size=40)).map(b"".join),
        st.tuples(st.integers(0, len(LINE)), st.integers(0, 8), st.binary(max_size=8)).map(
            lambda x: LINE[: x[0]] + x[2] + LINE[x[0] + x[1] :]
        ),
    )
)
@example(raw=LINE)
@example(raw=LINE + LINE)
@example(raw=b"[" * 100_000 + b"\n")
@example(raw=b"9" * 10_000 + b"\n")
@example(raw=LINE.replace(b'"a"', b'"\\ud800"'))
@example(raw=LINE.replace(b"0,", b"5" * 400 + b","))
@example(raw=LINE.replace(b'"open"', b"[]"))
@example(raw=b"\xff\xfe\n")
@example(raw=b"\x00" * 4096)
def test_the_reader_survives_anything(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(raw)
    try:
        Ledger(path).entries()
    except FedmodelError:
        assert path.read_bytes() == raw


@pytest.mark.long
@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_no_line_of_any_type_is_read_as_something_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(EXAMPLES)))
    line = encode(EXAMPLES[kind])
    assert decode(line) == EXAMPLES[kind]
    at = data.draw(st.integers(0, len(line)))
    changed = (
        line[:at] + data.draw(st.binary(max_size=4)) + line[at + data.draw(st.integers(0, 4)) :]
    )
    with contextlib.suppress(FedmodelError):
        assert encode(decode(changed)) == changed


EXAMPLES: dict[str, Entry] = {
    "open": OpenEntry(ledger="x/main", key="00" * 32, site="a", dataset="main"),
    "dataset": DatasetEntry(root="ab" * 32, rows=3, patients=None, added=3, removed=0),
    "reserve": TERMS.entry(run="r", job=JOB, code="test"),
    "spend": SpendEntry(
        reservation=1,
        run="r",
        job=JOB,
        kind="train",
        mechanism=Mechanism(name="distributed", honest=7, survivors=9),
        round=0,
        attempt=1,
        rate="0.1",
        noise_multiplier="1.25",
        steps=5,
        clip="0.5",
        unit="record",
        adjacency="add-remove",
        delta="1e-05",
    ),
    "repeat": RepeatEntry(reservation=1, run="r", job=JOB, round=1, attempt=2),
    "outcome": OutcomeEntry(
        of=2,
        run="r",
        job=JOB,
        kind="train",
        round=1,
        attempt=1,
        result="given",
        update="ab" * 32,
        manifest="",
        steps=2,
        clips=("0.5", "0.25"),
    ),
    "give-back": GiveBackEntry(reservation=1, run="r", job=JOB, by="operator"),
    "torn": TornEntry.of(b"{"),
}
