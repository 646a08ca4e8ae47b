"""Whatever fails, each order is acted on once or never, each reply counts once, and runs end.

Random schedules on virtual time: messages come twice, late, in another order or not at all; streams
are cut; processes of sites and of the coordinator end between any two of their steps, and other
coordinators come up. In the end all is well again, and what was done is held against what must
hold.
"""

from collections import Counter
from pathlib import Path

import pytest

from tests.fedmodel.transport.toy_world import RIVALS, Rivals, World

BLOCK = 400  # schedules


@pytest.mark.parametrize("rivals", RIVALS)
@pytest.mark.long
def test_some_schedules(rivals: Rivals) -> None:
    for seed in range(40):
        World(seed, rivals, everybody=seed % 4 != 0).run()


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [0, *(pytest.param(number, marks=pytest.mark.soak) for number in range(1, 5))]
)
@pytest.mark.parametrize("rivals", RIVALS)
def test_ten_thousand_schedules_and_more(rivals: Rivals, block: int) -> None:
    for seed in range(1000 + block * BLOCK, 1000 + (block + 1) * BLOCK):
        World(seed, rivals, everybody=seed % 4 != 0).run()


@pytest.mark.long
def test_files_keep_what_memory_keeps(tmp_path: Path) -> None:
    for seed in range(6):
        World(seed, folder=tmp_path / str(seed)).run()


@pytest.mark.long
def test_the_schedules_reach_what_they_are_for() -> None:
    seen: Counter[str] = Counter()
    for rivals in RIVALS:
        for seed in range(12):
            seen.update(World(seed, rivals).run().watch.happened)
    verdicts = {"DO", "BUSY", "AGAIN", "refused", "full"}
    reasons = {"LATE", "AWAY", "ABSENT", "RESTARTED", "late or twice"}
    kills = {"site killed", "coordinator killed", "another coordinator", "rival"}
    assert set(seen) >= verdicts | reasons | kills, seen
