import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmodel import runs
from fedmodel.errors import RunFolderError
from fedmodel.runs import Checkpoint, RunFolder


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(
        round=number,
        parameters={"w": np.full(3, number, np.float32)},
        optimizer={},
        state={"best_loss": None, "stale": number},
    )


def test_a_checkpoint_comes_back_and_only_two_are_kept(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"job_sha256": "x"})
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
        folder = RunFolder.create(tmp_path / f"run-{allowed}", {})
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
    folder = RunFolder.create(tmp_path / "run", {})
    folder.save_checkpoint(checkpoint(1))
    weights = folder.path / "checkpoints" / "round-0001" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(RunFolderError, match=r"model\.safetensors"):
        folder.last_checkpoint()
    (folder.path / "metrics.jsonl").write_text('{"round": 1}\n{"rou')
    with pytest.raises(RunFolderError, match="line 2"):
        folder.metrics()
    (folder.path / "manifest.json").write_text("[]")
    with pytest.raises(RunFolderError, match="JSON object"):
        RunFolder.open(folder.path)


def test_a_folder_isnt_overwritten_and_a_strange_one_isnt_opened(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {})
    with pytest.raises(RunFolderError, match="resume=true"):
        RunFolder.create(tmp_path / "run", {})
    with pytest.raises(RunFolderError, match="is missing"):
        RunFolder.open(tmp_path)
    runs.write_atomic(tmp_path / "old" / "manifest.json", b'{"schema": "fedmodel.run/0"}')
    with pytest.raises(RunFolderError, match=r"fedmodel\.run/0"):
        RunFolder.open(tmp_path / "old")
