"""Multi-label classification end to end: every way of privacy, what is released, and the export."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fedmodel import cli
from fedmodel.errors import ConfigError, DataError
from fedmodel.export import export_run
from fedmodel.job import Job, Performance
from fedmodel.ledger import Ledger, SpendEntry
from fedmodel.mechanisms import noise
from fedmodel.runs import RunFolder
from fedmodel.tasks import multi_label_classification
from fedmodel.training.learner import resident
from server import publishing
from simulations.run import simulate

pytestmark = pytest.mark.long

TASK = "model.task=multi-label-classification"
SMALL = [
    "debug=fast",
    "model=tiny",
    "model.max_length=24",
    "privacy.delta=1e-3",
    "secagg=off",
    TASK,
]
CLASSES = ("cardiac", "infectious", "neurological", "orthopaedic", "respiratory")
TEXTS = ["Chest pain since yesterday.", "Cough and fever, no pain at all."]


def run(tmp_path: Path, *overrides: str) -> tuple[dict[str, Any], RunFolder, str]:
    folder = tmp_path / "run"
    console = Console(file=io.StringIO(), width=100)
    keys = {part.split("=")[0] for part in overrides}
    usual = [part for part in SMALL if part.split("=")[0] not in keys]
    mapping = cli.compose("simulate", [*usual, *overrides, f"run='{folder}'"])
    summary = simulate(mapping, console).to_mapping()
    return summary, RunFolder.open(folder), console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "overrides",
    [
        ["privacy=none", "train=head"],
        ["privacy=none", "train=lora", "secagg=on", "aggregation.weights=uniform"],
        ["privacy=record", "train=head"],
        ["privacy=record", "train=lora", "secagg=seal"],
        ["privacy=patient", "train=head", "secagg=on"],
        ["privacy=distributed", "train=head", "secagg=on"],
        ["privacy=site", "train=lora", "secagg=on", "privacy.delta=0.01"],
    ],
    ids=lambda overrides: "-".join(part.split("=")[1] for part in overrides[:2]),
)
def test_every_way_of_privacy(tmp_path: Path, overrides: list[str]) -> None:
    summary, folder, text = run(tmp_path, "data.rows=120", "data.test_rows=40", *overrides)
    assert summary["rounds"] == 2
    each = {f"f1.{name}" for name in CLASSES}
    assert set(summary["final"]) == each | {
        "accuracy",
        "micro_f1",
        "macro_f1",
        "majority",
        "loss",
    }
    assert tuple(folder.manifest.job["model"]["labels"]) == CLASSES
    assert "micro-F1" in text
    assert "F1 of cardiac" in text
    private = "privacy=none" not in overrides
    for site in summary["privacy"]["sites"].values():
        assert (site["steps"], site["refused"]) == (2, None)
        assert (site["epsilon"] is not None) == private
        assert not private or 0 < site["epsilon"] <= 8


@pytest.mark.slow
@pytest.mark.parametrize("privacy", ["record", "patient"])
def test_the_released_scores_are_the_truth_within_their_noise(tmp_path: Path, privacy: str) -> None:
    summary, folder, _ = run(
        tmp_path,
        "data.rows=1200",
        "data.test_rows=0",
        "train=head",
        f"privacy={privacy}",
        "privacy.rows_per_patient=2",
        "privacy.evaluation_noise=1.5",
        "train.rounds=4",
    )
    told, final = summary["released"], summary["final"]
    rows = 2 if privacy == "patient" else 1
    # Five labels and the row itself: √6 for each row of a unit, and five sites' noise.
    assert told["noise_std"] == pytest.approx(1.5 * rows * 6**0.5 * 5**0.5)
    assert (told["sites"], told["failures"]) == (5, {})
    scores = told["scores"]
    assert set(scores) == {"micro_f1", "macro_f1"} | {
        f"{kind}.{name}" for kind in ("f1", "accuracy") for name in CLASSES
    }
    assert privacy == "patient" or scores["micro_f1"]["value"] is not None
    # Of a patient not all rows are counted, so that figure is of other rows than the final one.
    room = 0.05 if privacy == "patient" else 0.0
    for name in ("micro_f1", *(f"f1.{label}" for label in CLASSES)):
        if scores[name]["value"] is not None:
            error = abs(scores[name]["value"] - final[name])
            assert error < 6 * scores[name]["standard_error"] + room, name
    for name, site in summary["privacy"]["sites"].items():
        entries = Ledger(folder.path / "ledger" / f"{name}.jsonl").entries()
        spends = [e for e in entries if isinstance(e, SpendEntry)]
        assert [(e.round, float(e.noise_multiplier)) for e in spends][-1] == (0, 1.5)
        assert 7.5 < site["epsilon"] <= 8


@pytest.mark.slow
@pytest.mark.parametrize("privacy", ["record", "patient", "distributed"])
def test_without_noise_the_released_scores_are_exact(
    tmp_path: Path, privacy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "add_gaussian", lambda entropy, total, std: total)
    monkeypatch.setattr(multi_label_classification, "_CLEAR", 0.0)
    monkeypatch.setattr(publishing, "_CLEAR", 0.0)
    summary, _, _ = run(
        tmp_path,
        "data.rows=300",
        "data.test_rows=0",
        "train=head",
        f"privacy={privacy}",
        f"secagg={'on' if privacy == 'distributed' else 'off'}",
    )
    # Nobody has more than the eight notes of which all count.
    told, final = summary["released"], summary["final"]
    assert told["accuracy"] == pytest.approx(final["accuracy"])
    for name in ("micro_f1", *(f"f1.{label}" for label in CLASSES)):
        # A label that no row has and no answer gives has no F1 to tell.
        value = told["scores"][name]["value"]
        assert (value or 0.0) == pytest.approx(final[name]), name


def _logits(model: Any, folder: Path) -> torch.Tensor:
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**batch).logits  # type: ignore[no-any-return]


def _expected(folder: RunFolder) -> torch.Tensor:
    learner = resident(Job.from_mapping(dict(folder.manifest.job)), Performance(device="cpu"))
    learner.load_vector(learner.layout.from_named(folder.model()))
    learner.module.eval()
    batch = learner.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return learner.module(**batch).logits  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_plain_transformers_load_and_read_the_export(tmp_path: Path, pooling: str) -> None:
    _, folder, _ = run(
        tmp_path,
        "data.rows=120",
        "data.test_rows=40",
        "train=lora",
        "privacy=none",
        f"model.pooling={pooling}",
    )
    expected = _expected(folder)
    to = export_run(folder.path, tmp_path / "merged")
    trust = pooling == "mean"
    model = AutoModelForSequenceClassification.from_pretrained(to, trust_remote_code=trust)
    torch.testing.assert_close(_logits(model, to), expected, atol=1e-5, rtol=1e-4)
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == dict(enumerate(CLASSES))
    _check_loss(model, expected, to)
    classify = pipeline(
        "text-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(to),
        top_k=None,
        device="cpu",
    )
    answers: Any = classify(TEXTS)
    for answer, own in zip(answers, torch.sigmoid(expected).tolist(), strict=True):
        told = {entry["label"]: entry["score"] for entry in answer}
        assert told == pytest.approx(dict(zip(CLASSES, own, strict=True)), abs=1e-4)
    adapter = export_run(folder.path, tmp_path / "adapter", form="adapter")
    whole = AutoModelForSequenceClassification.from_pretrained(adapter, trust_remote_code=trust)
    assert whole.config.problem_type == "multi_label_classification"
    found = _logits(whole, adapter)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    card = (to / "README.md").read_text()
    for part in ("Multi-label text classifier", "sigmoid", "0.5", "micro F1", "F1 of `cardiac`"):
        assert part in card


def _check_loss(model: Any, logits: torch.Tensor, folder: Path) -> None:
    """The exported model's own loss is transformers' for this problem: mean binary entropy."""
    batch = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    labels = torch.tensor([[1.0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    with torch.inference_mode():
        loss = model(**batch, labels=labels).loss
    expected = torch.nn.functional.binary_cross_entropy(torch.sigmoid(logits), labels)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)


def _csv(path: Path, *, flags: bool) -> Path:
    """Write rows that words tell the labels of: a third has none, some have both."""
    lines = ["text,site,fever,pain" if flags else "text,site,label"]
    for i in range(120):
        fever, pain = i % 2, int(i % 3 == 0)
        words = f"note {i} " + "hot shivering " * fever + "aching sore " * pain
        names = ";".join(["fever"] * fever + ["pain"] * pain)
        lines.append(f"{words},s{i % 3},{f'{fever},{pain}' if flags else names}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_one_column_and_one_for_each_give_the_same_run(tmp_path: Path) -> None:
    found = []
    for flags in (False, True):
        path = _csv(tmp_path / f"{flags}.csv", flags=flags)
        columns = "data.labels=[pain,fever]" if flags else "data.label_separator=';'"
        data = ["data=csv", f"data.train='{path}'", "data.site=site", columns]
        way = ["privacy=none", "train=head", "train.rounds=10", "train.steps=5", "seed=3"]
        (tmp_path / str(flags)).mkdir()
        summary, folder, _ = run(tmp_path / str(flags), *data, *way)
        assert folder.manifest.job["model"]["labels"] == ["fever", "pain"]
        found.append(summary["final"])
    assert found[0] == found[1]
    # The words tell: it learns more than the commonest set of labels.
    assert found[0]["accuracy"] > found[0]["majority"] + 0.2
    assert found[0]["f1.fever"] > 0.8


def test_labels_of_the_other_task_are_refused(tmp_path: Path) -> None:
    path = _csv(tmp_path / "rows.csv", flags=False)
    data = ["data=csv", f"data.train='{path}'", "data.site=site", "privacy=none", "train=head"]
    with pytest.raises(DataError, match="label_separator"):
        run(tmp_path, *data)
    single = "model.task=sequence-classification"
    with pytest.raises(ConfigError, match="gives each row one"):
        run(tmp_path, *data, single, "data.label_separator=';'")
