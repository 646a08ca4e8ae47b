"""What the coordinator's own ledger has at the moments at which it must have it."""

from pathlib import Path
from typing import Any

import pytest

from fedmodel.errors import BudgetError, ProtocolError, QuorumError
from fedmodel.ledger.coordinator_entries import (
    CoordinatorEntry,
    EndEntry,
    Failed,
    ResultEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.runs import RunFolder
from server.ledger_memory import LedgerMemory
from tests.conftest import new_run
from tests.server import made_up
from tests.server.exchange.masked import NODES, Sites, job_of
from tests.server.test_held_out import released_job
from tests.server.test_own_ledger import of_type, own, played, types_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run")


def test_a_roster_is_kept_before_a_start_names_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, there = CoordinatorLedger.note, list[bool]()

    def note(self: CoordinatorLedger, entry: CoordinatorEntry) -> None:
        if entry.type == "start":
            there.append((folder.path / "rosters" / f"{entry.roster}.json").is_file())
        real(self, entry)

    monkeypatch.setattr(CoordinatorLedger, "note", note)
    played(folder, Sites(job_of()))
    assert there == [True]


def test_a_round_whose_sum_is_lost_is_written_down_too(folder: RunFolder) -> None:
    folder.note_begun(1)
    played(folder, Sites(job_of(rounds=2), closed=1))
    lost, second = of_type(folder, ResultEntry)
    assert (lost.round, lost.given, lost.mean, lost.finished) == (1, (), "", True)
    assert (second.round, len(second.given)) == (2, len(NODES))
    assert lost.model != second.model


def test_that_budgets_were_spent_is_written_down_where_rounds_may_be_skipped_too(
    folder: RunFolder,
) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return BudgetError("spent") if kind == "train" else None

    job = job_of(federation={"below_quorum": "skip"})
    with pytest.raises(QuorumError, match="privacy budgets are spent"):
        played(folder, Sites(job, raising=raising))
    (result,) = of_type(folder, ResultEntry)
    assert not result.finished
    assert result.failed == tuple(Failed(member=n - 1, kind="budget") for n in NODES)


def test_that_sites_evaluate_is_on_disk_before_they_hear_of_it(folder: RunFolder) -> None:
    seen = list[str]()

    def look(*_: Any) -> None:
        seen.append(types_of(folder)[-1])

    sites = made_up.Sites()
    sites.releasing = look
    made_up.play(released_job(), sites, folder=folder, ledger=own(folder))
    assert seen == ["round"] * len(made_up.NODES)
    assert types_of(folder)[-2:] == ["evaluation", "end"]


def test_who_has_heard_of_the_end_has_heard_of_it_whatever_it_says(folder: RunFolder) -> None:
    sites = Sites(job_of())

    class Doubting(LedgerMemory):
        def note(self, node: int, standing: Any) -> None:
            if sites.talk[-1][0] == "query.leave":
                raise ProtocolError("no head")

    played(folder, sites, memory=Doubting())
    (end,) = of_type(folder, EndEntry)
    assert [told.member for told in end.told] == [n - 1 for n in NODES]
