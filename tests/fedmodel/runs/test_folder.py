import contextlib
import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmodel import runs
from fedmodel.errors import RunFolderError, exit_code
from fedmodel.job import Job
from fedmodel.runs import Checkpoint, RunFolder, manifest_of
from tests.conftest import new_run
from tests.jobs import make_job


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(
        round=number,
        parameters={"w": np.full(3, number, np.float32)},
        optimizer={},
        state={"best_loss": None, "stale": number},
    )


def test_a_checkpoint_comes_back_and_only_two_are_kept(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    assert folder.last_checkpoint() is None
    for number in (1, 2, 3, 10):
        folder.save_checkpoint(checkpoint(number))
    last = folder.last_checkpoint()
    assert last is not None
    assert (last.round, last.state) == (10, {"best_loss": None, "stale": 10})
    np.testing.assert_array_equal(last.parameters["w"], np.full(3, 10, np.float32))
    assert sorted(p.name for p in (folder.path / "checkpoints").iterdir()) == [
        "round-0003",
        "round-0010",
    ]


def test_a_failure_at_any_file_operation_leaves_the_old_checkpoint_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: dict[str, Any] = {"replace": os.replace, "fsync": os.fsync}
    state: dict[str, int] = {}

    def limited(name: str) -> Any:
        def call(*args: Any) -> Any:
            if state["left"] == 0:
                raise OSError(28, "No space left on device")
            state["left"] -= 1
            return real[name](*args)

        return call

    for name in real:
        monkeypatch.setattr(os, name, limited(name))
    reached = set()
    for allowed in range(12):
        state["left"] = 1000
        folder = new_run(tmp_path / f"run-{allowed}")
        folder.save_checkpoint(checkpoint(1))
        state["left"] = allowed
        with contextlib.suppress(RunFolderError):
            folder.save_checkpoint(checkpoint(2))
        last = folder.last_checkpoint()
        assert last is not None
        assert last.parameters["w"][0] == last.round
        reached.add(last.round)
    assert reached == {1, 2}


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    folder.save_checkpoint(checkpoint(1))
    weights = folder.path / "checkpoints" / "round-0001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(RunFolderError, match=r"model\.safetensors"):
        folder.last_checkpoint()
    (folder.path / "manifest.json").write_text("[]")
    with pytest.raises(RunFolderError, match="JSON object"):
        RunFolder.open(folder.path)


@pytest.mark.parametrize(
    "line", ['{"rou', "[1]", '{"loss": 1.0}', '{"round": "2"}', '{"round": 2, "loss": NaN}', "\xff"]
)
def test_a_damaged_line_of_metrics_is_named(tmp_path: Path, line: str) -> None:
    folder = RunFolder(tmp_path)
    assert folder.metrics() == []
    folder.write_metrics([{"round": 1, "loss": 0.5}])
    assert folder.metrics() == [{"round": 1, "loss": 0.5}]
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line.encode("latin-1"))
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl line 2.*restore it"):
        folder.metrics()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"round": 2}', '{"round": "1"}', '{"round": 1.0}']
)
def test_a_checkpoint_of_another_round_than_its_folder_is_refused(
    tmp_path: Path, text: str
) -> None:
    folder = new_run(tmp_path / "run")
    folder.save_checkpoint(checkpoint(1))
    (folder.path / "checkpoints" / "round-0001" / "state.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"round-0001/state\.json"):
        folder.last_checkpoint()


def test_a_stray_folder_among_the_checkpoints_is_passed_over(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    folder.save_checkpoint(checkpoint(1))
    (folder.path / "checkpoints" / "round-1 (copy)").mkdir()
    last = folder.last_checkpoint()
    assert last is not None
    assert last.round == 1


def test_a_folder_isnt_overwritten_and_a_strange_one_isnt_opened(tmp_path: Path) -> None:
    new_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="resume=true"):
        new_run(tmp_path / "run")
    (tmp_path / "run" / "summary.json").touch()  # a resume would do nothing
    with pytest.raises(RunFolderError, match=r"finished; choose another run=NAME$"):
        new_run(tmp_path / "run")
    with pytest.raises(RunFolderError, match="is missing"):
        RunFolder.open(tmp_path)
    runs.write_atomic(tmp_path / "old" / "manifest.json", b'{"schema": "fedmodel.run/0"}')
    with pytest.raises(RunFolderError, match=r"fedmodel\.run/0"):
        RunFolder.open(tmp_path / "old")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema", "fedmodel.run/2", r"'fedmodel\.run/2'.*'fedmodel\.run/1'"),
        ("run", 7, "run must be text"),
        ("packages", {"torch": 2}, r"packages\.torch must be text"),
        ("machine", {"cpus": 2}, r"missing key 'machine\.platform'"),
        ("job_sha256", "0F" * 32, "job_sha256 must be 64 digits"),
        ("rows_sha256", "ab", "rows_sha256 must be 64 digits"),
        ("job", [], "job must be a mapping"),
        ("cofnig", {}, r"unknown key 'cofnig' \(did you mean 'config'\?\)"),
    ],
)
def test_another_manifest_is_one_clear_error(
    tmp_path: Path, key: str, value: Any, says: str
) -> None:
    folder = new_run(tmp_path / "run")
    manifest = {**folder.manifest.to_mapping(), key: value}
    (folder.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunFolderError, match=rf"manifest\.json.*{says}"):
        RunFolder.open(folder.path)


def test_a_manifest_says_what_a_run_is(tmp_path: Path) -> None:
    job = make_job(seed=3)
    manifest = manifest_of("demo", job, rows_sha256="a" * 64, configuration={"seed": 3})
    again = manifest_of("demo", job)
    folder = RunFolder.create(tmp_path / "demo", manifest)
    opened = RunFolder.open(tmp_path / "demo")
    assert opened.manifest == folder.manifest == manifest
    assert opened.run == manifest.run
    assert re.fullmatch("demo-[0-9a-f]{8}", manifest.run)
    assert again.run != manifest.run
    assert (again.rows_sha256, again.config) == (None, {})
    assert manifest.job_sha256 == job.sha256
    assert Job.from_mapping(dict(manifest.job)) == job
    assert manifest.fedmodel == version("fedmodel")
    assert manifest.packages["torch"] == version("torch")


def test_what_a_kill_during_the_first_write_leaves_is_no_run(tmp_path: Path) -> None:
    for name in (".manifest.json.1.tmp", ".lock"):
        (tmp_path / name).write_text("{")
    RunFolder.check_new(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunFolderError):
        RunFolder.check_new(tmp_path)


def test_a_folder_that_isnt_there_or_is_there_already_is_wrong_input(tmp_path: Path) -> None:
    """And one that can't be read isn't: it is damaged, whatever the caller names."""
    with pytest.raises(RunFolderError, match="there is no run") as raised:
        RunFolder.open(tmp_path / "demo")
    codes = [exit_code(raised.value)]
    RunFolder.create(tmp_path / "demo", manifest_of("demo", make_job()))
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    for taken in ("demo", "file", "full"):
        with pytest.raises(RunFolderError, match="choose another run=NAME") as raised:
            RunFolder.check_new(tmp_path / taken)
        codes.append(exit_code(raised.value))
    assert codes == [2, 2, 2, 2]
    (tmp_path / "demo" / "manifest.json").write_text("{")
    for damaged in ("demo", "full"):
        with pytest.raises(RunFolderError) as raised:
            RunFolder.open(tmp_path / damaged)
        assert exit_code(raised.value) == 1
