"""A finished run as a folder: what was trained, in the form that was asked for, with its card."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedmodel import export as verb
from fedmodel.audit.exports import ExportedFolder
from fedmodel.errors import ConfigError, MissingExtraError, RunFolderError
from fedmodel.export import export_run, main
from fedmodel.job import Job, Model, Train
from fedmodel.models import onnx
from fedmodel.report.particulars import Particulars
from fedmodel.runs import RunFolder, manifest_of
from fedmodel.training.learner import resident
from fedmodel.update import vector_sha256
from tests.fedmodel.report.conftest import PLAIN
from tests.jobs import CPU, real_job

SWING: list[dict[str, Any]] = [{"round": 1, "accuracy": 0.9}, {"round": 2, "accuracy": 0.6}]
MADE_UP = {"data": {"kind": "synthetic"}}
HEAD = real_job(model=Model(labels=("a", "b"), max_length=24), train=Train(method="head"))


def finished(path: Path, job: Job = HEAD, config: Mapping[str, Any] = MADE_UP) -> RunFolder:
    """Write the folder of a run that has ended with one number in place of every weight."""
    folder = RunFolder.create(path, manifest_of("r", job, configuration=config))
    folder.write_metrics(SWING)
    folder.write_summary(PLAIN)
    layout = resident(job, CPU).layout
    vector = torch.full((layout.total,), 0.125).numpy()
    folder.write_model(layout.named(vector))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return finished(tmp_path / "runs" / "r")


@pytest.mark.long
def test_what_the_run_has_trained_is_exported_with_a_card_of_that_run(
    run: RunFolder, tmp_path: Path
) -> None:
    logger = logging.getLogger("fedmodel.models")
    logger.setLevel(logging.INFO)
    try:
        to = export_run(run.path, tmp_path / "out")
        assert logger.level == logging.INFO
    finally:
        logger.setLevel(logging.NOTSET)
    trained = [w for n, w in load_file(to / "model.safetensors").items() if "classifier" in n]
    assert trained
    assert all((weight == 0.125).all() for weight in trained)
    card = (to / "README.md").read_text()
    assert "Clinical notes that fedmodel makes up" in card
    assert "fell by 30 points within the last 2 rounds" in card
    assert f"  year = {{{run.manifest.created[:4]}}},\n" in card
    assert "library_name: transformers" in card
    exported = ExportedFolder.open(to)
    assert exported.changed() is None
    assert (exported.origin.run, exported.origin.form) == (run.manifest.run, "merged")
    vector = np.concatenate([run.model()[name].ravel() for name in sorted(run.model())])
    assert exported.origin.parameters == vector_sha256(vector)


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "file", "library"),
    [
        ("adapter", "adapter_config.json", "peft"),
        ("sentence-transformers", "modules.json", "sentence-transformers"),
    ],
)
def test_the_folder_and_its_card_have_the_form_that_was_asked_for(
    tmp_path: Path, form: Any, file: str, library: str
) -> None:
    job = real_job(model=Model(labels=("a", "b"), max_length=24), train=Train(method="lora"))
    run = finished(tmp_path / "r", job, {})
    words = Particulars(data="Notes of nobody.", license="mit")
    to = export_run(run.path, tmp_path / "out", form, words)
    assert (to / file).is_file()
    card = (to / "README.md").read_text()
    assert f"library_name: {library}\n" in card
    assert "\nlicense: mit\n" in card
    assert "## Data\n\nNotes of nobody." in card


def test_what_is_said_of_made_up_rows_outranks_our_words_for_them(run: RunFolder) -> None:
    said = verb._described(run.manifest, Particulars(data="Mine.", license="mit"))
    assert said == Particulars(data="Mine.", license="mit")
    ours = verb._described(run.manifest, Particulars(authors="A"))
    assert ours == Particulars(data=verb._MADE_UP, authors="A")
    others: list[dict[str, Any]] = [{"data": {"kind": kind}} for kind in ("csv", "hub", None)]
    for config in (*others, {"data": None}, {}):
        manifest = replace(run.manifest, config=config)
        assert verb._described(manifest, Particulars()) == Particulars()


@pytest.mark.long
def test_onnx_is_refused_before_a_model_is_loaded(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> None:
        raise MissingExtraError("form=onnx", "onnx")

    monkeypatch.setattr(onnx, "check_installed", absent)
    monkeypatch.setattr("fedmodel.training.learner.resident", None)
    with pytest.raises(MissingExtraError):
        export_run(run.path, tmp_path / "out", "onnx")


def test_a_job_of_another_version_names_the_one_to_take(run: RunFolder, tmp_path: Path) -> None:
    path = run.path / "manifest.json"
    values = json.loads(path.read_text())
    values["job"]["format"] = "fedmodel.job/999"
    path.write_text(json.dumps(values | {"fedmodel": "7.8.9"}))
    with pytest.raises(RunFolderError, match=r"the version that trained it, fedmodel 7\.8\.9"):
        export_run(run.path, tmp_path / "out")


def test_an_unfinished_run_is_told_how_it_is_finished(run: RunFolder, tmp_path: Path) -> None:
    (run.path / "summary.json").unlink()
    with pytest.raises(RunFolderError, match=r"isn't finished; .* run=.*r resume=true"):
        export_run(run.path, tmp_path / "out")


def test_the_verb_hands_on_all_that_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def noted(*args: Any) -> Path:
        asked.extend(args)
        return Path(args[1])

    monkeypatch.setattr(verb, "export_run", noted)
    monkeypatch.setenv("HOME", str(tmp_path))
    one = {"run": "./r", "to": "~/out", "form": "onnx", "card": {"license": "mit"}}
    assert main(one) == 0
    assert asked[1:] == [tmp_path / "out", "onnx", Particulars(license="mit")]
    assert Path(asked[0]).name == "r"
    assert capsys.readouterr().out == f"exported to {tmp_path / 'out'}\n"
    for mapping, says in (
        (one | {"run": None}, "needs run="),
        (one | {"to": None}, "needs to="),
        (one | {"form": "gguf"}, "form='gguf' isn't a choice"),
    ):
        with pytest.raises(ConfigError, match=says):
            main(mapping)
