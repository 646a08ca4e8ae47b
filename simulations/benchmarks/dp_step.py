"""Cost of a private step: one-pass clipping and Opacus's two ways, beside no privacy.

A step is eight forward and backward passes of one physical batch each, and one optimiser step
(AdamW), on MiniLM (22.7 million parameters). The private ways clip every row's gradient, and add
noise from AES-256-CTR keystreams once per step, as they do in training. The ways alternate within
one process, with one thread; a ratio is the median over the turns of CPU seconds (on a GPU: wall
seconds) beside the non-private step of the same turn. Opacus's ways get one turn, at the smaller
batch unless asked for (``--thorough``): their ratios are far from ours. fastDP isn't measured: it
couldn't be installed where these figures come from.

Peak memory is measured in a process of its own for each way: the largest resident set in two
steps, less the resident set with the model loaded; on a GPU what PyTorch allocated at most.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console

from fedmodel.accounting.planning import make_plan
from fedmodel.job import Privacy
from fedmodel.ledger import Request, part_of
from fedmodel.ledger.site_state import SiteState
from fedmodel.mechanisms import noise
from fedmodel.seeds import Entropy
from simulations.benchmarks.dp_ways import ACCUMULATED, Method, Step, Work, peak_memory
from simulations.benchmarks.report import Figure, arguments, publish

_GOALS = {("full", 64): 1.15, ("full", 128): 1.20, ("lora", 64): 1.04, ("lora", 128): 1.04}
_MEMORY_GOALS = {"full": 1.20, "lora": 1.05}
_OPACUS = ("hooks", "ghost")
_PARAMETERS = 22_700_000


def _steps(work: Work, names: Sequence[str]) -> dict[str, Step]:
    entropy = Entropy()
    return {n: work.plain() if n == "none" else work.private(n, entropy) for n in names}


def ratios(work: Work, names: Sequence[str], turns: int) -> dict[str, float]:
    """Return each way's cost over that of the non-private step of the same turn."""
    ways = _steps(work, ("none", *names))
    for step in ways.values():
        step()  # caches and optimiser state are made
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns):
        order = list(ways) if turn % 2 == 0 else list(ways)[::-1]
        seconds = {name: work.seconds(ways[name]) for name in order}
        for name in names:
            found[name].append(seconds[name] / seconds["none"])
    return {name: statistics.median(values) for name, values in found.items()}


def _memory(method: str, way: str, batch: int, length: int, args: argparse.Namespace) -> float:
    command = [sys.executable, "-m", __spec__.name, "--out", os.devnull, "--memory"]
    command += [f"{method},{way},{batch},{length}", "--device", args.device]
    if args.quick:
        command.append("--quick")
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return float(done.stdout.split()[-1])


def _print_memory(what: str, args: argparse.Namespace) -> int:
    method, way, batch, length = what.split(",")
    work = Work(
        "full" if method == "full" else "lora",
        int(batch),
        int(length),
        device=args.device,
        source="tiny" if args.quick else "minilm",
        accumulated=2,
    )
    print(peak_memory(work, _steps(work, [way])[way]))
    return 0


def noise_seconds(count: int) -> float:
    """Return the CPU seconds of noise for so many parameters, the least of three tries."""
    total, found = torch.zeros(count), []
    for _ in range(3):
        start = time.process_time()
        noise.add_gaussian_(Entropy(), total, 1.0)
        found.append(time.process_time() - start)
    return min(found)


def ledger_seconds(rounds: int) -> tuple[float, float]:
    """Return CPU and wall seconds that a round's ledger work takes: the median.

    That is a spend, the signed head and its proof, on the disk that holds temporary files.
    """
    plan = make_plan(
        Privacy(mechanism="dpsgd", rate=0.1), batch_size=64, rounds=rounds, steps=1, evaluate=False
    )
    cpu, wall, job = [], [], "0" * 64
    with tempfile.TemporaryDirectory() as folder:
        ledger = SiteState(Path(folder), "site").ledger()
        ledger.reserve(Request.of(plan), run="bench", job=job, code="benchmark")
        for number in range(1, rounds + 1):
            known = ledger.head().size
            begun, started = time.perf_counter(), time.process_time()
            part = part_of(plan, plan.spend(number))
            ledger.spend(part, run="bench", job=job, round=number, clip=plan.clip)
            ledger.head()
            ledger.prove(known)
            cpu.append(time.process_time() - started)
            wall.append(time.perf_counter() - begun)
    return statistics.median(cpu), statistics.median(wall)


def figures(args: argparse.Namespace, console: Console) -> list[Figure]:
    """Measure everything."""
    out: list[Figure] = []
    source: Literal["tiny", "minilm"] = "tiny" if args.quick else "minilm"
    shapes = [(2, 16)] if args.quick else [(16, 64), (16, 128), (32, 64), (32, 128)]
    methods: tuple[Method, ...] = ("full", "lora")
    unit = "GPU" if args.device == "cuda" else "CPU"
    for method in methods:
        for batch, length in shapes:
            work = Work(method, batch, length, device=args.device, source=source)
            found = ratios(work, ["fast"], args.turns)
            if args.thorough or batch == shapes[0][0]:
                found |= ratios(work, _OPACUS, 1)
            for way, value in found.items():
                goal = _GOALS.get((method, length)) if way == "fast" else None
                name = f"{method}, {way} / no privacy, batch {batch}, length {length}, {unit}"
                out.append(Figure(name=name, value=value, unit="x", goal=goal))
                console.print(f"{name}: {value:.3f}")
    for method, (batch, length) in itertools.product(methods, shapes[:2]):
        sizes = {w: _memory(method, w, batch, length, args) for w in ("none", "fast", *_OPACUS)}
        for way in ("fast", *_OPACUS):
            name = f"{method}, {way} / no privacy, peak memory, batch {batch}, length {length}"
            goal = _MEMORY_GOALS[method] if way == "fast" and not args.quick else None
            out.append(Figure(name=name, value=sizes[way] / sizes["none"], unit="x", goal=goal))
    seconds = dict(zip(("CPU", "wall"), ledger_seconds(20 if args.quick else 200), strict=True))
    for kind, value in seconds.items():
        goal = 1.0 if kind == "CPU" and not args.quick else None
        name = f"ledger, a round at a site, {kind}"
        out.append(Figure(name=name, value=1e3 * value, unit="ms", goal=goal))
    count = 10_000 if args.quick else _PARAMETERS
    value = noise_seconds(count)
    out.append(Figure(name=f"noise for {count} parameters, CPU", value=value, unit="s"))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments("What a private step costs.", "tiny shapes; times mean little")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--turns", type=int, default=3, help="of our way beside no privacy")
    parser.add_argument("--thorough", action="store_true", help="Opacus's ways at every batch")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.memory:
        return _print_memory(args.memory, args)
    console = Console()
    title = f"a step of {ACCUMULATED} physical batches, {args.device}"
    publish(figures(args, console), title, args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
