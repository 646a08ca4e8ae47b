"""Kill −9 at random points of a run, resume, compare with a run that was left alone."""

import json
import random
import signal
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fedmodel import _files, cli
from fedmodel.accounting.claims import epsilon
from fedmodel.errors import ConfigError
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.secagg.agreement import Floors
from simulations import run as run_verb
from tests.conftest import new_run
from tests.forks import Child, Forks

pytestmark = pytest.mark.long

# The more kills, the more parts of a round they meet; each costs all that starting a run costs.
KILLS = [
    1,
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(12, marks=[pytest.mark.slow, pytest.mark.soak]),
]
_LIMIT = 120.0  # seconds: a guard against hanging, not a measurement

JOB = [
    "train=head",
    "data.rows=150",
    "model.max_length=16",
    "data.test_rows=20",
    "federation.sites=3",
    "train.batch_size=8",
    "aggregation=fedadam",
    "aggregation.lr=0.01",
    "train.head_lr=2",
    "train.momentum=0.5",
    "train.optimizer_state=keep",
]


def slow_main(args: list[str]) -> int:
    """Run a verb; it pauses at every fsync of a folder, so that kills meet every part of a round.

    Runs in a process of its own.
    """
    real = _files.sync_folder

    def slow(folder: Path) -> None:
        time.sleep(0.01)
        real(folder)
        time.sleep(0.01)

    _files.sync_folder = slow
    return cli.main(args)


def start(forks: Forks, args: list[str], cwd: Path) -> Child:
    call = f"{__name__}:{slow_main.__name__}"
    return forks.start(call, [["simulate", *args]], cwd, cwd / "output")


def ran(forks: Forks, args: list[str], cwd: Path) -> int:
    """Run to the end, whatever end that is, and return its exit code."""
    child = start(forks, args, cwd)
    try:
        return child.wait()
    finally:
        child.close()


def finish(forks: Forks, args: list[str], cwd: Path) -> None:
    assert ran(forks, args, cwd) == 0, (cwd / "output").read_text()


def rounds_for(kills: int) -> int:
    """Return so many rounds that some are left after so many kills: a few pass between two."""
    return 4 + 4 * kills


def rounds_done(folder: Path) -> int:
    found = [int(p.name[6:]) for p in (folder / "checkpoints").glob("round-*")]
    return max(found, default=0)


def kill_somewhere(forks: Forks, args: list[str], folder: Path, chance: random.Random) -> bool:
    """Start (or resume) the run and kill it a random moment after its next round began."""
    before = rounds_done(folder)
    child = start(forks, args, folder.parents[1])
    limit = time.monotonic() + _LIMIT
    while not child.ended() and time.monotonic() < limit and rounds_done(folder) <= before:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.25))
    child.close()
    return child.wait() == -signal.SIGKILL


def killed_run(forks: Forks, cwd: Path, job: list[str], wanted: int) -> Path:
    folder = cwd / "runs" / "killed"
    chance = random.Random(wanted)
    kills = 0
    args = [*job, "run=killed"]
    while kills < wanted and kill_somewhere(forks, args, folder, chance):
        kills += 1
        if (folder / "manifest.json").exists():
            args = ["run=killed", "resume=true"]
    finish(forks, ["run=killed", "resume=true"], cwd)
    assert kills == wanted
    return folder


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "summary.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 2, pytest.param(12, marks=pytest.mark.soak)])
def test_without_privacy_a_killed_and_resumed_run_ends_bit_for_bit_the_same(
    forks: Forks, tmp_path: Path, kills: int
) -> None:
    job = [*JOB, "privacy=none", f"train.rounds={rounds_for(kills)}"]
    finish(forks, [*job, "run=whole"], tmp_path)
    folder = killed_run(forks, tmp_path, job, kills)
    whole = tmp_path / "runs" / "whole"
    one, other = (f / "model" / "trained.safetensors" for f in (whole, folder))
    assert one.read_bytes() == other.read_bytes()
    assert (whole / "metrics.jsonl").read_text() == (folder / "metrics.jsonl").read_text()
    assert summary(whole)["final"] == summary(folder)["final"]


@pytest.mark.long
@pytest.mark.parametrize("kills", KILLS)
def test_with_privacy_a_killed_run_never_reports_less_than_it_spent(
    forks: Forks, tmp_path: Path, kills: int
) -> None:
    rounds = rounds_for(kills)
    job = [*JOB, "privacy=record", "data.test_rows=0", f"train.rounds={rounds}"]
    folder = killed_run(forks, tmp_path, job, kills)
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
    assert told["rounds"] <= rounds
    if told["rounds"] < rounds:
        assert "budgets are spent" in told["stopped"]
    assert told["released"]["sites"] + len(told["released"]["failures"]) == 3


@pytest.mark.slow
def test_a_resume_that_would_change_the_job_is_refused(forks: Forks, tmp_path: Path) -> None:
    finish(forks, ["debug=fast", "train=head", "privacy=none", "run=a"], tmp_path)
    (tmp_path / "runs" / "a" / "summary.json").unlink()
    assert ran(forks, ["run=a", "resume=true", "train.head_lr=4"], tmp_path) == 2
    assert "train.head_lr would change it" in (tmp_path / "output").read_text()
    finish(forks, ["run=a", "resume=true"], tmp_path)


def test_a_resume_of_nothing_says_so(forks: Forks, tmp_path: Path) -> None:
    assert ran(forks, ["run=nothing", "resume=true"], tmp_path) == 2
    assert "there is no run" in (tmp_path / "output").read_text()


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
    # So do the site's limits: who allows more now goes on.
    again = cli.compose("simulate", ["secagg=on", "policy.rounds=7", "policy.train=[head]"])
    given = ["secagg", "policy.rounds", "policy.train"]
    limits = run_verb._reopen(folder.path, again, given)[1].homes.policy.limits
    assert (limits.rounds, limits.train) == (7, ("head",))
