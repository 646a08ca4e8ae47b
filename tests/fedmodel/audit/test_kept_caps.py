"""Caps as a run reserves again and again: held at each, and the ledger is counted once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit import kept_caps
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.ledger import Book
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import Forged

STEP = {"noise_multiplier": "50.0", "steps": 1}


def reserved_again(forged: Forged, times: int, **last: Any) -> None:
    """Let a run reserve a step of little more, and give it back, so many times."""
    entries = forged.entries()
    (reserve,) = (entry for entry in entries if entry["type"] == "reserve")
    give_back = entries[-1]
    assert give_back["type"] == "give-back"
    part = {**reserve["parts"][0], **STEP}
    for number in range(times):
        parts = [part | (last if number == times - 1 else {})]
        nonces = (f"{kind}{number:031}" for kind in "12")
        entries.append({**reserve, "parts": parts, "nonce": next(nonces)})
        held = len(entries) - 1
        entries.append({**give_back, "reservation": held, "nonce": next(nonces)})
    forged.write("site-1", entries)


def kept(path: Path) -> Any:
    records = read_records(FolderEvidence(path))
    return kept_caps._kept(records, records.sites["site-1"])


def test_each_entry_is_counted_once_however_often_a_run_reserves(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged, counted = forge(), Counter[int]()
    reserved_again(forged, 6)
    records = read_records(FolderEvidence(forged.path))
    real = Book.count

    def count(self: Book, entry: Any) -> None:
        counted[entry.seq] += 1
        real(self, entry)

    monkeypatch.setattr(Book, "count", count)
    assert kept_caps._kept(records, records.sites["site-1"]).verdict == Verdict.PASS
    assert set(counted.values()) == {1}
    assert len(counted) == len(forged.entries()) - 1  # and nothing after the last reservation


def test_the_last_reservation_is_held_against_the_caps_as_the_first_is(forge: Forge) -> None:
    forged = forge()
    reserved_again(forged, 3, noise_multiplier="0.7", steps=40)
    found = kept(forged.path)
    assert found.verdict == Verdict.FAIL
    last = max(e["seq"] for e in forged.entries() if e["type"] == "reserve")
    assert found.entry == f"ledger/site-1.jsonl, line {last + 1}"
    assert json.loads(forged.ledger().read_bytes().splitlines()[last])["type"] == "reserve"
