"""Seconds per round beyond training: a bare loop, fedmodel, and Flower's own engine (Ray).

All do the same work (see ``workload``) and must end with the same parameters:

- *bare*: fedmodel's local training function called directly, and the mean of the changes;
- *fedmodel*: the real ``server.app`` and ``clients.app`` over a ``LoopbackGrid``;
- *Flower's engine*: ``run_simulation`` and ``FedAvg`` with one Ray worker, around the same function.

*Overhead* is an engine's seconds per round minus those of the bare loop next to it. CPU seconds are
user plus system time of the process and everything below it, Ray's daemons and workers included.
Start-up and the first rounds are not in them. The ways alternate, and medians are shown.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from fedmodel.update import Vector
from simulations.benchmarks import flower_engine, startup, ways
from simulations.benchmarks.clock import Clock, Cost
from simulations.benchmarks.report import Figure, publish
from simulations.benchmarks.workload import Workload

_MISSING = "Flower's own engine is left out: pip install 'fedmodel[bench]'"
_TOLERANCE = 1e-4
_SMALLEST = 1e-6  # seconds: what an overhead lost in the noise is taken to be

Costs = dict[str, list[Cost]]


def _same(first: Vector, other: Vector, name: str) -> None:
    if not np.allclose(first, other, atol=_TOLERANCE):
        raise RuntimeError(f"{name} ended with other parameters than the bare loop")


def in_process(work: Workload, repetitions: int, costs: Costs) -> Vector:
    """Time the ways that need no process of their own, in turns; return the final parameters."""
    runs: dict[str, Callable[[Clock, Path], Vector]] = {
        "bare": lambda clock, _: ways.bare(work, clock),
        "fedmodel": lambda clock, folder: ways.fedmodel(work, clock, folder),
        "recorded": lambda clock, folder: ways.fedmodel(work, clock, folder, record=True),
        "handwritten": lambda clock, _: ways.handwritten(work, clock),
    }
    names, final = list(runs), np.empty(0, np.float32)
    for number in range(repetitions):
        found: dict[str, Vector] = {}
        shift = number % len(names)  # so that none always follows the same one
        for name in names[shift:] + names[:shift]:
            clock = Clock(work.warm, work.total)
            with tempfile.TemporaryDirectory() as folder:
                found[name] = runs[name](clock, Path(folder))
            costs.setdefault(name, []).append(clock.cost())
        final = found["bare"]
        for name in names:
            _same(final, found[name], name)
    return final


def _over(costs: Costs, name: str, kind: str, base: str = "bare") -> tuple[float, float]:
    """Return the medians of ratio and difference between a way and another beside it."""
    pairs = [
        (getattr(x, kind), getattr(y, kind)) for x, y in zip(costs[name], costs[base], strict=True)
    ]
    return statistics.median(x / y for x, y in pairs), statistics.median(x - y for x, y in pairs)


def _median(costs: Costs, name: str, kind: str) -> float:
    return statistics.median(getattr(cost, kind) for cost in costs[name])


def figures(costs: Costs, work: Workload, start: float) -> list[Figure]:
    """Return the figures of all ways that were measured."""
    out = []
    ratio, overhead = _over(costs, "fedmodel", "cpu")
    out.append(Figure(name="fedmodel / bare loop, CPU", value=ratio, unit="x", goal=1.3))
    for label, way, kind, base in (
        ("fedmodel / bare loop, wall", "fedmodel", "wall", "bare"),
        ("fedmodel with run folder / bare loop, CPU", "recorded", "cpu", "bare"),
        ("fedmodel with run folder / bare loop, wall", "recorded", "wall", "bare"),
        ("fedmodel / hand-written PyTorch, CPU", "fedmodel", "cpu", "handwritten"),
        ("bare loop / hand-written PyTorch, CPU", "bare", "cpu", "handwritten"),
    ):
        out.append(Figure(name=label, value=_over(costs, way, kind, base)[0], unit="x"))
    each = 1e6 * overhead / work.sites
    out.append(Figure(name="fedmodel overhead per client and round, CPU", value=each, unit="µs"))
    if "flower" in costs:
        for kind in ("cpu", "wall"):
            theirs = _median(costs, "flower", kind) - _median(costs, "bare", kind)
            ours = max(_over(costs, "fedmodel", kind)[1], _SMALLEST)
            name = f"Flower's engine / fedmodel, overhead, {kind if kind == 'wall' else 'CPU'}"
            out.append(Figure(name=name, value=theirs / ours, unit="x", goal=10.0, better="higher"))
        theirs = 1e6 * (_median(costs, "flower", "cpu") - _median(costs, "bare", "cpu"))
        name = "Flower's engine overhead per client and round, CPU"
        out.append(Figure(name=name, value=theirs / work.sites, unit="µs"))
    for way in costs:
        for kind in ("cpu", "wall"):
            name = f"{way}, {kind if kind == 'wall' else 'CPU'} per round"
            out.append(Figure(name=name, value=_median(costs, way, kind), unit="s"))
    out.append(Figure(name="start-up to first round", value=start, unit="s", goal=3.0))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Seconds per round beyond training.")
    parser.add_argument("--quick", action="store_true", help="tiny, without Ray; times mean little")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    root = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    console = Console()
    work, cycles, repetitions = Workload(), 3, 4
    if args.quick:
        work, cycles, repetitions = Workload(sites=5, rounds=1, warm=1, steps=2, rows=64), 1, 1
    if not flower_engine.available():
        console.print(_MISSING, markup=False, soft_wrap=True)
    with_flower = flower_engine.available() and not args.quick
    costs: Costs = {}
    starts: list[float] = []
    work.prepare()
    with tempfile.TemporaryDirectory() as name:
        for cycle in range(cycles):
            console.print(f"cycle {cycle + 1} of {cycles}")
            final = in_process(work, repetitions, costs)
            if with_flower:
                cost, vector = flower_engine.measure(work, Path(name))
                _same(final, vector, "Flower's engine")
                costs.setdefault("flower", []).append(cost)
            starts.append(startup.measure(Path(name) / f"start-{cycle}"))
    title = f"{work.sites} sites, {work.steps} SGD steps each"
    publish(figures(costs, work, statistics.median(starts)), title, args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
