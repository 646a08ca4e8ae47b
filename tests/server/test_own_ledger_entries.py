"""Entries of the coordinator's own ledger, one by one: what each says of whom."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmodel.ledger.coordinator_entries import (
    EndEntry,
    EvaluationEntry,
    Failed,
    FailedKind,
    Given,
    ResultEntry,
    RoundEntry,
)
from fedmodel.mechanisms.counts import Counts
from fedmodel.runs import RunFolder
from fedmodel.update import Update
from fedmodel.wire import Failure
from server.collect import Collected
from server.ledger_memory import LedgerMemory
from server.own_ledger import OwnLedger
from tests.conftest import new_run
from tests.server.exchange.masked import COORDINATOR_KEYS
from tests.server.test_own_ledger import of_type

MODEL = "0" * 64
MEAN = Update(vector=np.ones(3, np.float32), weight=1.0, metrics={})


class Memory(LedgerMemory):
    """Knows of each node a head that names it."""

    def head(self, node: int) -> Any:
        return None if node == 4 else SimpleNamespace(size=node, root=f"{node:064x}")


def given(member: int, node: int) -> Given:
    return Given(member=member, entries=node, root=f"{node:064x}")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run")


def own(folder: RunFolder) -> OwnLedger:
    return OwnLedger.of(folder, COORDINATOR_KEYS, Memory())


@pytest.fixture
def ledger(folder: RunFolder) -> OwnLedger:
    """Return one in whose run three sites take part, at nodes that have other numbers."""
    made = own(folder)
    made.joined("", {3: 1, 4: 2, 9: 3}, {3: None, 4: None, 9: None}, excluded=())
    return made


def test_a_ledgers_head_is_of_the_node_and_the_number_is_the_members(
    folder: RunFolder, ledger: OwnLedger
) -> None:
    ledger.ended(2, MODEL, [9, 4, 3, 17], failed=False)
    (end,) = of_type(folder, EndEntry)
    assert end.told == (given(1, 3), Given(member=2), given(3, 9))


def test_a_process_that_goes_on_knows_who_took_part(folder: RunFolder, ledger: OwnLedger) -> None:
    """A round that was kept is finished before anybody joins again."""
    again = own(folder)
    failures = {9: Failure(reason="x")}
    again.result(2, Collected(mean=MEAN, givers=(3,), failures=failures), MODEL, stopped=False)
    (result,) = of_type(folder, ResultEntry)
    assert (result.given, result.failed) == ((given(1, 3),), (Failed(member=3, kind="away"),))


def test_a_result_says_who_is_in_the_sum_and_whether_it_was_the_last(
    folder: RunFolder, ledger: OwnLedger
) -> None:
    got = Collected(mean=MEAN, givers=(3,), absent=2, sha256s={3: "a" * 64, 77: "b" * 64})
    ledger.result(1, got, MODEL, stopped=False)
    ledger.result(2, Collected(givers=(3,), absent=2, reason="x"), MODEL, stopped=True)
    results = of_type(folder, ResultEntry)
    assert [(r.absent, len(r.given), bool(r.mean)) for r in results] == [
        (2, 1, True),
        (0, 0, False),
    ]
    assert [given.update for given in results[0].given] == ["a" * 64]
    assert [(r.finished, r.stopped) for r in results] == [(True, False), (True, True)]


def test_who_was_asked_to_evaluate_and_gave_nothing_gave_nothing(
    folder: RunFolder, ledger: OwnLedger
) -> None:
    ledger.asks("train", 2, MODEL, [3, 9])
    ledger.asks("evaluate", 2, MODEL, [4, 9, 3])
    counts = {node: Counts(values=(node, -1)) for node in (3, 4)}
    ledger.evaluated(2, MODEL, counts, {9: Failure(reason="x", budget=True)})
    asked = [(entry.kind, entry.members) for entry in of_type(folder, RoundEntry)]
    assert asked == [("train", (1, 3)), ("evaluate", (1, 2, 3))]
    (told,) = of_type(folder, EvaluationEntry)
    one, two = (counts[node].sha256 for node in (3, 4))
    assert told.given == (replace(given(1, 3), update=one), Given(member=2, update=two))
    assert told.failed == (Failed(member=3, kind="budget"),)


def test_why_is_a_kind_whatever_a_site_has_said(folder: RunFolder, ledger: OwnLedger) -> None:
    words = "the patient in bed 4"
    kinds: dict[FailedKind, Failure] = {
        "budget": Failure(reason=words, budget=True),
        "wrong": Failure(reason=words, wrong=True),
        "away": Failure(reason=words),
        "refused": Failure(reason=words, kind="UnapprovedError"),
        "failed": Failure(reason=words, kind="DivergedError"),
    }
    for failure in kinds.values():
        ledger.unfinished(1, Collected(failures={3: failure}, reason=words), MODEL)
    found = [entry.failed for entry in of_type(folder, ResultEntry)]
    assert found == [(Failed(member=1, kind=kind),) for kind in kinds]
    assert words.encode() not in folder.own_ledger.read_bytes()
