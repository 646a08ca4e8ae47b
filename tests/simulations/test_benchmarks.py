import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quick_engine_benchmark_keeps_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "engine.json"
    command = [sys.executable, "-m", "simulations.benchmarks.engine", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    if find_spec("ray") is None:
        assert "pip install 'fedmodel[bench]'" in done.stdout
    report = json.loads(out.read_text())
    assert {"cpu", "cores", "memory", "python", "torch", "flwr"} <= report["machine"].keys()
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert isinstance(figure["value"], float)
        assert figure["better"] in {"lower", "higher"}
        assert figure["name"].split(",")[0] in done.stdout
    goals = {f["name"]: f["goal"] for f in report["figures"] if f["goal"] is not None}
    assert goals["fedmodel / bare loop, CPU"] == 1.3
    assert goals["start-up to first round"] == 3.0


def test_the_quick_benchmark_of_a_private_step_keeps_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "dp.json"
    command = [sys.executable, "-m", "simulations.benchmarks.dp_step", "--quick", "--turns", "1"]
    done = subprocess.run(
        [*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    names = [figure["name"] for figure in report["figures"]]
    for method in ("full", "lora"):
        for way in ("fast", "hooks", "ghost"):
            assert any(n.startswith(f"{method}, {way} / no privacy, batch") for n in names)
            assert any(n.startswith(f"{method}, {way} / no privacy, peak memory") for n in names)
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert figure["value"] > 0
        assert figure["goal"] is None  # tiny shapes have no goals
