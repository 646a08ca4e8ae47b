"""Kill −9 at random points of a run, resume, compare with a run that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fedmodel.privacy import Ledger, epsilon

KILLS = 10
_LIMIT = 120.0  # seconds: a guard against hanging, not a measurement

JOB = [
    "train=head",
    "data.rows=300",
    "data.test_rows=60",
    "train.rounds=40",
    "train.batch_size=8",
    "aggregation=fedadam",
    "aggregation.lr=0.01",
    "train.head_lr=2",
    "train.momentum=0.5",
    "train.optimizer_state=keep",
]
# The run's own process, with a pause at every round so that a kill meets every part of one.
PROGRAM = """
import os, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
from fedmodel import cli
from fedmodel import runs
real = runs._sync_folder
def slow(folder):
    time.sleep(0.01)
    real(folder)
    time.sleep(0.01)
runs._sync_folder = slow
sys.exit(cli.main(sys.argv[1:]))
"""


def start(args: list[str], cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "simulate", *args],
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def finish(args: list[str], cwd: Path) -> None:
    process = start(args, cwd)
    _, error = process.communicate(timeout=_LIMIT)
    assert process.returncode == 0, error.decode()


def rounds_done(folder: Path) -> int:
    found = [int(p.name[6:]) for p in (folder / "checkpoints").glob("round-*")]
    return max(found, default=0)


def kill_somewhere(args: list[str], folder: Path, chance: random.Random) -> bool:
    """Start (or resume) the run and kill it a random moment after its next round began."""
    before = rounds_done(folder)
    process = start(args, folder.parents[1])
    limit = time.monotonic() + _LIMIT
    while process.poll() is None and time.monotonic() < limit:
        if rounds_done(folder) > before:
            break
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.25))
    killed = process.poll() is None
    if killed:
        process.send_signal(signal.SIGKILL)
    process.communicate(timeout=_LIMIT)
    return killed


def killed_run(cwd: Path, job: list[str], seed: int) -> tuple[Path, int]:
    folder = cwd / "runs" / "killed"
    chance = random.Random(seed)
    kills = 0
    args = [*job, "run=killed"]
    for _ in range(3 * KILLS):
        if kills == KILLS:
            break
        if (folder / "manifest.json").exists():
            args = ["run=killed", "resume=true"]
        if not kill_somewhere(args, folder, chance):
            break
        kills += 1
    finish(["run=killed", "resume=true"], cwd)
    return folder, kills


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


def test_without_privacy_a_killed_and_resumed_run_ends_bit_for_bit_the_same(
    tmp_path: Path,
) -> None:
    job = [*JOB, "privacy=none"]
    finish([*job, "run=whole"], tmp_path)
    folder, kills = killed_run(tmp_path, job, seed=1)
    assert kills >= KILLS
    whole = tmp_path / "runs" / "whole"
    one, other = (f / "model" / "trained.safetensors" for f in (whole, folder))
    assert one.read_bytes() == other.read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert summary(whole)["final"] == summary(folder)["final"]


def test_with_privacy_a_killed_run_never_reports_less_than_it_spent(tmp_path: Path) -> None:
    folder, kills = killed_run(tmp_path, [*JOB, "privacy=record"], seed=2)
    assert kills >= KILLS
    told = summary(folder)
    for name, site in told["privacy"]["sites"].items():
        ledger = Ledger(folder / "ledger" / f"{name}.jsonl")
        spends = ledger.spends()
        # Every attempt of every round is charged, and together they keep the promise.
        assert site["steps"] == sum(s.steps for s in spends)
        assert site["epsilon"] == pytest.approx(epsilon(spends, 1e-4))
        assert site["epsilon"] <= 8
    assert told["rounds"] <= 40
    if told["rounds"] < 40:
        assert "budgets are spent" in told["stopped"]


def test_a_resume_that_would_change_the_job_is_refused(tmp_path: Path) -> None:
    finish(["debug=fast", "train=head", "privacy=none", "run=a"], tmp_path)
    (tmp_path / "runs" / "a" / "summary.json").unlink()
    process = start(["run=a", "resume=true", "train.head_lr=3"], tmp_path)
    _, error = process.communicate(timeout=_LIMIT)
    assert process.returncode == 2
    assert b"train.head_lr would change it" in error
    finish(["run=a", "resume=true"], tmp_path)


def test_a_resume_of_nothing_says_so(tmp_path: Path) -> None:
    process = start(["run=nothing", "resume=true"], tmp_path)
    _, error = process.communicate(timeout=_LIMIT)
    assert process.returncode == 1
    assert b"is missing; is" in error
