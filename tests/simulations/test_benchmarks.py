"""The quick benchmarks keep the contract: what is in the file, and that it is printed."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from simulations.benchmarks import distributed, dp_step, engine, secagg, transport

ROOT = Path(__file__).parents[2]
DISTRIBUTED = ("--quick", "--seeds", "2", "--epsilons", "8")
DP_STEP = ("--quick", "--turns", "1")

Run = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs a benchmark in this process: its report, and what it printed.

    Importing everything once more in a process of its own takes longer than most of them do.
    """

    def start(benchmark: Any, *args: str) -> tuple[dict[str, Any], str]:
        out = tmp_path / "report.json"
        assert benchmark.main([*args, "--out", str(out)]) == 0
        return json.loads(out.read_text()), capsys.readouterr().out

    return start


def program(name: str, args: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return the report of a benchmark in a process of its own."""
    out = folder / "report.json"
    command = [sys.executable, "-m", f"simulations.benchmarks.{name}", *args, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    return report


@pytest.mark.soak  # verify's is the one that the slow tests start as a program
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("engine", ("--quick",)),
        ("dp_step", DP_STEP),
        ("secagg", ("--quick",)),
        ("distributed", DISTRIBUTED),
        ("transport", ("--quick",)),
    ],
)
def test_each_is_a_program(name: str, args: tuple[str, ...], tmp_path: Path) -> None:
    assert program(name, args, tmp_path)["figures"]


@pytest.mark.slow
def test_the_quick_engine_benchmark_keeps_the_contract(run: Run) -> None:
    report, printed = run(engine, "--quick")
    if find_spec("ray") is None:
        assert "pip install 'fedmodel[bench]'" in printed
    assert {"cpu", "cores", "memory", "python", "torch", "flwr"} <= report["machine"].keys()
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert isinstance(figure["value"], float)
        assert figure["better"] in {"lower", "higher"}
        assert figure["name"].split(",")[0] in printed
    goals = {f["name"]: f["goal"] for f in report["figures"] if f["goal"] is not None}
    assert goals["fedmodel / bare loop, CPU"] == 1.3
    assert goals["start-up to first round"] == 3.0


@pytest.mark.slow
def test_the_quick_benchmark_of_a_private_step_keeps_the_contract(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process of its own for our way of one method; the test above starts all eight.
    found: list[float] = []
    real = dp_step._memory

    def memory(method: str, way: str, *rest: Any) -> float:
        if (method, way) == ("lora", "fast"):
            found.append(real(method, way, *rest))
        return 1.0

    monkeypatch.setattr(dp_step, "_memory", memory)
    report, _ = run(dp_step, *DP_STEP)
    assert len(found) == 1
    assert found[0] > 0
    names = [figure["name"] for figure in report["figures"]]
    for method in ("full", "lora"):
        for way in ("fast", "hooks", "ghost"):
            assert any(n.startswith(f"{method}, {way} / no privacy, batch") for n in names)
            assert any(n.startswith(f"{method}, {way} / no privacy, peak memory") for n in names)
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert figure["value"] > 0
        assert figure["goal"] is None  # tiny shapes have no goals


@pytest.mark.slow
@pytest.mark.long
def test_the_quick_benchmark_of_secure_aggregation_keeps_the_contract(run: Run) -> None:
    report, _ = run(secagg, "--quick")
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
        "check elements of an upload, CPU",
        "hash of an upload, CPU",
        "private step, n=10, 2e3 parameters, CPU",
        "unmasking, 2 of 10 dropped, 2e3 parameters, CPU",
    ):
        assert name in values
    assert values["fedmodel, upload"] == 3
    assert 8 <= values["Flower, upload"] < 9
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        differences = ("resident", "check elements")
        assert figure["value"] > 0 or any(d in figure["name"] for d in differences)
        assert figure["goal"] is None  # tiny sizes have no goals


@pytest.mark.slow
def test_the_quick_benchmark_of_noise_in_shares_keeps_the_contract(run: Run) -> None:
    report, _ = run(distributed, *DISTRIBUTED)
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    for way in ("pooled", "distributed", "record"):
        assert 0 < values[f"head, ε = 8, {way}, accuracy"] < 100
        assert f"head, ε = 8, {way}, macro_f1, standard deviation" in values
    gap = values["head, ε = 8, pooled, accuracy"] - values["head, ε = 8, distributed, accuracy"]
    assert values["head, ε = 8, pooled less distributed, accuracy"] == gap


@pytest.mark.slow
def test_the_quick_benchmark_of_the_network_keeps_the_contract(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the place of Flower's network another one of ours; the test of the program has Flower's.
    @contextmanager
    def other(folder: Path) -> Iterator[tuple[Any, list[int]]]:
        with transport.fedmodel(folder, 2) as found:
            found.connect(slice(2), found.port)
            yield found.actor, found.ids

    monkeypatch.setattr(transport, "flower", other)
    monkeypatch.setattr(transport, "QUICK", replace(transport.QUICK, idle=3, seconds=1.0))
    report, printed = run(transport, "--quick")
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert len(values) == len(report["figures"])
    what = "40 MB to two sites and back"
    for way in ("fedmodel", "Flower"):
        assert values[f"{way}, leg of a trivial message to two sites, wall"] > 0
        for kind in ("CPU of all", "wall", "coordinator, peak memory", "a site, peak memory"):
            assert f"{way}, {what}, {kind}" in values
    for name in (
        f"Flower / fedmodel, {what}, wall",
        f"Flower / fedmodel, {what}, CPU",
        "3 idle sites, coordinator's memory, each",
        "3 idle sites, coordinator, of a core for all",
        "cut of 2 s, from its end to an answer, median",
    ):
        assert name in values
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert figure["name"].split(",")[0] in printed
        assert figure["goal"] is None  # small sizes have no goals


@pytest.mark.slow
def test_the_quick_benchmark_of_verification_keeps_the_contract(tmp_path: Path) -> None:
    report = program("verify", ["--quick"], tmp_path)
    values = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert values.keys() >= {
        "imports of the verb, CPU",
        "imports of the accountants beyond, CPU",
        "verify, 20 rounds, 3 sites, CPU",
        "verify, 20 rounds, 3 sites, CPU / half the rounds",
    }
    for figure in report["figures"]:
        assert figure.keys() == {"name", "value", "unit", "goal", "better"}
        assert figure["value"] > 0
        assert figure["goal"] is None  # small sizes have no goals
