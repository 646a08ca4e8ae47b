"""Kill −9 at random points of a run, resume, compare with a run that was left alone."""

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fedmodel import cli
from fedmodel.accounting.claims import epsilon
from fedmodel.errors import ConfigError
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.secagg.agreement import Floors
from simulations import run as run_verb
from tests.conftest import new_run

KILLS = 10
_LIMIT = 120.0  # seconds: a guard against hanging, not a measurement

JOB = [
    "train=head",
    "data.rows=150",
    "data.test_rows=20",
    "federation.sites=3",
    "train.rounds=40",
    "train.batch_size=8",
    "aggregation=fedadam",
    "aggregation.lr=0.01",
    "train.head_lr=2",
    "train.momentum=0.5",
    "train.optimizer_state=keep",
]
# A process that has imported everything once and forks a process per run, so that a test with
# twenty runs doesn't import PyTorch twenty times. At every fsync of a folder a run pauses, so that
# kills meet every part of a round.
FORKS = """
import json, os, sys, time
import torch
torch.set_num_threads(1)
import simulations.run, clients.app, fedmodel.training.dpsgd, sklearn.metrics
from fedmodel import _files, cli
real = _files.sync_folder
def slow(folder):
    time.sleep(0.01)
    real(folder)
    time.sleep(0.01)
_files.sync_folder = slow
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.chdir(order["cwd"])
        out = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 70
        try:
            code = cli.main(order["args"])
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forks:
    """Starts runs as processes of their own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )

    def start(self, args: list[str], cwd: Path) -> int:
        """Start a run and return its process id; :meth:`wait` must follow."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        stdin.write(json.dumps({"args": ["simulate", *args], "cwd": str(cwd)}) + "\n")
        stdin.flush()
        return int(stdout.readline())

    def ended(self) -> bool:
        """Return whether the run has ended by itself."""
        stdout = self._process.stdout
        return stdout is not None and bool(select.select([stdout], [], [], 0)[0])

    def wait(self) -> int:
        """Wait for the run and return its exit code (negative: the signal that killed it)."""
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], _LIMIT)[0]:
            raise AssertionError("the run hangs")
        return int(stdout.readline())

    def finish(self, args: list[str], cwd: Path) -> None:
        """Run to the end."""
        self.start(args, cwd)
        assert self.wait() == 0, (cwd / "output").read_text()

    def close(self) -> None:
        """Stop the process that forks."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


def rounds_done(folder: Path) -> int:
    found = [int(p.name[6:]) for p in (folder / "checkpoints").glob("round-*")]
    return max(found, default=0)


def kill_somewhere(forks: Forks, args: list[str], folder: Path, chance: random.Random) -> bool:
    """Start (or resume) the run and kill it a random moment after its next round began."""
    before = rounds_done(folder)
    pid = forks.start(args, folder.parents[1])
    limit = time.monotonic() + _LIMIT
    while not forks.ended() and time.monotonic() < limit and rounds_done(folder) <= before:
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.25))
    if not forks.ended():
        os.kill(pid, signal.SIGKILL)
    return forks.wait() == -signal.SIGKILL


def killed_run(forks: Forks, cwd: Path, job: list[str], seed: int) -> tuple[Path, int]:
    folder = cwd / "runs" / "killed"
    chance = random.Random(seed)
    kills = 0
    args = [*job, "run=killed"]
    while kills < KILLS and kill_somewhere(forks, args, folder, chance):
        kills += 1
        if (folder / "manifest.json").exists():
            args = ["run=killed", "resume=true"]
    forks.finish(["run=killed", "resume=true"], cwd)
    return folder, kills


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


@pytest.mark.long
def test_without_privacy_a_killed_and_resumed_run_ends_bit_for_bit_the_same(
    forks: Forks, tmp_path: Path
) -> None:
    job = [*JOB, "privacy=none"]
    forks.finish([*job, "run=whole"], tmp_path)
    folder, kills = killed_run(forks, tmp_path, job, seed=1)
    assert kills >= KILLS
    whole = tmp_path / "runs" / "whole"
    one, other = (f / "model" / "trained.safetensors" for f in (whole, folder))
    assert one.read_bytes() == other.read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert summary(whole)["final"] == summary(folder)["final"]


def test_with_privacy_a_killed_run_never_reports_less_than_it_spent(
    forks: Forks, tmp_path: Path
) -> None:
    job = [*JOB, "privacy=record", "data.test_rows=0"]
    folder, kills = killed_run(forks, tmp_path, job, seed=2)
    assert kills >= KILLS
    told = summary(folder)
    for name, site in told["privacy"]["sites"].items():
        entries = Ledger(folder / "ledger" / f"{name}.jsonl").entries()
        found = [e for e in entries if isinstance(e, SpendEntry)]
        spends = [e.spend() for e in found]
        # Every attempt of every round is charged, and together they keep the promise.
        assert site["steps"] == sum(e.steps for e in found if e.round)
        # However often the coordinator came back, a site tells of its test rows once.
        assert [e.round for e in found].count(0) <= 1
        assert site["epsilon"] == pytest.approx(epsilon(spends, 1e-4))
        assert site["epsilon"] <= 8
    assert told["rounds"] <= 40
    if told["rounds"] < 40:
        assert "budgets are spent" in told["stopped"]
    assert told["released"]["sites"] + len(told["released"]["failures"]) == 3


def test_a_resume_that_would_change_the_job_is_refused(forks: Forks, tmp_path: Path) -> None:
    forks.finish(["debug=fast", "train=head", "privacy=none", "run=a"], tmp_path)
    (tmp_path / "runs" / "a" / "summary.json").unlink()
    forks.start(["run=a", "resume=true", "train.head_lr=4"], tmp_path)
    assert forks.wait() == 2
    assert "train.head_lr would change it" in (tmp_path / "output").read_text()
    forks.finish(["run=a", "resume=true"], tmp_path)


def test_a_resume_of_nothing_says_so(forks: Forks, tmp_path: Path) -> None:
    forks.start(["run=nothing", "resume=true"], tmp_path)
    assert forks.wait() == 1
    assert "is missing; is" in (tmp_path / "output").read_text()


def test_a_resume_compares_groups_without_what_a_machine_decides(tmp_path: Path) -> None:
    """The command that began a run, with ``resume=true`` and another physical batch, goes on."""
    args = ["debug=fast", "train=head", "privacy=record"]
    begun = cli.compose("simulate", args)
    folder = new_run(tmp_path / "run", config=begun)
    again = cli.compose("simulate", [*args, "train.physical_batch=4", "privacy.engine=hooks"])
    given = ["debug", "train", "privacy", "train.physical_batch", "privacy.engine"]
    _, scenario = run_verb._reopen(folder.path, again, given)
    assert scenario.proposal.performance.physical_batch == 4
    assert scenario.proposal.performance.engine == "hooks"
    for change, key in (("train.steps=3", "train"), ("privacy.epsilon=9", "privacy")):
        other = cli.compose("simulate", [*args, change])
        with pytest.raises(ConfigError, match=f"but {key} would change it"):
            run_verb._reopen(folder.path, other, ["train", "privacy"])


def test_a_run_that_the_sites_floors_refused_goes_on_by_the_settings_that_they_named(
    tmp_path: Path,
) -> None:
    begun = cli.compose("simulate", ["secagg=on"])
    folder = new_run(tmp_path / "run", config=begun)
    for floor in fields(Floors):
        again = cli.compose("simulate", ["secagg=on", f"floors.{floor.name}=7"])
        _, scenario = run_verb._reopen(folder.path, again, ["secagg", f"floors.{floor.name}"])
        assert getattr(scenario.homes.policy.floors, floor.name) == 7
