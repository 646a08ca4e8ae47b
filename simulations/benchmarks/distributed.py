"""Worth of noise in shares: pooled DP-SGD, ``privacy=distributed`` and ``privacy=record``.

The same job three times at equal ε: all rows in one trusted place; at their sites, with noise in
shares and secure sums; at their sites with local DP-SGD. Pooled steps divide by what all sites
together divide by, so that the three differ in their noise only. Every figure is a mean over seeds;
seeds are of initial weights and partition, never of noise.

Takes minutes for each run of ``lora``, seconds for ``head``.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console

from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.silent import simulated

_WAYS = ("pooled", "distributed", "record")
_GOAL = 1.0  # points of accuracy that distributed may be below pooled


def overrides(way: str, method: str, epsilon: float, seed: int, batch: int) -> list[str]:
    """Return what tells one run from the others."""
    found = [f"train={method}", f"privacy.epsilon={epsilon:g}", f"seed={seed}"]
    if way != "pooled":
        return [*found, f"privacy={way}"]
    one = ["federation.sites=1", "federation.partition=iid", f"train.batch_size={batch}"]
    return [*found, "privacy=record", *one]


def _data(args: argparse.Namespace) -> list[str]:
    if args.quick:
        return ["data.rows=300", "data.test_rows=100", "debug=fast"]
    return [
        "data=csv",
        f"data.train='{args.train}'",
        f"data.test='{args.test}'",
        f"data.site={args.site}",
        "model=minilm",
    ]


def figures(args: argparse.Namespace, console: Console) -> list[Figure]:
    """Run all jobs."""
    out: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for method in args.methods.split(","):
            for epsilon in map(float, args.epsilons.split(",")):
                means = {}
                for way in _WAYS:
                    finals = []
                    for seed in range(args.seeds):
                        words = overrides(way, method, epsilon, seed, args.pooled_batch)
                        path = Path(folder) / f"{method}-{epsilon:g}-{way}-{seed}"
                        finals.append(simulated([*_data(args), *words], path).final)
                    means[way] = _add(out, f"{method}, ε = {epsilon:g}, {way}", finals)
                    console.print(f"{method}, ε = {epsilon:g}, {way}: {means[way]:.1f} %")
                name = f"{method}, ε = {epsilon:g}, pooled less distributed, accuracy"
                gap = means["pooled"] - means["distributed"]
                goal = None if args.quick else _GOAL
                out.append(Figure(name=name, value=gap, unit="points", goal=goal))
    return out


def _add(out: list[Figure], name: str, finals: Sequence[Mapping[str, float]]) -> float:
    """Add the figures of one way; return its mean accuracy in percent."""
    means = {}
    for metric in ("accuracy", "macro_f1"):
        values = [100 * final[metric] for final in finals]
        means[metric] = statistics.mean(values)
        label = f"{name}, {metric}"
        out.append(Figure(name=label, value=means[metric], unit="%", better="higher"))
        if len(values) > 1:
            spread = statistics.stdev(values)
            out.append(Figure(name=f"{label}, standard deviation", value=spread, unit="points"))
    return means["accuracy"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments("What noise in shares is worth.", "made-up notes; figures mean little")
    parser.add_argument("--train", type=Path, help="CSV of training rows, with a site column")
    parser.add_argument("--test", type=Path, help="CSV of public test rows")
    parser.add_argument("--site", default="site", help="name of that column")
    parser.add_argument("--methods", default="head", help="head, lora, … separated by commas")
    parser.add_argument("--epsilons", default="8,3", help="separated by commas")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--pooled-batch", type=int, default=2560, help="sites · train.batch_size")
    args = parser.parse_args(argv)
    if not args.quick and (args.train is None or args.test is None):
        parser.error("give --train and --test, or --quick")
    torch.set_num_threads(1)
    console = Console()
    publish(figures(args, console), "accuracy at equal ε", args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
