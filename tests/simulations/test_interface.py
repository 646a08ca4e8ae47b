"""The function that a notebook calls: the page's example, and that it is the command line's."""

import random
import re
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fedmodel
from fedmodel import cli
from fedmodel.cli.interface import FinishedRun, _set
from fedmodel.errors import ConfigError
from fedmodel.runs import RunFolder
from fedmodel.training import examples, learner
from tests.fedmodel.report.conftest import PLAIN

PAGE = Path(__file__).resolve().parents[2] / "docs/python.md"
SMALL: dict[str, Any] = {"debug": "fast", "train": "head"}
OF_NOTEBOOKS = ("debug=fast", "train.rounds=1", "privacy=none", "data.rows=160")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_key_outside_its_group_is_told_where_it_is() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'privacy\.epsilon'"):
        fedmodel.simulate(epsilon=3)
    with pytest.raises(ConfigError, match=r"data\.encoding .* choose one of them"):
        fedmodel.simulate(data={"train": "rows.csv", "encoding": "cp1252"})


def test_a_wrong_form_or_card_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    run = FinishedRun(RunFolder(tmp_path / "run"), PLAIN)
    form: Any = "gguf"
    with pytest.raises(ConfigError, match="form='gguf' isn't a choice; expected one of: merged"):
        run.export("model", form=form)
    with pytest.raises(ConfigError, match=r"unknown key 'card\.lic' .*did you mean 'license'"):
        run.export("model", card={"lic": "mit"})


@pytest.mark.long
def test_the_example_of_the_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    small = code.replace("fedmodel.simulate(", 'fedmodel.simulate("debug=fast", ')
    (tmp_path / "page.py").write_text(small)
    runpy.run_path(str(tmp_path / "page.py"))
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4  # nothing but what it prints itself: two rounds
    assert "site-1" in out[-1]
    assert (tmp_path / "notebook-model" / "config.json").exists()
    assert (tmp_path / "runs/notebook/summary.json").exists()


@pytest.mark.slow
def test_it_is_the_command_lines_run(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    values: dict[str, Any] = {"data": {"rows": 200, "test_rows": 50}, "seed": 3}
    run = fedmodel.simulate("privacy=none", **SMALL, **values, run="python")
    assert run.epsilon is None
    assert capsys.readouterr().out == ""
    keys = ["data.rows=200", "data.test_rows=50", "seed=3", "privacy=none"]
    assert cli.main(["simulate", "debug=fast", "train=head", *keys, "run=typed"]) == 0
    typed = RunFolder.open(Path("runs/typed"))
    assert typed.manifest.job_sha256 == run.folder.manifest.job_sha256
    for name, value in typed.model().items():
        assert (value == run.folder.model()[name]).all()
    assert "max_length" in caplog.text
    caplog.clear()
    classes, counts = run.confusion()
    assert not caplog.records  # what is to be said of the rows was
    assert counts.shape == (len(classes),) * 2
    assert counts.sum() == 50
    assert counts.trace() / 50 == pytest.approx(run.summary.final["accuracy"])
    assert [row["round"] for row in run.rounds] == [1, 2]
    assert set(run.sites) == {f"site-{n}" for n in range(1, 6)}


def _forget() -> None:
    """Let the next run make its network and features itself."""
    learner._resident.cache_clear()
    examples._kept.clear()


@pytest.fixture(scope="module")
def usual_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FinishedRun]:
    """Return what gives the run of a method where nothing is set: one for all that differ."""
    folder, found = tmp_path_factory.mktemp("usual"), dict[str, FinishedRun]()

    def run(train: str) -> FinishedRun:
        if train not in found:
            _forget()
            where = str(folder / train)
            found[train] = fedmodel.simulate(*OF_NOTEBOOKS, f"train={train}", run=where)
        return found[train]

    return run


@contextmanager
def _doubles() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("theirs", "train"),
    [
        (_doubles, "head"),
        (_doubles, "lora"),
        (torch.inference_mode, "lora"),
        (torch.no_grad, "lora"),
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), "lora"),
        (lambda: torch.device("meta"), "lora"),
    ],
    ids=["head", "doubles", "inference", "no gradients", "autocast", "device"],
)
def test_what_a_notebook_has_set_for_torch_is_its_own(
    theirs: Any, train: str, usual_run: Callable[[str], FinishedRun]
) -> None:
    """Each ended the run, some of them after a step that had been paid for."""

    def state() -> tuple[Any, ...]:
        return (
            torch.get_default_dtype(),
            torch.is_inference_mode_enabled(),
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_default_device(),
            torch.random.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # type: ignore[index]
            random.getstate(),
        )

    _forget()
    with theirs():
        before = state()
        run = fedmodel.simulate(*OF_NOTEBOOKS, f"train={train}", run="theirs")
        run.confusion()
        run.export("theirs")
        assert state() == before
    usual = usual_run(train)
    assert run.summary.final == usual.summary.final
    for name, value in usual.folder.model().items():
        assert (value == run.folder.model()[name]).all()


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("overrides", "values", "says"),
    [
        (["train=haed"], {}, "did you mean 'head'"),
        ([], {"train": "haed"}, "did you mean 'head'"),
        ([], {"privacy": {"epsilom": 3}}, "epsilom"),
        ([], {"trian": {"lr": 3}}, "trian"),
        ([], {"rnu": "x"}, "rnu"),
        ([], {"train": 3}, "train=3"),
        (["seed=1,2"], {}, "call simulate for each"),
        ([], {"train": {"rounds": 0}}, "train.rounds must be at least 1"),
        ([], {"seed": {"a": 1}}, "it is no group"),
        ([], {"train": {"lora": {"rank": 2}}, "privacy": "record"}, "train.lora.rank has no eff"),
        ([], {"aggregation": {"lr": 0.5}}, "aggregation.lr has no effect"),
        ([], {"aggregation.lr": 0.5}, "aggregation.lr has no effect"),
        ([], {"train.lora.rank": 2, "privacy": "record"}, "train.lora.rank has no eff"),
        ([], {"privacy.epsilom": 3}, "did you mean 'epsilon'"),
        ([], {"trian.lr": 3}, "trian"),
        ([], {"seed.a": 1}, "it is no group"),
    ],
)
def test_what_is_wrong_is_told_as_on_the_command_line(
    overrides: list[str], values: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        fedmodel.simulate("train=head", *overrides, **{"run": "x", **values})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sets_of_labels_have_no_confusion_matrix() -> None:
    task: dict[str, Any] = {"model": {"task": "multi-label-classification"}}
    run = fedmodel.simulate("privacy=none", "data.rows=200", **SMALL, **task, run="sets")
    with pytest.raises(ConfigError, match="any number of labels"):
        run.confusion()


def test_a_mapping_in_a_mapping_leaves_the_other_keys() -> None:
    mapping = {"train": {"lr": 1.0, "lora": {"rank": 4, "layers": [-1]}}}
    assert _set(mapping, "train", {"lora": {"rank": 2}}) == ["train.lora.rank"]
    assert mapping == {"train": {"lr": 1.0, "lora": {"rank": 2, "layers": [-1]}}}
