"""The main job on a CUDA device."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from fedmodel import cli
from fedmodel.job import Model, Performance, Train
from fedmodel.mechanisms import noise
from fedmodel.seeds import Entropy, Seed
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from fedmodel.training.preflight import preflight
from simulations.benchmarks import dp_step
from simulations.run import simulate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("method", ["head", "lora", "full"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_private_run_on_the_gpu_keeps_its_promise(
    tmp_path: Path, method: str, precision: str
) -> None:
    args = ["debug=fast", "device=cuda", f"train={method}", f"train.precision={precision}"]
    mapping = cli.compose("simulate", [*args, f"run='{tmp_path / 'run'}'"])
    summary = simulate(mapping, Console(file=io.StringIO())).to_mapping()
    assert 0 < summary["privacy"]["epsilon"] <= 8


@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("method", ["head", "lora", "ffa", "full"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_per_row_gradients_on_the_gpu_are_those_of_rows_alone(
    method: Any, precision: Any, engine: Any
) -> None:
    names, texts = ("a", "b"), ["chest pain and fever since monday", "cough", "no acute distress"]
    train = Train(method=method, precision=precision)
    model = Model(labels=names, max_length=16)
    learner = Learner(model, train, Seed(0), torch.device("cuda"))
    rows = prepare(learner, texts, ["a", "b", "a"], names, 16)
    preflight(learner, rows, Performance(engine=engine, device="cuda"))
    assert (engine, False) in learner.preflights_passed


def test_noise_on_the_gpu_has_its_size() -> None:
    total = torch.full((200_000,), 3.0, device="cuda")
    noise.add_gaussian_(Entropy(), total, 2.0)
    values = total.cpu().numpy().astype(np.float64)
    assert abs(values.mean() - 3.0) < 6 * 2.0 / values.size**0.5
    assert abs(values.std() / 2.0 - 1) < 6 / (2 * values.size) ** 0.5


def test_the_benchmark_of_a_step_runs_on_the_gpu(tmp_path: Path) -> None:
    out = tmp_path / "dp.json"
    assert dp_step.main(["--quick", "--device", "cuda", "--turns", "1", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["figures"]
