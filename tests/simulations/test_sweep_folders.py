"""Where a sweep's jobs lie, with a stand-in for the simulation."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.runs import RunFolder, Summary
from simulations.sweep import sweep
from tests.conftest import new_run
from tests.fedmodel.report.conftest import PLAIN


class Bench:
    """Sweeps of one name, and the jobs that were really run, by their folders."""

    def __init__(self, folder: Path) -> None:
        self._name = str(folder / "s")
        self.table = folder / "s-sweep.json"
        self.ran: dict[str, Any] = {}

    def __call__(self, *jobs: dict[str, Any]) -> int:
        self.ran = {}
        mappings = [{"run": self._name, "resume": False, **job} for job in jobs]
        labels = [" ".join(f"{k}={v}" for k, v in job.items()) for job in jobs]
        return sweep(mappings, labels, [[]] * len(jobs), Console(file=io.StringIO()), self._run)

    def _run(self, mapping: dict[str, Any], _: Console, __: Sequence[str]) -> Summary:
        path = Path(mapping["run"])
        if mapping["resume"]:
            found = RunFolder.open(path).manifest.config
            if {**found, "run": "", "resume": ""} != {**mapping, "run": "", "resume": ""}:
                raise RunFolderError("another job")
            if (summary := RunFolder(path).summary()) is not None:
                return summary
        else:
            new_run(path, config=mapping)
        self.ran[path.name] = mapping.get("seed")
        RunFolder(path).write_summary(PLAIN)
        return PLAIN

    def places(self) -> list[str]:
        return [Path(job["run"]).name for job in json.loads(self.table.read_text())["jobs"]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_sweep_of_more_values_runs_only_those_that_are_new(bench: Bench) -> None:
    """Its numbers are others then: a job that has spent its ε would be run again beside itself."""
    jobs = [{"clip": clip, "seed": seed} for clip in (1, 2) for seed in (0, 1)]
    assert bench(*jobs) == 0
    assert list(bench.ran) == bench.places() == ["s-000", "s-001", "s-002", "s-003"]
    more = [{"clip": clip, "seed": seed} for clip in (1, 2) for seed in (0, 1, 2)]
    assert bench(*more) == 0
    assert bench.ran == {"s-006": 2, "s-005": 2}
    assert bench.places() == ["s-000", "s-001", "s-006", "s-002", "s-003", "s-005"]
    assert bench(*more) == 0
    assert bench.ran == {}
    assert bench(*reversed(jobs)) == 0
    assert bench.ran == {}
    assert bench.places() == ["s-003", "s-002", "s-001", "s-000"]


def test_a_folder_of_another_job_is_left_as_it_is(bench: Bench) -> None:
    assert bench({"seed": 0}) == 0
    assert bench({"seed": 7}) == 0
    assert bench.ran == {"s-001": 7}
    # resume=true is of the run of that number, and that is another's.
    assert bench({"seed": 8, "resume": True}) != 0
    assert bench.ran == {}


def test_a_job_that_stands_there_twice_is_run_twice_and_once_only(bench: Bench) -> None:
    for ran in ({"s-000": 0, "s-001": 0}, {}):
        assert bench({"seed": 0}, {"seed": 0}) == 0
        assert bench.ran == ran


def test_a_sweep_has_one_name(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one run=NAME"):
        bench({"run": str(tmp_path / "a")}, {"run": str(tmp_path / "b")})


@pytest.mark.parametrize("manifest", [None, "", "{", '{"schema": "fedmodel.run/999"}'])
@pytest.mark.parametrize("finished", [True, False])
def test_of_a_folder_that_cant_be_read_nobody_is_told_to_go_on_with_it(
    bench: Bench, tmp_path: Path, manifest: str | None, finished: bool
) -> None:
    """It may have spent its ε, so nothing is run again in its stead; the others are."""
    assert bench({"seed": 0}, {"seed": 1}) == 0
    path = tmp_path / "s-000"
    (path / "manifest.json").unlink()
    if manifest is not None:
        (path / "manifest.json").write_text(manifest)
    if not finished:
        (path / "summary.json").unlink()
        (path / "metrics.jsonl").write_text("")
    left = {file.name: file.read_bytes() for file in path.iterdir()}
    assert bench({"seed": 0}, {"seed": 1}, {"seed": 2}) != 0
    assert bench.ran == {"s-002": 2}
    first, *others = json.loads(bench.table.read_text())["jobs"]
    assert first["failed"] == "failed: RunNameError"
    assert "move that folder away" in first["reason"]
    assert "manifest.json" in first["reason"]
    assert "resume=true" not in first["reason"]
    assert [job["failed"] for job in others] == [None, None]
    assert {file.name: file.read_bytes() for file in path.iterdir()} == left
