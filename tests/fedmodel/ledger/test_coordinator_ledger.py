"""A coordinator's ledger: what it holds, what it refuses, and what earlier versions wrote."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import ConfigError, FedmodelError, LedgerError, RollbackError
from fedmodel.ledger.coordinator_entries import (
    CoordinatorTornEntry,
    Given,
    JoiningEntry,
    RunEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.ledger.coordinator_lines import decode, encode
from fedmodel.ledger.tree_head import TreeHead
from tests.fedmodel.ledger.golden_coordinator import ENTRIES, RUN, coordinators

VECTORS = Path(__file__).parents[2] / "vectors"
FIRST, GOLDEN = VECTORS / "coordinator_v1.jsonl", VECTORS / "coordinator_v2.jsonl"


def changed(entry: Any, **parts: Any) -> Any:
    return replace(entry, **parts)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    ledger = coordinators(tmp_path)
    for entry in ENTRIES:
        ledger.note(entry)
    return tmp_path


def test_this_version_writes_what_it_has_written(written: Path) -> None:
    assert (written / "coordinator.jsonl").read_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize("golden", [FIRST, GOLDEN])
def test_what_was_written_is_read_and_goes_on(tmp_path: Path, golden: Path) -> None:
    path = tmp_path / "coordinator.jsonl"
    path.write_bytes(golden.read_bytes())
    ledger = coordinators(tmp_path)
    first, *others = ledger.entries()
    assert isinstance(first, RunEntry)
    assert (first.run, first.ledger.partition("/")[2]) == (RUN, RUN)
    assert [encode(each) for each in (first, *others)] == golden.read_bytes().splitlines()
    if golden == GOLDEN:
        stamp = {"seq": 0, "prev": "0" * 64, "nonce": "0" * 32, "time": "1970-01-01T00:00:00Z"}
        assert tuple(changed(entry, **stamp) for entry in others) == ENTRIES
    ledger.note(ENTRIES[0])
    assert path.read_bytes().startswith(golden.read_bytes())
    assert [entry.seq for entry in ledger.entries()] == list(range(len(ENTRIES) + 2))


def test_a_line_of_the_first_schema_says_no_updates_and_follows_none_of_the_second(
    written: Path,
) -> None:
    line = next(x for x in GOLDEN.read_bytes().splitlines() if b'"type":"result"' in x)
    with pytest.raises(ConfigError, match="canonical"):
        decode(line.replace(b"coordinator/2", b"coordinator/1"))
    path = written / "coordinator.jsonl"
    (written / "coordinator-head.json").unlink()
    last = changed(decode(path.read_bytes().splitlines()[-1]), schema="fedmodel.coordinator/1")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with path.open("ab") as file:
        file.write(encode(last) + b"\n")
    with pytest.raises(LedgerError, match=r"coordinator/1 can't follow one of fedmodel.*/2"):
        CoordinatorLedger(path).entries()


def test_every_entry_is_signed_for_and_an_old_copy_is_refused(written: Path) -> None:
    path, kept = written / "coordinator.jsonl", written / "coordinator-head.json"
    head = TreeHead.from_json(kept.read_bytes())
    assert (head.size, head.ledger) == (len(ENTRIES) + 1, coordinators(written).head().ledger)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    old = coordinators(written)
    for _ in range(2):
        with pytest.raises(RollbackError, match=f"has {len(ENTRIES)} entries"):
            old.entries()
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match="of another key or run"):
        coordinators(written, seed=2).note(ENTRIES[0])


@pytest.mark.parametrize("change", ["taken out", "moved", "twice", "first again"])
def test_lines_that_do_not_follow_one_another_are_named(written: Path, change: str) -> None:
    path = written / "coordinator.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines_now = {
        "taken out": [*lines[:3], *lines[4:]],
        "moved": [*lines[:3], lines[4], lines[3], *lines[5:]],
        "twice": [*lines[:4], *lines[3:]],
        "first again": [*lines, lines[0]],
    }[change]
    path.write_bytes(b"".join(lines_now))
    with pytest.raises(LedgerError, match=r"line \d+: "):
        CoordinatorLedger(path).entries()


@pytest.mark.long
def test_no_flipped_bit_passes_unseen(written: Path) -> None:
    path, head = written / "coordinator.jsonl", coordinators(written).head()
    text = path.read_bytes()
    for at in range(0, len(text), 7):
        damaged = bytearray(text)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(FedmodelError):
            coordinators(written).entries()
    path.write_bytes(text)
    assert coordinators(written).head().root == head.root


def test_what_a_crash_left_of_a_line_is_kept_as_such(written: Path) -> None:
    path = written / "coordinator.jsonl"
    whole = path.read_bytes()
    (written / "coordinator-head.json").unlink()
    path.write_bytes(whole[:-20])
    ledger = coordinators(written)
    ledger.note(ENTRIES[-1])
    *_, torn, last = ledger.entries()
    assert isinstance(torn, CoordinatorTornEntry)
    assert torn.size == len(whole.splitlines()[-1]) - 19
    assert last.type == "end"


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        ("fedmodel.coordinator/2", "fedmodel.coordinator/3", "newer fedmodel"),
        ("fedmodel.coordinator/2", "fedmodel.ledger/4", "isn't a coordinator's ledger"),
        ('"type":"joining"', '"type":"party"', "expected an entry of type"),
        ('"nodes":{"2":1,"3":2}', '"nodes":{"2":1,"3":1}', "two nodes"),
        ('"refused"', '"sulking"', "kind"),
        ('"seq":', '"seq": ', "canonical"),
    ],
)
def test_a_line_that_means_nothing_says_why(was: str, now: str, why: str) -> None:
    line = encode(changed(ENTRIES[1], seq=1)).decode()
    assert was in line
    with pytest.raises(ConfigError, match=why):
        decode(line.replace(was, now, 1).encode())


def test_numbers_of_sites_and_digests_are_checked_before_they_are_written(written: Path) -> None:
    before = (written / "coordinator.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="each once and rising"):
        changed(ENTRIES[2], members=(2, 1))
    with pytest.raises(ConfigError, match="each once and rising"):
        changed(ENTRIES[2], members=(0, 1))
    with pytest.raises(ConfigError, match="root must be 64"):
        Given(member=1, entries=3)
    with pytest.raises(ConfigError, match="no canonical JSON"):
        coordinators(written).note(changed(ENTRIES[0], job={"lr": float("nan")}))
    assert (written / "coordinator.jsonl").read_bytes() == before


def test_an_entry_is_one_line_of_canonical_json() -> None:
    for entry in ENTRIES:
        line = encode(entry)
        assert b"\n" not in line
        assert json.loads(line)["type"] == entry.type
        assert decode(line) == entry
    assert isinstance(ENTRIES[1], JoiningEntry)
