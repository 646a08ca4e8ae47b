"""Lines are decoded faster, and neither more nor otherwise than by what says what they are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.audit.coordinator_lines import decode_faster
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.parameters import MODEL, file_digest
from fedmodel.errors import EvidenceError, FedmodelError
from fedmodel.ledger.coordinator_lines import decode
from tests.examples import examples
from tests.fedmodel.audit.forged import GOLDEN

LINES = [
    line
    for kind in ("on", "record", "lost")
    for line in (GOLDEN / kind / "coordinator.jsonl").read_bytes().splitlines()
]
OTHER = [
    b" ",
    b"\n",
    b"1.0",
    b"1e3",
    b"-0",
    b"9007199254740993",
    b"true",
    b"null",
    b'"\\u0041"',
    b"\xc3\xa9",
]


def outcome(line: bytes, by: Any) -> Any:
    try:
        return by(line)
    except FedmodelError as error:
        return str(error)


@pytest.mark.parametrize("number", range(len(LINES)))
def test_a_line_is_the_same_entry(number: int) -> None:
    assert decode_faster(LINES[number]) == decode(LINES[number])


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(LINES), st.data())
def test_a_changed_line_is_refused_alike(line: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(line) - 1))
    end = data.draw(st.integers(at, min(len(line), at + 3)))
    other = data.draw(st.one_of(st.sampled_from(OTHER), st.binary(max_size=2)))
    changed = line[:at] + other + line[end:]
    assert outcome(changed, decode_faster) == outcome(changed, decode)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"},{"', b'"};{"'),
        (b'"},{"', b'"} {"'),
        (b'"},{"', b'"}{"'),
        (b'"},{"', b'"},,{"'),
        (b'"},{"', b'"}, {"'),
        (b'"},{"', b'"},{},{"'),
        (b'"},{"', b'"},{"entries":01},{"'),
        (b'"given":[{', b'"given":[,{'),
        (b'"given":[', b'"given":["},{",'),
        (b'"}],"mean"', b'"},],"mean"'),
    ],
)
def test_what_is_between_the_items_of_a_list_counts(old: bytes, new: bytes) -> None:
    line = next(
        line for line in LINES if b'"type":"result"' in line and line.count(b'"member"') > 2
    )
    assert old in line
    for count in (1, -1):
        changed = line.replace(old, new, count)
        assert isinstance(outcome(changed, decode_faster), str)
        assert outcome(changed, decode_faster) == outcome(changed, decode)
    # One that lacks, and one beside: as many as there were.
    moved = line.replace(b'"},{', b'"}{', 1).replace(b'"given":[', b'"given":[,')
    assert outcome(moved, decode_faster) == outcome(moved, decode)


# -- a model's file ------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / MODEL
    path.parent.mkdir(parents=True)
    path.write_bytes((GOLDEN / "record" / MODEL).read_bytes())
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:4], "it ends in its header"),
        (lambda data: data[:20], "it ends in its header"),
        (lambda data: b"\xff" * 8 + data[8:], "a header of 18446744073709551615 bytes"),
        (lambda data: data.replace(b"{", b"[", 1), "its header isn't JSON"),
        (lambda data: data.replace(b"[5,128]", b"[5,127]"), "doesn't follow the one"),
        (lambda data: data.replace(b"[5,128]", b"[-5,12]"), "isn't float32, or"),
        (lambda data: data + b"x", "2561 bytes of parameters, and its header says 2560"),
    ],
)
def test_a_file_that_isnt_one_of_parameters_is_one_error(
    change: Any, says: str, model: Path
) -> None:
    model.write_bytes(change(model.read_bytes()))
    with pytest.raises(EvidenceError, match=says):
        file_digest(FolderEvidence(model.parent.parent), MODEL)
