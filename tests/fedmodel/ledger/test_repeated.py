"""Lines like others are decoded as any line is: the same entries, and the same refusals."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.ledger import alike
from fedmodel.ledger.entries import Entry
from fedmodel.ledger.lines import decode
from fedmodel.ledger.repeated import Decoder
from tests.examples import examples

VECTORS = Path(__file__).parents[2] / "vectors"
LEDGERS = [*sorted(VECTORS.glob("ledger_v*.jsonl")), *sorted(VECTORS.rglob("ledger/*.jsonl"))]
NEW = (VECTORS / "ledger_v4.jsonl").read_bytes().splitlines()
LINES = [line for path in LEDGERS for line in path.read_bytes().splitlines()]


def outcome(make: Decoder | None, line: bytes) -> Entry | str:
    try:
        return decode(line) if make is None else make.decode(line)
    except FedmodelError as error:
        return str(error)


def test_golden_lines_twice_over() -> None:
    decoder = Decoder()
    for line in [*LINES, *LINES]:
        made = decoder.decode(line)
        assert made == decode(line)
        assert type(made) is type(decode(line))
    assert len(decoder._seen) < len(LINES) * 0.6  # others are like one before


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pattern be made of each kind of line as soon as it has come."""
    monkeypatch.setattr(alike, "_PAYS", 1)


def expecting(before: bytes, line: bytes) -> Decoder:
    """Return a decoder that has just seen one line, and takes for the next one another's."""
    decoder = Decoder()
    for _ in range(2):
        decoder.decode(before)
        decoder.decode(line)
    decoder.decode(before)
    return decoder


@pytest.mark.usefixtures("eager")
def test_what_came_after_a_line_before_is_tried_first_and_is_the_same() -> None:
    decoder, tried = Decoder(), 0
    for line in [*LINES, *LINES]:
        guess = None if decoder._last is None else decoder._last.then
        match = None if guess is None else guess.match
        tried += match is not None and line.isascii() and match(line.decode()) is not None
        made = decoder.decode(line)
        assert made == decode(line)
        assert type(made) is type(decode(line))
    assert tried > 50


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("at", "kind"), [(60, b"spend"), (3, b"outcome"), (5, b"repeat")])
def test_a_line_that_is_expected_and_is_another_is_refused_as_ever(at: int, kind: bytes) -> None:
    lines = [line for line in NEW if b'"type":"' + kind in line]
    before, line = NEW[1], lines[at % len(lines)]
    for place in range(len(line)):
        for byte in (line[place] ^ 1, line[place] ^ 0x80, *b'0"'):
            changed = line[:place] + bytes([byte]) + line[place + 1 :]
            assert outcome(expecting(before, line), changed) == outcome(None, changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"attempt":1', b'"attempt":"1"'),
        (b'"attempt":1', b'"attempt":01'),
        (b'"attempt":1', b'"attempt":-1'),
        (b'"attempt":1', b'"attempt":1.0'),
        (b'"attempt":1', b'"attempt":9007199254740993'),
        (b'"attempt":1', b'"attempt":"2026-01-01T00:00:00Z"'),
        (b'"round":1', b'"round":"' + b"0" * 32 + b'"'),
        (b'"nonce":"', b'"nonce":"' + b"0" * 32),
        (b'"nonce":"', b'"nonce": "'),
        (b'Z"', b'z"'),
        (b'"type"', b'"round":1,"type"'),
    ],
)
def test_a_line_that_is_no_entry_is_refused_as_ever(old: bytes, new: bytes) -> None:
    decoder, spends = Decoder(), [line for line in LINES if b'"spend"' in line]
    for line in LINES:
        decoder.decode(line)
    changed = [line.replace(old, new) for line in spends if old in line]
    assert changed
    for line in changed:
        assert outcome(decoder, line) == outcome(None, line)
        assert isinstance(outcome(decoder, line), str)


@pytest.mark.long
@settings(max_examples=examples(1000), deadline=None)
@given(st.data())
def test_any_byte_changed_makes_no_difference_between_them(data: st.DataObject) -> None:
    decoder = Decoder()
    line = data.draw(st.sampled_from(LINES))
    other = data.draw(st.sampled_from(LINES))
    decoder.decode(line)
    decoder.decode(other)
    at = data.draw(st.integers(0, len(line) - 1))
    changed = line[:at] + bytes([data.draw(st.integers(0, 255))]) + line[at + 1 :]
    assert outcome(decoder, changed) == outcome(None, changed)
