"""Ledgers brought back from an old copy, or rewritten: what a tree head finds out."""

import json
import shutil
from pathlib import Path

import pytest

from fedmodel.errors import LedgerError, ProtocolError, RollbackError
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState
from tests.fedmodel.ledger.conftest import JOB, TERMS, spend


@pytest.mark.parametrize("gone", [True, False])
def test_lines_taken_off_the_end_while_it_runs(five: Ledger, gone: bool) -> None:
    lines = five.path.read_bytes().splitlines(keepends=True)
    if gone:
        five.path.unlink()
    else:
        five.path.write_bytes(b"".join(lines[:3]))
    where = "line 1" if gone else "line 4"
    for _ in range(2):
        with pytest.raises(RollbackError, match=where):
            five.spends()
        with pytest.raises(RollbackError, match=where):
            spend(five)


def test_an_older_copy_is_refused(five: Ledger, site: SiteState, tmp_path: Path) -> None:
    head = five.head()
    shutil.copy(five.path, tmp_path / "copy")
    spend(five, 3)
    newer = five.head()
    shutil.copy(tmp_path / "copy", five.path)
    with pytest.raises(RollbackError, match=r"has 5 entries, but a head of 6 .* an old copy"):
        site.ledger().entries()
    # Whoever brings back the head too is found out by the coordinator's.
    (site.folder / "heads" / "main.json").write_bytes(head.to_json())
    rolled_back = site.ledger()
    rolled_back.check_extends(head)
    with pytest.raises(RollbackError, match="has 5 entries"):
        rolled_back.check_extends(newer)
    # A rewritten one isn't the same ledger either, however long it gets.
    spend(rolled_back, 3)
    spend(rolled_back, 4)
    with pytest.raises(RollbackError, match="others among its first 6"):
        rolled_back.check_extends(newer)
    with pytest.raises(ProtocolError, match="don't prove"):
        rolled_back.head().check_follows(newer, rolled_back.prove(newer.size))
    with pytest.raises(RollbackError, match="asked about"):
        rolled_back.prove(99)
    # Without the file there is nothing to spend from, though there was a ledger.
    five.path.unlink()
    with pytest.raises(RollbackError, match="has 0 entries"):
        site.ledger().reserve(TERMS, run="new", job=JOB, code="test")
    with pytest.raises(RollbackError, match="has 0 entries"):
        site.ledger().entries()


def test_the_head_is_of_this_ledger(five: Ledger, site: SiteState, tmp_path: Path) -> None:
    other = SiteState(tmp_path / "b", "b").ledger()
    with pytest.raises(ProtocolError, match="a head of ledger"):
        five.check_extends(other.head())
    kept = site.folder / "heads" / "main.json"
    for damage in (b"", b"{}", kept.read_bytes().replace(b'"size":5', b'"size":4')):
        kept.write_bytes(damage)
        with pytest.raises(LedgerError, match=r"main\.json: .*remove it"):
            site.ledger().entries()
    kept.unlink()
    assert len(site.ledger().entries()) == 5


def test_a_coordinator_follows_heads_without_seeing_entries(five: Ledger) -> None:
    heads = [five.head()]
    for i in range(12):
        spend(five, i)
        newer, proof = five.head(), five.prove(heads[-1].size)
        newer.check_follows(heads[-1], proof)
        newer.check_follows(heads[0], five.prove(heads[0].size))
        heads.append(newer)
    assert heads[-1] == five.head()
    assert json.loads((five.path.parents[1] / "heads" / "main.json").read_text())["size"] == 17
