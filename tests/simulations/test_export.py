"""The verb ``export``: a run's model, loaded with plain transformers and peft."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from fedmodel import cli
from fedmodel._text import show_epsilon
from fedmodel.errors import RunFolderError
from fedmodel.export import export_run
from fedmodel.job import Job
from fedmodel.runs import RunFolder
from fedmodel.training import learner
from fedmodel.training.learner import resident
from simulations.run import simulate
from tests.checkpoints import write_checkpoint
from tests.conftest import new_run
from tests.fedmodel.training.families import CONFIGS
from tests.jobs import CPU

TEXTS = ["Chest pain since yesterday.", "Cough and fever, no pain at all."]


def trained(tmp_path: Path, *overrides: str) -> tuple[Path, torch.Tensor]:
    folder = tmp_path / "run"
    args = ["debug=fast", "data.rows=160", "data.test_rows=40", *overrides, f"run='{folder}'"]
    simulate(cli.compose("simulate", args), Console(file=io.StringIO()))
    opened = RunFolder.open(folder)
    made = resident(Job.from_mapping(dict(opened.manifest.job)), CPU)
    made.load_vector(made.layout.from_named(opened.model()))
    made.module.eval()
    batch = made.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = made.module(**batch).logits
    return folder, logits


def logits_of(model: Any, folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
        return model.eval()(**batch).logits  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_merged_export_gives_the_same_logits(tmp_path: Path, pooling: str) -> None:
    folder, expected = trained(tmp_path, "train=ffa", "privacy=none", f"model.pooling={pooling}")
    to = export_run(folder, tmp_path / "out")
    assert (to / "modeling_fedmodel.py").exists() == (pooling == "mean")
    model = AutoModelForSequenceClassification.from_pretrained(
        to, trust_remote_code=pooling == "mean"
    )
    torch.testing.assert_close(logits_of(model, to), expected, atol=1e-5, rtol=1e-4)
    assert set(model.config.label2id) == set(RunFolder.open(folder).manifest.job["model"]["labels"])
    assert not list(to.glob("adapter*"))  # transformers would put it on top of the merged weights


@pytest.mark.slow
@pytest.mark.long
def test_an_adapter_export_gives_the_same_logits(tmp_path: Path) -> None:
    folder, expected = trained(tmp_path, "train=lora", "privacy=none")
    to = export_run(folder, tmp_path / "out", form="adapter")
    assert "PeftModel" not in (to / "README.md").read_text()  # its base model lies beside it
    model = AutoModelForSequenceClassification.from_pretrained(to, trust_remote_code=True)
    torch.testing.assert_close(logits_of(model, to), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.long
def test_the_card_tells_the_privacy_that_was_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = trained(tmp_path, "train=head", "privacy.epsilon=2")
    to = tmp_path / "out"
    words = ["card.data=Notes: of 'nobody', 2020", "card.license=mit", "card.authors=A, B"]
    assert cli.main(["export", f"run='{folder}'", f"to='{to}'", *words]) == 0
    assert "exported to" in capsys.readouterr().out
    summary = RunFolder.open(folder).summary()
    assert summary is not None
    assert summary.privacy.epsilon is not None
    card = (to / "README.md").read_text()
    assert f"| {show_epsilon(summary.privacy.epsilon)} |" in card
    assert "trust_remote_code" in card
    assert "## Data\n\nNotes: of 'nobody', 2020\n\n| | test rows |" in card
    assert "\nlicense: mit\n" in card
    assert "  author = {A, B},\n  year = {20" in card
    assert list(summary.classes) == ["test"]
    assert sum(summary.classes["test"].values()) == 40
    assert cli.main(["export", f"run='{folder}'", f"to='{to}'"]) == 2
    assert "already exists" in capsys.readouterr().err
    assert cli.main(["export", f"run='{folder}'", f"to='{to}2'", "form=adapter"]) == 2
    assert cli.main(["export", f"run='{folder}'", f"to='{to}2'", "card.license=My own"]) == 2
    assert "card.license must be" in capsys.readouterr().err
    form = "form=sentence-transformers"
    assert cli.main(["export", f"run='{folder}'", f"to='{to}3'", form]) == 0
    assert "trust_remote_code" not in (tmp_path / "out3" / "README.md").read_text()
    assert "Clinical notes that fedmodel makes up" in (tmp_path / "out3" / "README.md").read_text()


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_export_doesnt_say_that_a_head_is_made_new(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pooling: str
) -> None:
    """That is of the base model's: who exports what was trained would think it lost."""
    kind = "AutoModelForSequenceClassification"
    base = write_checkpoint(tmp_path / "base", CONFIGS["bert"](), kind)
    more = ("train=head", "privacy=none", "model=hub", f"model.path='{base}'")
    folder, _ = trained(tmp_path, *more, f"model.pooling={pooling}", "model.max_length=16")
    assert "trained" in caplog.text
    caplog.clear()
    learner._resident.cache_clear()  # as in a process of its own
    export_run(folder, tmp_path / "out")
    assert not caplog.records


def test_an_unfinished_run_isnt_exported(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run").path
    with pytest.raises(RunFolderError, match="resume=true"):
        export_run(folder, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.long
def test_class_counts_are_kept_where_they_are_no_secret(tmp_path: Path) -> None:
    folder, _ = trained(tmp_path, "train=head", "privacy=none", "data.test_rows=0")
    opened = RunFolder.open(folder)
    summary = opened.summary()
    assert summary is not None
    train, test = summary.classes["train"], summary.classes["test"]
    assert sum(train.values()) + sum(test.values()) == 160
    assert list(train) == list(opened.manifest.job["model"]["labels"])
    assert max(test.values()) / sum(test.values()) == pytest.approx(summary.final["majority"])
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    private, _ = trained(hidden, "train=head", "data.test_rows=0")
    told = RunFolder.open(private).summary()
    assert told is not None
    assert told.classes == {}
