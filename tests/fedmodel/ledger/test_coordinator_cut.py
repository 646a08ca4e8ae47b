"""A coordinator's ledger after a power cut: what was noted, and what was told of it, is on disk."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fedmodel.cuts import NEVER, KilledAtSync, came_to_its_end
from tests.fedmodel.identity.killed import Killed
from tests.fedmodel.ledger.golden_coordinator import ENTRIES, coordinators
from tests.fedmodel.ledger.lives_cut import Disk

pytestmark = pytest.mark.long


def test_a_power_cut_at_any_call_loses_no_entry_that_was_noted(tmp_path: Path) -> None:
    call, whole = 1, False
    while not whole:
        for seed in range(2):
            folder, noted = tmp_path / f"{call}-{seed}", list[str]()
            folder.mkdir()

            def live(folder: Path = folder, noted: list[str] = noted) -> None:
                for entry in ENTRIES[:3]:
                    coordinators(folder / "run").note(entry)
                    noted.append(entry.type)

            disk = Disk(folder, call, random.Random(seed))
            whole = came_to_its_end(disk, live)
            disk.restart(zeros=False)
            ledger = coordinators(folder / "run")
            assert [entry.type for entry in ledger.entries()][1 : 1 + len(noted)] == noted
            ledger.note(ENTRIES[3])
        call += 1
    assert call > 20


def test_a_head_is_told_of_nothing_that_a_killed_process_has_not_synced(tmp_path: Path) -> None:
    for number in range(16):
        folder, told = tmp_path / str(number), list[int]()
        folder.mkdir()
        disk = KilledAtSync(folder, NEVER, random.Random(number))
        disk.syncs = 1 + number % 8

        def live(disk: KilledAtSync = disk, folder: Path = folder, told: list[int] = told) -> None:
            with suppress(Killed):
                for entry in ENTRIES[:3]:
                    coordinators(folder / "run").note(entry)
            disk.syncs = NEVER
            told.append(coordinators(folder / "run").head().size)

        assert came_to_its_end(disk, live)
        disk.restart(zeros=False)
        assert len(coordinators(folder / "run").entries()) >= told[0]
