"""The main job on a CUDA device."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from fedmodel import cli
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
    summary = simulate(mapping, Console(file=io.StringIO()))
    assert 0 < summary["privacy"]["epsilon"] <= 8
