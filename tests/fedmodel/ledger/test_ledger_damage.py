"""Damage to a ledger's file: every line that isn't as it was is found, and nothing is skipped."""

import dataclasses
import hashlib
from collections.abc import Callable

import pytest

from fedmodel.errors import LedgerError, RollbackError
from fedmodel.ledger import Ledger
from fedmodel.ledger.entries import Entry, GiveBackEntry, TornEntry
from fedmodel.ledger.lines import encode
from fedmodel.ledger.site_state import SiteState
from tests.fedmodel.ledger.conftest import JOB, TERMS, spend


def swap(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], lines[4]]


def change(line: int, old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    def apply(lines: list[bytes]) -> list[bytes]:
        assert old in lines[line]
        return [*lines[:line], lines[line].replace(old, new, 1), *lines[line + 1 :]]

    return apply


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (swap, 3),
        (change(2, b'"steps":5', b'"steps":1'), 4),  # what follows names another line
        (change(1, b'"steps":100', b'"steps":999'), 3),
        (lambda x: [*x[:2], *x[3:]], 3),
        (lambda x: x[1:], 1),
        (lambda x: [*x[:3], x[2], *x[3:]], 4),
        (lambda x: [*x[:2], x[2][:50], *x[3:]], 3),
        (lambda x: [*x[:2], x[2][:50] + x[3], x[4]], 3),
        (lambda x: [*x[:2], b"", *x[2:]], 3),
        (change(2, b",", b", "), 3),
        (change(2, b'{"', b'{"steps":1,"'), 3),
        (change(2, b'"rate":"0.1"', b'"rate":"0.10"'), 3),
        (change(2, b'"rate":"0.1"', b'"rate":"nan"'), 3),
        (change(2, b'"reservation":1', b'"reservation":2'), 3),
        (change(2, b'"run":"r"', b'"run":"s"'), 3),
        (change(2, b'"unit":"record"', b'"unit":"patient"'), 3),
        (change(2, b'"nonce":"', b'"nonce":"x'), 3),
        (change(2, b"Z", b"z"), 3),
        (change(2, b"ledger/4", b"ledger/1"), 3),
        (change(2, b"ledger/4", b"ledger/5"), 3),
        (change(2, b'"dpsgd"', b'"counts"'), 3),
        (change(2, b'"honest":1', b'"honest":2'), 3),
        (change(2, b'"spend"', b'"void"'), 3),
        (change(2, b'"spend"', b'"open"'), 3),
    ],
)
def test_damage_is_found_and_nothing_is_added(
    five: Ledger,
    site: SiteState,
    damage: Callable[[list[bytes]], list[bytes]],
    line: int,
) -> None:
    lines = five.path.read_bytes().splitlines()
    damaged = b"".join(x + b"\n" for x in damage(lines))
    five.path.write_bytes(damaged)
    for reader, where in ((five, "line"), (site.ledger(), f"line {line}")):
        with pytest.raises(LedgerError, match=where):
            reader.entries()
        with pytest.raises(LedgerError, match=where):
            spend(reader)
    assert five.path.read_bytes() == damaged


def test_a_last_line_that_was_edited_is_found_by_the_head(five: Ledger, site: SiteState) -> None:
    # Nothing follows it that would name it: only the signed head tells.
    text = five.path.read_bytes()
    start = text[:-1].rindex(b"\n")
    edited = text[:start] + text[start:].replace(b'"steps":5', b'"steps":1')
    five.path.write_bytes(edited)
    assert len(Ledger(five.path).spends()) == 3
    with pytest.raises(RollbackError, match="others among its first 5 entries"):
        site.ledger().entries()
    with pytest.raises(RollbackError, match="line 5 isn't what this process"):
        five.entries()


def test_entries_that_mean_nothing_are_refused(five: Ledger) -> None:
    lines = five.path.read_bytes()
    last = Ledger(five.path).entries()[-1]
    ends = GiveBackEntry(reservation=1, run="r", job=JOB, by="site")
    second = TERMS.entry(run="r", job=JOB, code="again")
    for wrong in (ends, second):
        text = lines
        for entry in (ends, wrong) if wrong is ends else (wrong,):
            text += encode(following(entry, text)) + b"\n"
        five.path.write_bytes(text)
        with pytest.raises(LedgerError, match="open"):
            Ledger(five.path).entries()
    five.path.write_bytes(b"".join(lines.splitlines(keepends=True)[:0]) + encode(last) + b"\n")
    with pytest.raises(LedgerError, match="line 1"):
        Ledger(five.path).entries()


def following(entry: Entry, text: bytes) -> Entry:
    """Return an entry as it would follow in a file."""
    lines = text.splitlines()
    prev = hashlib.sha256(lines[-1]).hexdigest()
    return dataclasses.replace(entry, seq=len(lines), prev=prev)


@pytest.mark.long
def test_every_cut_of_the_last_line(five: Ledger, site: SiteState) -> None:
    whole = five.path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    head = (site.folder / "heads" / "main.json").read_bytes()
    for cut in [*range(start, len(whole), 29), len(whole) - 2, len(whole) - 1]:
        five.path.write_bytes(whole[:cut])
        complete = cut == len(whole) - 1
        assert len(Ledger(five.path).spends()) == (3 if complete else 2)
        (site.folder / "heads" / "main.json").write_bytes(head)
        if not complete:  # the head says that the last line was whole
            with pytest.raises(RollbackError, match="has 4 entries, but a head of 5"):
                site.ledger().entries()
            (site.folder / "heads" / "main.json").unlink()
        ledger = site.ledger()
        spend(ledger, 7)
        entries = Ledger(five.path).entries()
        assert len(ledger.spends()) == (4 if complete else 3)
        torn = [e for e in entries if isinstance(e, TornEntry)]
        assert len(torn) == (0 if complete or cut == start else 1)
        if torn:
            assert bytes.fromhex(torn[0].start) == whole[start:cut]


def test_a_whole_line_without_newline_is_read_again_once_it_has_one(
    five: Ledger, site: SiteState
) -> None:
    reader = Ledger(five.path)
    with five.path.open("rb+") as file:
        file.truncate(five.path.stat().st_size - 1)
    assert len(reader.entries()) == len(reader.entries()) == 5
    spend(site.ledger(), 9)
    assert len(reader.entries()) == len(five.entries()) == 6


def test_unfinished_line_that_does_not_follow_is_an_error(five: Ledger) -> None:
    first = five.path.read_bytes().splitlines()[0]
    with five.path.open("ab") as file:
        file.write(first)
    for act in (five.spends, lambda: spend(five)):
        with pytest.raises(LedgerError, match="line 6"):
            act()
