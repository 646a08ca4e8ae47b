"""Seconds per round beyond training: a bare loop, fedmodel, and Flower's own engine (Ray).

All do the same work (see ``workload``) and must end with the same parameters:

- *bare*: fedmodel's local training function called directly, and the mean of the changes;
- *fedmodel*: the real ``server.app`` and ``clients.app`` over a ``LoopbackGrid``;
- *Flower's engine*: ``run_simulation``, ``FedAvg`` and one Ray worker, around the same function.

*Overhead* is an engine's seconds per round minus those inside the training function in the same
run (Ray's worker reports them with its update). CPU seconds are user plus system time of the
process and everything below it, Ray's daemons and workers included. Start-up and the first round
are in none of them. The ways alternate, and medians are shown.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

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
from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.workload import Workload

_MISSING = "Flower's own engine is left out: pip install 'fedmodel[bench]'"
_TOLERANCE = 1e-4
_SMALLEST = 1e-6  # seconds: what an overhead lost in the noise is taken to be

# what is shown, way, kind of seconds, beside which way, goal
_RATIOS: tuple[tuple[str, str, str, str, float | None], ...] = (
    ("fedmodel / bare loop", "fedmodel", "CPU", "bare", 1.3),
    ("fedmodel / bare loop", "fedmodel", "wall", "bare", None),
    ("fedmodel with run folder / bare loop", "recorded", "CPU", "bare", None),
    ("fedmodel with run folder / bare loop", "recorded", "wall", "bare", None),
    ("fedmodel / hand-written PyTorch", "fedmodel", "CPU", "handwritten", None),
    ("bare loop / hand-written PyTorch", "bare", "CPU", "handwritten", None),
)

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


def _seconds(costs: Costs, way: str, kind: str) -> list[float]:
    return [cost.cpu if kind == "CPU" else cost.wall for cost in costs[way]]


def _median(costs: Costs, way: str, kind: str) -> float:
    return statistics.median(_seconds(costs, way, kind))


def _ratio(costs: Costs, way: str, kind: str, base: str) -> float:
    """Return the median of the ratios between a way and the other beside it."""
    pairs = zip(_seconds(costs, way, kind), _seconds(costs, base, kind), strict=True)
    return statistics.median(x / y for x, y in pairs)


def _overhead(costs: Costs, way: str, kind: str) -> float:
    """Return the median of a round's seconds outside the training function."""
    if kind == "CPU":
        return statistics.median(c.cpu - c.training_cpu for c in costs[way])
    return statistics.median(c.wall - c.training_wall for c in costs[way])


def figures(costs: Costs, work: Workload, start: float) -> list[Figure]:
    """Return the figures of all ways that were measured."""
    out = []
    for label, way, kind, base, goal in _RATIOS:
        ratio = _ratio(costs, way, kind, base)
        out.append(Figure(name=f"{label}, {kind}", value=ratio, unit="x", goal=goal))
    for kind in ("CPU", "wall"):
        ours = max(_overhead(costs, "fedmodel", kind), _SMALLEST)
        label = f"overhead per client and round, {kind}"
        out.append(Figure(name=f"fedmodel {label}", value=1e6 * ours / work.sites, unit="µs"))
        if "flower" in costs:
            theirs = _overhead(costs, "flower", kind)
            each = 1e6 * theirs / work.sites
            out.append(Figure(name=f"Flower's engine {label}", value=each, unit="µs"))
            ratio, name = theirs / ours, f"Flower's engine / fedmodel, overhead, {kind}"
            out.append(Figure(name=name, value=ratio, unit="x", goal=10.0, better="higher"))
    for way in costs:
        for kind in ("CPU", "wall"):
            value = _median(costs, way, kind)
            out.append(Figure(name=f"{way}, {kind} per round", value=value, unit="s"))
    out.append(Figure(name="start-up to first round", value=start, unit="s", goal=3.0))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments("Seconds per round beyond training.", "tiny, without Ray; times mean little")
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
