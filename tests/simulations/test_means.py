"""Runs of a head that starts from means, through everything: ledgers, verification, export."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedmodel import cli
from fedmodel.job import Job
from fedmodel.runs import RunFolder

pytestmark = pytest.mark.long

SMALL = (
    *("train=head", "device=cpu", "model.max_length=24", "data.rows=300", "data.test_rows=40"),
    *("federation.sites=3", "train.rounds=5", "data.style=templated"),
)
FIVE = ("federation.sites=5",)
KINDS: dict[str, tuple[str, ...]] = {
    "none": ("privacy=none",),
    "record": ("privacy=record", "privacy.epsilon=4"),
    "distributed": ("privacy=distributed", "privacy.epsilon=4", *FIVE),
    "patient": ("privacy=patient", "privacy.epsilon=4", "privacy.adjacency=replace"),
    "summed": ("privacy=record", "secagg=on", *FIVE),
    "sealed": ("privacy=record", "secagg=seal", "train.rounds=2"),
    "one": ("privacy=distributed", "train.rounds=1", *FIVE),
    "none, seal": ("privacy=none", "secagg=seal", "train.rounds=3"),
}


def simulate(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> RunFolder:
    monkeypatch.chdir(folder)
    assert cli.main(["simulate", *SMALL, *words, "run=means"]) == 0
    return RunFolder.open(folder / "runs" / "means")


def job_of(run: RunFolder) -> Job:
    return Job.read(json.loads((run.path / "manifest.json").read_text())["job"])


@pytest.mark.sample(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_starts_from_means_and_nothing_of_it_is_refuted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulate(tmp_path, monkeypatch, *KINDS[kind])
    job = job_of(run)
    assert job.train.start == "means"
    assert job.model.head_bias
    assert len(run.metrics()) == job.train.rounds
    capsys.readouterr()
    assert cli.main(["verify", "run=runs/means"]) == 0, capsys.readouterr().out
    if job.privacy.private:
        summary = json.loads((run.path / "summary.json").read_text())
        assert summary["privacy"]["epsilon"] <= job.privacy.epsilon * (1 + 1e-6)
        ledger = next(run.path.glob("ledger/*.jsonl")).read_text()
        lines = [json.loads(line) for line in ledger.splitlines()]
        spent = {e["round"]: float(e["noise_multiplier"]) for e in lines if e["type"] == "spend"}
        assert len({*spent.values()}) == min(job.train.rounds, 3)


def test_what_is_exported_is_one_plain_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = simulate(tmp_path, monkeypatch, *KINDS["record"])
    assert cli.main(["export", "run=runs/means", "to=out"]) == 0
    kwargs: dict[str, Any] = {"trust_remote_code": True}
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", **kwargs).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert type(model.classifier) is torch.nn.Linear
    texts = ["Chest pain: severe.", "Cough: mild. Chills: none."]
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=24)
    with torch.inference_mode():
        found = model(**batch).logits.numpy()
        features = model.features(batch["input_ids"], batch["attention_mask"]).numpy()
    parts = {n: p for n, p in run.model().items() if "classifier" in n}
    (weight,) = (p for n, p in parts.items() if n.endswith("weight"))
    (bias,) = (p for n, p in parts.items() if n.endswith("bias"))
    np.testing.assert_allclose(found, features @ weight.T + bias, atol=1e-4)


def test_a_run_that_is_continued_ends_where_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is known besides the head is in the checkpoint, or the steps would be others."""
    from server.progress import Progress

    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = simulate(tmp_path / "whole", monkeypatch, *KINDS["none"]).last_checkpoint()
    finish = Progress.finish

    def dies(self: Progress, *args: Any) -> None:
        finish(self, *args)
        if self.round == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "finish", dies)
        patch.chdir(tmp_path / "cut")
        assert cli.main(["simulate", *SMALL, *KINDS["none"], "run=means"]) == 130
    cut = simulate(tmp_path / "cut", monkeypatch, *KINDS["none"], "resume=true").last_checkpoint()
    assert whole is not None
    assert cut is not None
    assert whole.parameters.keys() == cut.parameters.keys()
    for name, value in whole.parameters.items():
        np.testing.assert_array_equal(value, cut.parameters[name])


def test_where_it_can_not_start_from_means_it_starts_from_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = simulate(tmp_path, monkeypatch, "privacy=record", "privacy.clipping=adaptive")
    assert job_of(run).train.start == "zero"
    assert "start" not in json.loads((run.path / "manifest.json").read_text())["job"]["train"]
    asked = ["privacy=record", "privacy.clipping=adaptive", "train.start=means", "run=other"]
    capsys.readouterr()
    assert cli.main(["simulate", *SMALL, *asked]) == 2
    assert "train.start=means needs privacy.clipping=flat" in capsys.readouterr().err


def test_a_head_that_was_trained_before_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(tmp_path, monkeypatch, "privacy=none", "train.start=zero")
    assert cli.main(["export", "run=runs/means", "to=out"]) == 0
    assert cli.main(["simulate", *SMALL, "privacy=none", "model.path=out", "run=on"]) == 0
    assert job_of(RunFolder.open(tmp_path / "runs" / "on")).train.start == "zero"


def test_the_pages_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).resolve().parents[2] / "docs/heads.md"
    commands = re.findall(r"^fedmodel (simulate .+)$", page.read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert cli.main([*shlex.split(command), "data.rows=300", "data.test_rows=40"]) == 0
    starts = [job_of(RunFolder.open(path)).train.start for path in sorted(Path("runs").iterdir())]
    assert starts == ["means", "means", "zero"]  # look, templated, zero
