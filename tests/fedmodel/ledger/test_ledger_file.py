"""The ledger's file: what is on disk, and who may write there."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel import _files
from fedmodel.accounting.spends import Spend
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.ledger import Ledger
from fedmodel.ledger.entries import DatasetEntry, Entry, OpenEntry, Part
from fedmodel.ledger.ledger import _FORM
from fedmodel.ledger.lines import decode
from fedmodel.ledger.mechanism import COUNTS, DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState
from tests.fedmodel.ledger.conftest import FIVE, JOB, TERMS, spend


def test_round_trip(five: Ledger, site: SiteState) -> None:
    entries = Ledger(five.path).entries()
    assert [e.seq for e in entries] == [0, 1, 2, 3, 4]
    assert [e.type for e in entries] == ["open", "reserve", "spend", "spend", "spend"]
    assert entries[0].prev == "0" * 64
    assert isinstance(entries[0], OpenEntry)
    assert (entries[0].site, entries[0].dataset) == ("a", "main")
    assert entries[0].ledger == f"{site.key.fingerprint}/main"
    assert five.spends() == five.spends(run="r", job=JOB) == [FIVE.spend()] * 3
    assert five.spends(run="other") == five.spends(job="cd" * 32) == []
    assert len({e.nonce for e in entries}) == 5
    assert five.path.stat().st_mode & 0o077 == 0


def test_real_numbers_come_back_exactly(site: SiteState) -> None:
    odd = Spend(1 / 3, 0.1 + 0.2, 1, "evaluate")
    ledger = site.ledger()
    terms = Request(
        unit="record",
        adjacency="replace",
        epsilon=8.0,
        delta=1e-9,
        parts=(Part.of(odd, COUNTS),),
    )
    ledger.reserve(terms, run="r", job=JOB, code="test")
    entry = ledger.spend(terms.parts[0], run="r", job=JOB, round=1, clip=1 / 7)
    assert (float(entry.rate), float(entry.delta), float(entry.clip)) == (1 / 3, 1e-9, 1 / 7)
    assert (entry.kind, entry.adjacency, entry.attempt) == ("evaluate", "replace", 1)
    assert Ledger(ledger.path).spends() == [odd]


def test_lines_are_canonical(five: Ledger) -> None:
    for line in five.path.read_bytes().splitlines():
        mapping = json.loads(line)
        assert line == json.dumps(mapping, sort_keys=True, separators=(",", ":")).encode()
        assert mapping["schema"] == "fedmodel.ledger/4"


def test_missing_file_is_an_empty_ledger(site: SiteState) -> None:
    assert site.ledger().entries() == ()
    assert site.ledger().spends() == []
    assert not site.ledger_path("main").exists()


def test_two_writers_take_turns(five: Ledger, site: SiteState) -> None:
    other = site.ledger()
    for i in range(3):
        spend(other, i)
        spend(five, i)
    assert len(Ledger(five.path).entries()) == 11
    assert len(other.entries()) == len(five.entries()) == 11


def test_nobody_writes_without_the_key(five: Ledger, site: SiteState, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give its owner"):
        Ledger(five.path).give_back("r", JOB)
    with pytest.raises(ConfigError, match="give its owner"):
        Ledger(five.path).head()
    stranger = SiteState(tmp_path / "b", "a").ledger(path=five.path)
    for act in (lambda: spend(stranger), stranger.head):
        with pytest.raises(LedgerError, match="of another key"):
            act()
    with pytest.raises(LedgerError, match="of another key or dataset"):
        site.ledger("other", path=five.path).head()


def test_folders_and_files_that_cannot_be_made(tmp_path: Path, site: SiteState) -> None:
    (tmp_path / "file").write_text("")
    ledger = site.ledger(path=tmp_path / "file" / "a.jsonl")
    with pytest.raises(LedgerError, match=r"can't write.*Nothing may be released"):
        ledger.reserve(TERMS, run="r", job=JOB, code="test")
    with pytest.raises(LedgerError, match="can't read"):
        Ledger(tmp_path).entries()
    with pytest.raises(LedgerError, match="can't write"):
        SiteState(tmp_path / "file" / "b", "b").ledger()


def test_wrong_values_leave_no_file(site: SiteState) -> None:
    ledger = site.ledger()
    with pytest.raises(ConfigError, match="64 digits"):
        ledger.reserve(TERMS, run="r", job="xyz", code="test")
    with pytest.raises(ConfigError, match="canonical"):
        ledger.reserve(TERMS, run="\ud800", job=JOB, code="test")
    with pytest.raises(ConfigError, match="not be negative"):
        ledger.note_dataset(
            DatasetEntry(root="00" * 32, rows=-1, patients=None, added=None, removed=None)
        )
    assert not ledger.path.parent.exists()


def test_a_writer_that_is_killed_lets_go_of_the_lock(five: Ledger) -> None:
    code = (
        "import fcntl, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR);"
        "fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(five.path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "locked\n"
    child.kill()
    child.wait(10)
    child.stdout.close()
    spend(five, 3)
    assert len(five.spends()) == 4


def test_a_round_does_the_same_in_a_long_ledger(
    site: SiteState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads nothing, decodes nothing, and writes a line and a tree head: after 1 entry or 200."""
    done: Counter[str] = Counter()
    real = os.read, os.write, decode

    def read(handle: int, size: int) -> bytes:
        done["reads"] += 1
        return real[0](handle, size)

    def write(handle: int, data: bytes) -> int:
        done["bytes"] += len(data)
        return real[1](handle, data)

    def counted(line: bytes) -> Entry:
        done["decoded"] += 1
        return real[2](line)

    monkeypatch.setattr("fedmodel.ledger.ledger._FORM", replace(_FORM, decode=counted))
    ledger = site.ledger()
    ledger.reserve(TERMS, run="r", job=JOB, code="test")
    one = Part.of(Spend(0.1, 1.25, 1), DPSGD)
    rounds = []
    monkeypatch.setattr(os, "read", read)
    monkeypatch.setattr(os, "write", write)
    for round_ in range(100):
        done.clear()
        ledger.spend(one, run="r", job=JOB, round=round_, clip=0.5)
        ledger.head()
        ledger.prove(len(ledger.entries()))
        rounds.append(dict(done))
    assert all(found.keys() == {"bytes"} for found in rounds)
    # Only the numbers in a line and a head get longer.
    assert rounds[99]["bytes"] - rounds[0]["bytes"] <= 8


def test_text_and_book_are_of_one_reading(five: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0

    def counted(line: bytes) -> Entry:
        nonlocal decoded
        decoded += 1
        return decode(line)

    monkeypatch.setattr("fedmodel.ledger.ledger._FORM", replace(_FORM, decode=counted))
    seen = Ledger(five.path).snapshot()
    assert decoded == 5
    assert seen.text == five.path.read_bytes()
    assert [e.steps for r in seen.book.of("r", JOB) for e in r.spent] == [5, 5, 5]


def test_the_sites_key_is_read_once(site: SiteState, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ledger().head()
    again = SiteState(site.folder, "a")
    reads: Counter[str] = Counter()
    real = _files.read_with_mode

    def read(path: Path, most: int) -> tuple[bytes, int]:
        reads[path.name] += 1
        return real(path, most)

    monkeypatch.setattr(_files, "read_with_mode", read)
    for dataset in ("main", "other", "main"):
        again.ledger(dataset)
    assert again.key is again.key
    assert reads == {"key": 1}


def test_a_file_in_the_place_of_the_folder_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "ledgers").write_bytes(b"")
    with pytest.raises(LedgerError) as refused:
        Ledger(tmp_path / "ledgers" / "main.jsonl").entries()
    path = tmp_path / "ledgers" / "main.jsonl"
    assert str(refused.value) == f"can't read the ledger {path}: Not a directory"
