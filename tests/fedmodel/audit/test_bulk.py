"""Lines that are read many at once are read as they are one by one: the same, and refused alike."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import config
from fedmodel.audit import bulk, reading
from fedmodel.audit.reading import LedgerReading, read_ledger, read_lines
from fedmodel.ledger import alike
from fedmodel.ledger.line import FIRST
from fedmodel.ledger.lines import of_a_newer_version
from fedmodel.ledger.repeated import Decoder
from simulations.benchmarks.verify_run import make_run
from tests.examples import examples

ROUNDS = 130


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    run = make_run(tmp_path_factory.mktemp("run") / "run", rounds=ROUNDS, sites=1)
    return (run / "ledger" / "site-001.jsonl").read_bytes().splitlines()


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Let few lines be enough to be taken at once, and some of them be many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "_PAYS", 2)
        patch.setattr(bulk, "_MOST", 40)
        yield


def one_by_one(text: bytes) -> LedgerReading:
    found = LedgerReading("ledger")
    read_lines(found, text, Decoder().decode, of_a_newer_version)
    return found


def everything(found: LedgerReading) -> dict[str, Any]:
    book = found.book
    said = {n: getattr(found, n) for n in ("entries", "leaves", "last", "form", "link", "rule")}
    return said | {
        "torn": found.torn,
        "root": found.tree.root().hex(),
        "opened": book.opened,
        "reservations": {
            seq: (r.spent, r.end, r._left, r._spent) for seq, r in book.reservations.items()
        },
        "attempts": book._attempts,
        "charged": book.outcomes._charged,
        "outcomes": {seq: list(entries) for seq, entries in book.outcomes._of.items()},
    }


def assert_same(lines: Sequence[bytes], decoder: Decoder | None = None) -> LedgerReading:
    text = b"".join(line + b"\n" for line in lines)
    found = read_ledger("ledger", text, decoder or Decoder())
    assert everything(found) == everything(one_by_one(text))
    return found


def counted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return which lines are taken one by one from now on."""
    found: list[bytes] = []
    take = reading._take

    def counting(into: Any, line: bytes, *others: Any) -> bool:
        found.append(line)
        return take(into, line, *others)

    monkeypatch.setattr(reading, "_take", counting)
    return found


def test_nearly_all_lines_are_read_at_once_and_are_the_same(
    lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(lines) > 2 * ROUNDS
    expected = everything(one_by_one(b"\n".join(lines) + b"\n"))
    single = counted(monkeypatch)
    for decoder in [Decoder()] * 2:  # the second ledger finds the shapes known
        single.clear()
        found = read_ledger("ledger", b"\n".join(lines) + b"\n", decoder)
        assert everything(found) == expected
        assert len(single) < 25


def rechained(lines: Sequence[bytes], change: Callable[[int, bytes], bytes]) -> list[bytes]:
    """Return lines that were changed, each of which names the one before it again."""
    found, last = [], FIRST.encode()
    for number, line in enumerate(lines):
        line = re.sub(
            rb'"prev":"[0-9a-f]{64}"', b'"prev":"%s"' % last, change(number, line), count=1
        )
        last = hashlib.sha256(line).hexdigest().encode()
        found.append(line)
    return found


def saying(line: bytes, field: str, value: object) -> bytes:
    return config.canonical(json.loads(line) | {field: value})


_CHANGES: dict[str, Any] = {
    "attempt": 2,
    "of": 3,
    "reservation": 0,
    "round": 7,
    "steps": 6,
    "run": "another",
    "job": "1" * 64,
    "kind": "evaluate",
    "seq": 1,
    "rate": "0.02",
    "delta": "1e-06",
    "unit": "patient",
    "update": "2" * 64,
    "model": "2" * 64,
    "nonce": "2" * 32,
    "time": "2026-02-01T00:00:00Z",
    "clip": "2.0",
    "result": "failed",
    "coordinator_entries": 0,
    "schema": "fedmodel.ledger/3",
    "mechanism": {"name": "dpsgd", "survivors": 2, "honest": 2},
}


@pytest.mark.parametrize("field", _CHANGES)
@pytest.mark.parametrize("every", [False, True])
def test_a_field_that_says_something_else(lines: list[bytes], field: str, every: bool) -> None:
    tried = 0
    for place in (61, 62):  # a spend and its outcome
        told = json.loads(lines[place])
        if field not in told:
            continue

        def change(number: int, line: bytes, at: int = place, kind: str = told["type"]) -> bytes:
            changed = number == at or (every and number >= at and json.loads(line)["type"] == kind)
            return saying(line, field, _CHANGES[field]) if changed else line

        decoder = Decoder()
        assert_same(lines, decoder)
        for _ in range(3):  # what is wrong with it is a shape that is known, and expected, too
            assert_same(rechained(lines, change), decoder)
        tried += 1
    assert tried


_TAUGHT: list[tuple[int, dict[str, object]]] = [
    *((1, {field: _CHANGES[field]}) for field in ("run", "job", "kind")),
    (1, {"steps": 99}),
    (0, {"given_up": [{"kind": "train", "rate": "0.01", "steps": 1}]}),
    *((0, {field: _CHANGES[field]}) for field in ("run", "job", "unit", "delta")),
    (0, {"mechanism": {"name": "distributed", "honest": 2, "survivors": 2}}),
]


@pytest.mark.parametrize(("which", "said"), _TAUGHT)
def test_what_one_ledger_teaches_isnt_believed_of_another(
    lines: list[bytes], which: int, said: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that is refused has a shape all the same, which is known from then on, and awaited."""
    tried: list[int] = []
    taken = bulk.Bulk._taken

    def trying(self: bulk.Bulk, some: Sequence[bytes], *others: Any) -> bool:
        tried.append(len(some))
        return taken(self, some, *others)

    def change(number: int, line: bytes) -> bytes:
        told = json.loads(line)
        if number > 4:  # other shapes than those of the first two
            told |= {"clip": "2.0"} if told["type"] == "spend" else {"steps": told["steps"] - 1}
        if number > 4 and told["type"] == ("spend", "outcome")[which]:
            told |= said
            for part in said.get("given_up", ()):
                part |= {key: told[key] for key in ("mechanism", "noise_multiplier")}
        return config.canonical(told)

    monkeypatch.setattr(bulk, "_FEWEST", 1)
    monkeypatch.setattr(bulk.Bulk, "_taken", trying)
    abusing, decoder = rechained(lines[:45], change), Decoder()
    for line in [*abusing[3:7]] * 3:
        decoder.decode(line)
    found = assert_same(abusing, decoder)
    assert tried
    assert (found.rule is None) == ("given_up" in said)  # that may be said, of each once


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb'"round":[0-9]', b'"round":0'),
        (rb'"coordinator_entries":[0-9]', b'"coordinator_entries":0'),
        (rb'"round":', b'"round":0'),
        (rb'"round":[0-9]', b'"round":-'),
        (rb'"round":[0-9]', b'"round":+'),
        (rb'"round":([0-9]+)', rb'"round":"\1"'),
        (rb'"nonce":"[0-9a-f]', b'"nonce":"A'),
        (rb'"model":"[0-9a-f]', b'"model":"g'),
        (rb'"model":"[0-9a-f]', b'"model":" '),
        (rb'"update":"[0-9a-f]{6}', rb'"update":"\\u0061'),
        (rb'(?<=[0-9])Z"', b'z"'),
        (rb"T00:00", b"T0:000"),
        (b"spend", b"sp\xc3\xa9nd"),
    ],
)
def test_values_that_are_written_otherwise(lines: list[bytes], old: bytes, new: bytes) -> None:
    for place in (61, 62, 200):
        if not re.search(old, lines[place]):
            continue

        def change(number: int, line: bytes, at: int = place) -> bytes:
            return re.sub(old, new, line, count=1) if number == at else line

        assert_same(rechained(lines, change))


def test_no_entries_with_a_root_is_refused_where_one_digit_is_as_long(lines: list[bytes]) -> None:
    def change(number: int, line: bytes) -> bytes:
        count = b"0" if number == 131 else b"5"
        return re.sub(rb'(?<="coordinator_entries":)[0-9]+', count, line)

    found = assert_same(rechained(lines[:140], change))
    assert found.form is not None
    assert found.form.line == 132


def test_a_line_that_was_changed_and_nothing_after_it(lines: list[bytes]) -> None:
    for place in (61, 62, 120):
        changed = [*lines[:place], saying(lines[place], "nonce", "2" * 32), *lines[place + 1 :]]
        found = assert_same(changed)
        assert found.link is not None
        assert found.link.line == place + 2


def spoiled(lines: list[bytes], data: st.DataObject) -> list[bytes]:
    """Return lines of which one was changed, left out, said twice or moved."""
    at = data.draw(st.integers(0, len(lines) - 1))
    line, where = lines[at], data.draw(st.integers(0, len(lines[at])))
    byte = data.draw(st.integers(0, 255))
    other = data.draw(st.integers(0, len(lines) - 1))
    swapped = {at: lines[other], other: line}
    ways: list[list[bytes]] = [
        [
            *lines[:at],
            *(line[:where] + bytes([byte]) + line[where + 1 :]).split(b"\n"),
            *lines[at + 1 :],
        ],
        [*lines[:at], *lines[at + 1 :]],
        [*lines[:at], line, *lines[at:]],
        [swapped.get(n, each) for n, each in enumerate(lines)],
        [*lines[:at], line[:where], *lines[at + 1 :]],
    ]
    return data.draw(st.sampled_from(ways))


@pytest.mark.long
@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_any_lines_changed_moved_or_left_out(lines: list[bytes], data: st.DataObject) -> None:
    changed = spoiled(lines, data)
    assert_same(changed)
    assert_same(rechained(changed, lambda _, line: line))


def test_what_cant_be_taken_at_once_isnt_tried_again_and_again(
    lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(number: int, line: bytes) -> bytes:
        return saying(line, "steps", 4) if number > 60 and b'"outcome"' in line else line

    tried: list[int] = []
    taken = bulk.Bulk._taken

    def trying(self: bulk.Bulk, some: Sequence[bytes], *others: Any) -> bool:
        tried.append(len(some))
        return taken(self, some, *others)

    monkeypatch.setattr(bulk.Bulk, "_taken", trying)
    broken = rechained(lines, change)
    broken[-3] = broken[-3].replace(b'"model"', b'"medel"')
    assert_same(broken)
    assert sum(tried) <= len(lines)


def test_the_last_line_without_its_end_is_torn(lines: list[bytes], tmp_path: Path) -> None:
    text = b"\n".join(lines)
    for cut in (1, 30, len(lines[-1]) - 1):
        found = read_ledger("ledger", text[:-cut], Decoder())
        assert everything(found) == everything(one_by_one(text[:-cut]))
        assert found.torn


@pytest.mark.parametrize("change", [{"run": "another"}, {"job": "1" * 64}, {"steps": 6}])
def test_a_book_counts_nothing_where_outcomes_arent_those_of_the_spends(
    lines: list[bytes], change: dict[str, Any]
) -> None:
    found = one_by_one(b"\n".join(lines[:61]) + b"\n")
    before, decoder = everything(found), Decoder()
    spends: list[Any] = [decoder.decode(line) for line in lines[61:69:2]]
    outcomes: list[Any] = [decoder.decode(line) for line in lines[62:70:2]]
    assert not found.book.draw_all(spends, [replace(each, **change) for each in outcomes])
    assert everything(found) == before
    assert found.book.draw_all(spends, outcomes)
