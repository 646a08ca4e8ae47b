"""Folders that nobody wrote: whatever a part says, there are findings, or one error of usage."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.audit.show import last_line, plain, tables
from fedmodel.errors import EvidenceError
from tests.examples import examples
from tests.fedmodel.audit.conftest import findings_of
from tests.fedmodel.audit.forged import GOLDEN, Forged

STRANGE: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**63, 10**400, 0.0, -0.5, 1e-300, 1e300, float("nan")),
    *("", "x", "\u202e", "1e400", "0" * 64, [], {}, [None], {"x": 1}, [[]] * 3),
]
PARTS = ("manifest.json", "metrics.jsonl", "summary.json", "heads.json", "ledger/site-1.jsonl")


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Forged:
    return Forged("record", tmp_path_factory.mktemp("strange") / "record")


def inside(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a value."""
    yield at
    if isinstance(value, dict):
        for key, each in value.items():
            yield from inside(each, (*at, key))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from inside(each, (*at, number))


def changed(value: Any, at: tuple[Any, ...], to: Any) -> Any:
    if not at:
        return to
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[at[0]] = changed(value[at[0]], at[1:], to)
    return copy


def look(path: Path) -> None:
    try:
        findings = findings_of(path)
    except EvidenceError:
        return
    assert last_line(findings)
    assert tables(findings)
    json.dumps(plain(findings), allow_nan=False)


@pytest.mark.long
@settings(max_examples=examples(400), deadline=None)
@given(st.data())
def test_any_value_may_stand_anywhere(forged: Forged, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(PARTS))
    path = forged.path / name
    whole = path.read_bytes()
    texts = whole.splitlines() if name.endswith("l") else [whole]
    values = [json.loads(text) for text in texts]
    at = data.draw(st.sampled_from(list(inside(values))[1:]))
    values = changed(values, at, data.draw(st.sampled_from(STRANGE)))
    try:
        if name.startswith("ledger"):  # chained and signed again, so that it is read to its end
            try:
                forged.write("site-1", values)
            except Exception:
                path.write_bytes(b"".join(json.dumps(v).encode() + b"\n" for v in values))
        else:
            path.write_text("".join(json.dumps(value) + "\n" for value in values))
        look(forged.path)
    finally:
        path.write_bytes(whole)
        if name.startswith("ledger"):
            forged.write("site-1", [json.loads(text) for text in texts])


@pytest.mark.long
@settings(max_examples=examples(200), deadline=None)
@given(st.data())
def test_any_byte_may_stand_anywhere(forged: Forged, data: st.DataObject) -> None:
    path = forged.path / data.draw(st.sampled_from(PARTS))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    try:
        look(forged.path)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("text", [b"", b"\n", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_a_part_may_be_anything(name: str, text: bytes, tmp_path: Path) -> None:
    run = Path(shutil.copytree(GOLDEN / "record", tmp_path / "run"))
    (run / name).write_bytes(text)
    look(run)
