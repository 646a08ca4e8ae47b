"""What a crash at any system call leaves behind: never a spend that isn't counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
SLOW, SOAK = pytest.mark.slow, pytest.mark.soak


def lives(mode: str, times: int, seed: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fedmodel.ledger.ledger_lives", mode, str(times), str(seed)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kills", "part"),
    [(40, 0.06), pytest.param(150, 0.2, marks=SLOW), pytest.param(600, 0.9, marks=SOAK)],
)
def test_kills_between_and_within_system_calls(kills: int, part: float) -> None:
    # In turns: a thousand at random left out a quarter of the points before or after a call.
    found = lives("kill", kills, 1)
    assert found["killed"] >= kills
    assert found["reached"] > part * found["points"]


@pytest.mark.slow
@pytest.mark.long
def test_power_cuts_that_lose_what_was_not_synced() -> None:
    assert lives("cut", 100, 2)["cuts"] == 300


@pytest.mark.long
@pytest.mark.parametrize("times", [20, pytest.param(80, marks=SLOW)])
def test_a_disk_that_is_full_or_fails(times: int) -> None:
    assert lives("full", times, 3)["failed"] > 1.25 * times


@pytest.mark.long
@pytest.mark.parametrize("times", [2, pytest.param(8, marks=SLOW)])
def test_processes_that_race_for_the_last_of_a_budget(times: int) -> None:
    assert lives("race", times, 4)["races"] == 2 * times


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
@pytest.mark.parametrize(("mode", "times"), [("kill", 5000), ("cut", 1500), ("full", 1500)])
def test_many_more(mode: str, times: int, seed: int) -> None:
    lives(mode, times, seed)
