"""A coordinator's life with fixed keys and clock: it has written ``coordinator_v2.jsonl``."""

from pathlib import Path

from fedmodel.identity import SigningKey
from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    CoordinatorEntry,
    EndEntry,
    EvaluationEntry,
    Failed,
    Given,
    JoiningEntry,
    ResultEntry,
    RoundEntry,
    StartEntry,
    UnmaskEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger, CoordinatorOwner
from tests.fedmodel.ledger.golden_life import Clock, Fixed

__all__ = ["ENTRIES", "RUN", "coordinators"]

RUN = "letters-0123abcd"
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64
NORTH, SOUTH = Given(member=1, entries=4, root="a" * 64, update=ONE), Given(member=2)
TOLD = Given(member=1, entries=5, root="b" * 64)
JOB = {"format": "fedmodel.job/2", "train": {"rounds": 2, "lr": 0.1}, "labels": ["æ", "b"]}
ENTRIES: tuple[CoordinatorEntry, ...] = (
    StartEntry(
        job=JOB,
        job_sha256=ONE,
        roster=TWO,
        members={"1": "north", "2": "south", "3": "west"},
        round=0,
        model=THREE,
        code="fedmodel 0.2.0 " + "5" * 64,
        packages={"torch": "2.13.0"},
    ),
    JoiningEntry(joining=ONE, nodes={"2": 1, "3": 2}, failed=(Failed(member=3, kind="refused"),)),
    RoundEntry(kind="train", round=1, model=THREE, members=(1, 2)),
    AttemptEntry(round=1, attempt=1, manifest={"round": 1, "cohort": [1, 2]}, digest=TWO),
    UnmaskEntry(
        round=1,
        attempt=1,
        digest=TWO,
        takers=(1, 2),
        survivors=(1, 2),
        vectors={"1": ONE, "2": TWO},
        consents={"1": "c" * 128, "2": "d" * 128},
    ),
    ResultEntry(
        round=1,
        given=(NORTH, SOUTH),
        absent=0,
        failed=(),
        mean=TWO,
        model=ONE,
        finished=True,
        stopped=False,
    ),
    RoundEntry(kind="train", round=2, model=ONE, members=(1, 2)),
    ResultEntry(
        round=2,
        given=(),
        absent=0,
        failed=(Failed(member=1, kind="budget"), Failed(member=2, kind="away")),
        mean="",
        model=ONE,
        finished=False,
        stopped=False,
    ),
    RoundEntry(kind="evaluate", round=1, model=ONE, members=(1, 2)),
    EvaluationEntry(round=1, model=ONE, given=(NORTH,), failed=(Failed(member=2, kind="wrong"),)),
    EndEntry(failed=False, round=1, model=ONE, told=(TOLD, SOUTH)),
)


def coordinators(folder: Path, seed: int = 1) -> CoordinatorLedger:
    """Return the ledger in a folder, of the coordinator of a seed."""
    signer = SigningKey(bytes([seed]) * 32)
    owner = CoordinatorOwner(signer=signer, head=folder / "coordinator-head.json", run=RUN)
    return CoordinatorLedger(
        folder / "coordinator.jsonl", owner, entropy=Fixed("golden"), clock=Clock()
    )
