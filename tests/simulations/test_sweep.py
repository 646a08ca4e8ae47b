"""A sweep, with made-up summaries of its jobs."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmodel.errors import ConfigError, QuorumError
from fedmodel.runs import Summary
from simulations.sweep import _found, _Job, _spreads, sweep
from tests.fedmodel.report.conftest import PLAIN, RELEASED, private

FINALS = {
    2: {"accuracy": 0.5, "macro_f1": 0.25, "loss": 2.0},
    3: {"accuracy": 0.75, "macro_f1": 0.5, "loss": 1.0},
}


def made_up(asked: Mapping[str, Any], console: Console, given: Sequence[str]) -> Summary:
    del console, given
    assert asked["resume"] is False
    if asked["seed"] == 0:
        raise ConfigError("a key is wrong")
    if asked["seed"] == 1:
        raise QuorumError("too few sites: " + "none of them answered; " * 100)
    return replace(PLAIN, final=FINALS[asked["seed"]])


@pytest.mark.parametrize("seeds", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_a_sweep_tells_what_failed_and_ends_with_the_worst_code(
    tmp_path: Path, seeds: Sequence[int]
) -> None:
    console = Console(file=io.StringIO(), width=100)
    jobs = [{"seed": seed, "run": str(tmp_path / "s")} for seed in seeds]
    labels = [f"seed={seed}" for seed in seeds]
    assert sweep(jobs, labels, [[]] * 4, console, made_up) == 2
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "over seeds" in said
    told = json.loads((tmp_path / "s-sweep.json").read_text())
    assert {row["seed"]: row["failed"] for row in told["jobs"]} == {
        0: "failed: ConfigError",
        1: "failed: QuorumError",
        2: None,
        3: None,
    }
    reasons = {row["seed"]: row["reason"] for row in told["jobs"]}
    assert (reasons[0], reasons[2], reasons[3]) == ("a key is wrong", None, None)
    assert reasons[1].startswith("too few sites: none of them answered; none")
    assert reasons[1].endswith("…")
    assert len(reasons[1]) <= 500
    assert [row["run"] for row in told["jobs"]] == [str(tmp_path / f"s-00{i}") for i in range(4)]
    (spread,) = told["over_seeds"]
    assert (spread["job"], spread["runs"]) == ("", 2)
    assert spread["mean"] == {"accuracy": 0.625, "macro_f1": 0.375, "loss": 1.5}
    assert spread["sd"]["accuracy"] == pytest.approx(math.sqrt(2 * 0.125**2))


def test_where_nothing_came_to_its_end_there_are_no_means(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    jobs = [{"seed": seed, "run": str(tmp_path / "s")} for seed in (0, 1)]
    assert sweep(jobs, ["a=1 seed=0", "a=2 seed=1"], [[]] * 2, console, made_up) == 2
    assert json.loads((tmp_path / "s-sweep.json").read_text())["over_seeds"] == []


@pytest.mark.parametrize("key", ["seed", "+seed", "++seed"])
def test_jobs_that_differ_by_their_seed_are_told_however_it_is_written(key: str) -> None:
    labels = [f"privacy=none {key}=0", f"privacy=none {key}=1", f"privacy=none {key}=2"]
    found: list[Summary | str] = ["failed: SomeError"]
    found += [replace(PLAIN, final={"accuracy": x}) for x in (0.5, 0.7)]
    jobs = [_Job(label, Path(), None, came) for label, came in zip(labels, found, strict=True)]
    (spread,) = _spreads(jobs)
    assert (spread.label, spread.runs) == ("privacy=none", 2)
    assert spread.figures["accuracy"] == pytest.approx((0.6, 0.02**0.5))


def test_a_sweeps_table_keeps_what_was_released_and_that_nothing_was() -> None:
    assert _found(replace(private(), released=RELEASED))["released"] == {
        "accuracy": RELEASED.accuracy,
        "standard_error": RELEASED.standard_error,
    }
    assert _found(PLAIN)["released"] is None
