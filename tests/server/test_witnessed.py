"""Each order, and the end of a run, bring the coordinator's ledger as it is then."""

from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Message, RecordDict

from fedmodel import wire
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.runs import RunFolder
from fedmodel.update import vector_sha256
from fedmodel.wire import Shown
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from server.progress import Progress
from tests.conftest import new_run
from tests.server.exchange.masked import (
    COORDINATOR_KEYS,
    INITIAL,
    NODES,
    Sites,
    coordinator,
    job_of,
    play,
)


@dataclass
class Witnesses(Sites):
    """Sites that hold what they are shown against the ledger on the coordinator's disk."""

    folder: RunFolder | None = None
    shown: dict[str, list[int]] = field(default_factory=dict)

    def answer(self, kind: str, node: int, message: Message) -> RecordDict:
        if kind in ("train", "query.leave"):
            content = message.content
            order = wire.decode_order(content) if kind == "train" else wire.decode_leave(content)
            self.look(kind, order.shown)
        return super().answer(kind, node, message)

    def look(self, kind: str, shown: Shown | None) -> None:
        assert self.folder is not None
        assert shown is not None
        ledger = CoordinatorLedger(self.folder.own_ledger)
        assert shown.head.size == len(ledger.entries())
        assert list(shown.proofs) == [] or max(shown.proofs) < shown.head.size
        self.shown.setdefault(kind, []).append(shown.head.size)


def ledger_of(folder: RunFolder) -> OwnLedger:
    return OwnLedger.of(folder, COORDINATOR_KEYS, LedgerMemory())


def test_what_a_site_is_shown_is_all_that_the_coordinator_has_written(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    sites = Witnesses(job_of(rounds=2), folder=folder)
    play(sites, folder=folder, ledger=ledger_of(folder))
    each = len(NODES)
    # run, start, joining, and then of each round: round, attempt; unmask, result.
    assert sites.shown == {"train": [5] * each + [9] * each, "query.leave": [11] * each}


def test_the_digest_of_the_parameters_is_theirs_after_a_resume(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    job = job_of(rounds=2)
    play(Sites(job), folder=folder, ledger=ledger_of(folder))
    progress = Progress(coordinator(job, folder=folder))
    assert progress.model == vector_sha256(INITIAL)
    progress.restore()
    assert progress.model == vector_sha256(progress.vector) != vector_sha256(INITIAL)
