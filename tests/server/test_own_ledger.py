"""The coordinator's own ledger of a run: what is in it, and that it is there in time."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from flwr.app import RecordDict

from fedmodel import _files, _hazmat, config
from fedmodel.errors import BudgetError, LedgerError, QuorumError, RefusedError
from fedmodel.identity.signed_roster import read_roster
from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    CoordinatorEntry,
    EndEntry,
    Failed,
    JoiningEntry,
    ResultEntry,
    RoundEntry,
    StartEntry,
    UnmaskEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.runs import RunFolder
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Survivors
from fedmodel.update import vector_sha256
from fedmodel.wire import Failure
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from tests.conftest import new_run
from tests.server.exchange.masked import (
    COORDINATOR_KEYS,
    INITIAL,
    NODES,
    ROSTER,
    Sites,
    job_of,
    play,
)


def entries_of(folder: RunFolder) -> tuple[CoordinatorEntry, ...]:
    return CoordinatorLedger(folder.own_ledger).entries()


def types_of(folder: RunFolder) -> list[str]:
    return [entry.type for entry in entries_of(folder)]


def of_type(folder: RunFolder, type_: Any) -> list[Any]:
    return [entry for entry in entries_of(folder) if isinstance(entry, type_)]


def own(folder: RunFolder) -> OwnLedger:
    return OwnLedger.of(folder, COORDINATOR_KEYS, LedgerMemory())


def played(folder: RunFolder, sites: Sites, **parts: Any) -> Any:
    return play(sites, folder=folder, ledger=own(folder), **parts)[0]


def test_a_run_is_written_down_from_its_start_to_its_end(tmp_path: Path) -> None:
    job, folder = job_of(rounds=2), new_run(tmp_path / "run")
    result = played(folder, Sites(job))
    each = ["round", "attempt", "unmask", "result"]
    assert types_of(folder) == ["run", "start", "joining", *each, *each, "end"]
    (start,), (end,) = of_type(folder, StartEntry), of_type(folder, EndEntry)
    assert (start.job_sha256, start.job) == (job.sha256, config.parsed(config.canonical(job)))
    assert (start.roster, start.round, start.model) == (ROSTER.sha256, 0, vector_sha256(INITIAL))
    assert start.members == {str(n - 1): f"s{n}" for n in NODES}
    models = [start.model, *(r.model for r in of_type(folder, ResultEntry))]
    assert [asked.model for asked in of_type(folder, RoundEntry)] == models[:-1]
    assert models[-1] == end.model == vector_sha256(result.vector)
    assert len(set(models)) == 3
    assert [given.member for given in end.told] == [n - 1 for n in NODES]
    assert not end.failed


def test_the_roster_that_a_start_names_lies_in_the_run_folder(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    played(folder, Sites(job_of()))
    (start,) = of_type(folder, StartEntry)
    (kept,) = (folder.path / "rosters").iterdir()
    assert kept.name == f"{start.roster}.json"
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == start.roster
    assert read_roster(kept.read_bytes()) == ROSTER
    # Another start with another roster leaves the first one's where it is.
    folder.keep_roster("a" * 64, b"{}")
    folder.keep_roster(start.roster, b"{}")
    assert len(list((folder.path / "rosters").iterdir())) == 2
    assert read_roster(kept.read_bytes()) == ROSTER


def test_a_sums_manifest_and_consents_can_be_checked_from_the_ledger_alone(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    played(folder, Sites(job_of()))
    (opened,), (unmasked,) = of_type(folder, AttemptEntry), of_type(folder, UnmaskEntry)
    manifest = config.build(Manifest, opened.manifest)
    assert digest(manifest).hex() == opened.digest == unmasked.digest
    signature = bytes.fromhex(manifest.signature)
    _hazmat.ed25519_verify(bytes.fromhex(ROSTER.coordinator), manifest.signed(), signature)
    told = Survivors(
        manifest=opened.digest, takers=unmasked.takers, survivors=unmasked.survivors
    ).signed()
    assert len(unmasked.consents) >= manifest.threshold
    for member, consent in unmasked.consents.items():
        _hazmat.ed25519_verify(ROSTER.keys[int(member)], told, bytes.fromhex(consent))
    assert set(map(int, unmasked.vectors)) == set(unmasked.survivors)


def test_what_sites_are_asked_for_is_on_disk_before_they_hear_of_it(tmp_path: Path) -> None:
    folder, seen = new_run(tmp_path / "run"), dict[str, list[str]]()

    def look(kind: str, node: int, reply: RecordDict) -> RecordDict:
        seen.setdefault(kind, types_of(folder))
        return reply

    played(folder, Sites(job_of(), look))
    begun = ["run", "start"]
    assert seen["query.join"] == begun
    asked = [*begun, "joining", "round", "attempt"]
    assert seen["query.open"] == seen["train"] == seen["query.consent"] == asked
    assert seen["query.reveal"] == [*asked, "unmask"]
    assert seen["query.leave"] == [*asked, "unmask", "result"]


def test_who_gives_nothing_is_named_by_number_and_kind_and_in_no_word_of_its_own(
    tmp_path: Path,
) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        if kind == "query.join" and node == 6:
            return RefusedError("sulking")
        return BudgetError("sulking, too") if kind == "train" and node == 5 else None

    folder = new_run(tmp_path / "run")
    job = job_of(secagg={"survivors": 3, "colluders": 0, "threshold": 3})
    played(folder, Sites(job, raising=raising))
    (joining,), (result,) = of_type(folder, JoiningEntry), of_type(folder, ResultEntry)
    assert joining.nodes == {"2": 1, "3": 2, "4": 3, "5": 4}
    assert [failed.member for failed in joining.failed] == [5]
    assert [given.member for given in result.given] == [1, 2, 3]
    assert result.failed == (Failed(member=4, kind="budget"),)
    assert b"sulking" not in folder.own_ledger.read_bytes()


def test_a_round_that_too_few_gave_an_update_in_is_written_down_too(tmp_path: Path) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return RefusedError("no") if kind == "train" and node != 2 else None

    folder = new_run(tmp_path / "run")
    with pytest.raises(QuorumError):
        played(folder, Sites(job_of(), raising=raising))
    (result,), (end,) = of_type(folder, ResultEntry), of_type(folder, EndEntry)
    assert not result.finished
    assert (result.given, result.mean, result.model) == ((), "", vector_sha256(INITIAL))
    assert [failed.member for failed in result.failed] == [2, 3, 4, 5]
    assert (end.failed, end.round) == (True, 0)


class DiedError(BaseException):
    pass


@pytest.mark.parametrize("last", ["round", "unmask", "result"])
def test_a_coordinator_that_dies_goes_on_in_the_same_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    job, folder = job_of(rounds=2), new_run(tmp_path / "run")
    real = CoordinatorLedger.note

    def dying(self: CoordinatorLedger, entry: CoordinatorEntry) -> None:
        real(self, entry)
        if entry.type == last and getattr(entry, "round", 0) == 2:
            raise DiedError

    sites = Sites(job)
    with monkeypatch.context() as patch:
        patch.setattr(CoordinatorLedger, "note", dying)
        with pytest.raises(DiedError):
            played(folder, sites)
    cut = types_of(folder)
    result = played(RunFolder.open(folder.path), sites)
    assert types_of(folder)[: len(cut)] == cut
    first, second = of_type(folder, StartEntry)
    results = of_type(folder, ResultEntry)
    assert (first.round, second.round) == (0, 1)
    assert second.model == results[0].model
    finished = [each for each in results if each.finished and each.mean]
    # One that is finished twice came to the same: what had been kept was taken again.
    assert {each.round: each.model for each in finished}[results[-1].round] == results[-1].model
    assert len({(each.round, each.model) for each in results}) == 2
    # What each site gave is known of a round that was taken again, too.
    gave = {(each.round, g.member): set[str]() for each in finished for g in each.given}
    for each in finished:
        for given in each.given:
            gave[each.round, given.member].add(given.update)
    assert len(gave) == 2 * len(NODES)
    assert all(len(updates) == 1 and all(updates) for updates in gave.values())
    (end,) = of_type(folder, EndEntry)
    assert end.model == vector_sha256(result.vector)


def test_where_the_ledger_cannot_be_written_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sites = new_run(tmp_path / "run"), Sites(job_of())
    real = _files.LockedFile.append

    def full(self: Any, data: bytes) -> None:
        if b'"type":"round"' in data:
            raise OSError(28, "No space left on device")
        real(self, data)

    monkeypatch.setattr(_files.LockedFile, "append", full)
    with pytest.raises(LedgerError, match="No space left"):
        played(folder, sites)
    assert {kind for kind, _ in sites.talk} <= {"query.hello", "query.join", "query.leave"}


def test_a_site_of_the_roster_that_is_nowhere_is_away_and_one_left_out_is_said_to_be(
    tmp_path: Path,
) -> None:
    folder = new_run(tmp_path / "run")
    ledger = own(folder)
    why = {2: None, 3: Failure(reason="x", wrong=True), 4: Failure(reason="left out"), 9: None}
    ledger.joined("", {2: 1, 3: 2, 4: 3, 9: 5}, why, excluded=[4])
    (joining,) = of_type(folder, JoiningEntry)
    kinds = {failed.member: failed.kind for failed in joining.failed}
    assert kinds == {2: "wrong", 3: "excluded", 4: "away"}
    assert joining.nodes == {"2": 1, "9": 5}


def test_without_a_roster_nothing_is_kept(tmp_path: Path) -> None:
    ledger = OwnLedger()
    ledger.asks("train", 1, "0" * 64, [2])
    ledger.ended(1, "0" * 64, [2], failed=False)
    folder = new_run(tmp_path / "run")
    play(Sites(job_of()), folder=folder)
    assert not folder.own_ledger.exists()
