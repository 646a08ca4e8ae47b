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


def test_the_quick_benchmark_of_secure_aggregation_keeps_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "secagg.json"
    command = [sys.executable, "-m", "simulations.benchmarks.secagg", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert len(values) == len(report["figures"])
    for part in ("whole round, CPU", "whole round, wall", "mask stage, CPU"):
        assert f"site, n=10, 2e3 parameters, {part}" in values
    for part in ("whole round, CPU", "an upload, CPU", "unmasking, CPU"):
        assert f"coordinator, n=10, 2e3 parameters, {part}" in values
    for name in (
        "Flower / fedmodel, mask stage, n=10, 2e3 parameters, CPU",
        "mask loop / bare AES-256-CTR, the same tiles, throughput by CPU",
        "fedmodel, memory beyond the upload, resident",
        "private step, n=10, 2e3 parameters, CPU",
        "unmasking, 2 of 10 dropped, 2e3 parameters, CPU",
    ):
        assert name in values
    assert values["fedmodel, upload"] == 3
    assert 8 <= values["Flower, upload"] < 9
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert figure["value"] > 0 or "resident" in figure["name"]
        assert figure["goal"] is None  # tiny sizes have no goals


def test_the_quick_benchmark_of_noise_in_shares_keeps_the_contract(tmp_path: Path) -> None:
    out = tmp_path / "distributed.json"
    command = [sys.executable, "-m", "simulations.benchmarks.distributed", "--quick"]
    command += ["--seeds", "2", "--epsilons", "8", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    for way in ("pooled", "distributed", "record"):
        assert 0 < values[f"head, ε = 8, {way}, accuracy"] < 100
        assert f"head, ε = 8, {way}, macro_f1, standard deviation" in values
    gap = values["head, ε = 8, pooled, accuracy"] - values["head, ε = 8, distributed, accuracy"]
    assert values["head, ε = 8, pooled less distributed, accuracy"] == gap
