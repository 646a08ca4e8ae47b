"""Accuracy by set, ε, privacy and method: each beside that of a head that starts from zero.

Every cell is a run of its own, on a split and with noise of its own; those of one seed have the
split in common, so that methods are compared on the same rows. What is finished is kept beside the
output, a line each, and isn't run again: the same command goes on.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console

from simulations.benchmarks.accuracy_sets import SETS, write_set
from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.silent import simulated

_METHODS = {
    "head": ("train=head",),
    "head-zero": ("train=head", "train.start=zero"),  # with the rate and the steps of before
    "means": ("train=means",),
    "ffa": ("train=ffa",),
    "lora": ("train=lora",),
}
_BASE = "head-zero"
_POOLED = ("federation.sites=1", "federation.partition=iid", "train.batch_size=2560")
_MODES = {
    "pooled": ("privacy=record", *_POOLED),
    "distributed": ("privacy=distributed",),
    "record": ("privacy=record",),
    "patient": ("privacy=patient",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run: of which set, at which ε (``none``: without privacy), mode, method and seed."""

    set: str
    mode: str
    epsilon: str
    method: str
    seed: int


def overrides(cell: Cell) -> list[str]:
    """Return what tells one run from the others, but for its rows."""
    words = [*_METHODS[cell.method], f"seed={cell.seed}"]
    if cell.epsilon == "none":
        pooled = _POOLED[:2] if cell.mode == "pooled" else ()
        steps = ("train.steps=5",) if cell.method == _BASE else ()
        return [*words, *pooled, *steps, "privacy=none"]
    rate = ("train.head_lr=30",) if cell.method == _BASE else ()
    promise = (f"privacy.epsilon={cell.epsilon}", "privacy.delta=1e-4")
    return [*words, *rate, *_MODES[cell.mode], *promise]


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield the cells, those of one split together: what a body makes of its rows is kept."""
    asked = (part.split(",") for part in (args.sets, args.modes, args.epsilons, args.methods))
    sets, modes, epsilons, methods = asked
    for name, seed in itertools.product(sets, range(args.seeds)):
        for mode, epsilon, method in itertools.product(modes, epsilons, methods):
            # Without privacy all sites' modes are one.
            again = epsilon == "none" and mode != "pooled" and mode != _plain(modes)
            if (mode == "patient") <= (name == "patients") and not again:
                yield Cell(set=name, mode=mode, epsilon=epsilon, method=method, seed=seed)


def _plain(modes: Sequence[str]) -> str | None:
    return next((mode for mode in modes if mode not in ("pooled", "patient")), None)


def kept(path: Path) -> dict[Cell, tuple[float, float]]:
    """Return accuracy and macro-F1, in percent, of what is finished; a torn line isn't."""
    found: dict[Cell, tuple[float, float]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            found[Cell(**row["cell"])] = (float(row["accuracy"]), float(row["macro_f1"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def run_all(args: argparse.Namespace, console: Console) -> dict[Cell, tuple[float, float]]:
    """Run what isn't finished, and return all."""
    # Figures of a tiny model are none of a whole one's.
    path = args.out.with_name(f"{args.out.name}{'.quick' if args.quick else ''}.cells")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = kept(path)
    files = None if args.train is None else (args.train, args.test)
    size, model = ((500, 60), "model=tiny") if args.quick else ((2000, 1000), "model=minilm")
    with tempfile.TemporaryDirectory() as folder, path.open("a", encoding="utf-8") as file:
        written: dict[tuple[str, int], list[str]] = {}
        for number, cell in enumerate(c for c in cells(args) if c not in found):
            split = (cell.set, cell.seed)
            if split not in written:
                written[split] = write_set(*split, Path(folder), size, files)
            words = [*written[split], model, *overrides(cell)]
            final = simulated(words, Path(folder) / str(number)).final
            figures = {m: 100 * final[m] for m in ("accuracy", "macro_f1")}
            file.write("\n" * (number == 0) + json.dumps({"cell": asdict(cell), **figures}) + "\n")
            file.flush()
            os.fsync(file.fileno())
            found[cell] = (figures["accuracy"], figures["macro_f1"])
            console.print(f"{cell}: {figures['accuracy']:.1f} / {figures['macro_f1']:.1f}")
    return found


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: a set, a mode, an ε and a method, over its seeds."""

    key: tuple[str, str, str, str]
    values: list[tuple[float, float]]
    apart: list[tuple[float, float]]  # from the head that starts from zero, on the same split

    def shown(self) -> str:
        """Return it as a row of Markdown."""
        means = [f"{statistics.mean(v):.1f} ± {_spread(v):.1f}" for v in zip(*self.values)]  # noqa: B905
        errors = [_spread(v) / math.sqrt(len(v)) for v in zip(*self.apart)]  # noqa: B905
        gaps = [f"{statistics.mean(v):+.1f}" for v in zip(*self.apart)]  # noqa: B905
        told = [f"{gap} ± {error:.1f}" for gap, error in zip(gaps, errors, strict=True)]
        paired = " / ".join(told) if told and self.key[3] != _BASE else "–"
        return f"| {' | '.join(self.key)} | {' / '.join(means)} ({len(self.values)}) | {paired} |"


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def lines(found: dict[Cell, tuple[float, float]], asked: Sequence[Cell]) -> list[Line]:
    """Return the table's lines, in the order of the cells."""
    out: dict[tuple[str, str, str, str], Line] = {}
    for cell in asked:
        key = (cell.set, cell.mode, cell.epsilon, cell.method)
        line = out.setdefault(key, Line(key, [], []))
        value = found[cell]
        line.values.append(value)
        base = found.get(Cell(**{**asdict(cell), "method": _BASE}))
        if base is not None:
            line.apart.append((value[0] - base[0], value[1] - base[1]))
    return list(out.values())


def figures(table: Sequence[Line]) -> list[Figure]:
    """Return the table's figures: every mean, and every mean difference to the other start."""
    out = []
    for line in table:
        name = ", ".join(line.key)
        for at, metric in enumerate(("accuracy", "macro-F1")):
            mean = statistics.mean(value[at] for value in line.values)
            out.append(Figure(name=f"{name}: {metric}", value=mean, unit="%", better="higher"))
            if line.apart and line.key[3] != _BASE:
                gap = statistics.mean(value[at] for value in line.apart)
                label = f"{name}: {metric}, more than {_BASE}"
                out.append(Figure(name=label, value=gap, unit="points", better="higher"))
                error = _spread([v[at] for v in line.apart]) / math.sqrt(len(line.apart))
                out.append(Figure(name=f"{label}, standard error", value=error, unit="points"))
            spread = _spread([value[at] for value in line.values])
            label = f"{name}: {metric}, standard deviation over {len(line.values)} splits"
            out.append(Figure(name=label, value=spread, unit="points"))
    return out


_HEAD = (
    "| set | privacy | ε | | accuracy / macro-F1, % (splits) "
    "| more than `head-zero` ± standard error |"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments(
        "Accuracy by set, ε, privacy and method.", "a tiny model; figures mean nothing"
    )
    parser.add_argument("--train", type=Path, help="CSV of the abstracts to train on")
    parser.add_argument("--test", type=Path, help="CSV of those to test on")
    parser.add_argument("--sets", default=",".join(SETS), help="separated by commas")
    parser.add_argument("--modes", default="distributed,record,pooled,patient")
    parser.add_argument("--epsilons", default="0.5,1,3,8,none")
    parser.add_argument("--methods", default="head-zero,head,means")
    parser.add_argument("--seeds", type=int, default=3, help="splits")
    parser.add_argument("--markdown", type=Path, help="file for the table")
    args = parser.parse_args(argv)
    if "abstracts" in args.sets.split(",") and (args.train is None or args.test is None):
        args.sets = ",".join(name for name in args.sets.split(",") if name != "abstracts")
        print("without --train and --test the abstracts are left out", file=sys.stderr)
    torch.set_num_threads(1)
    console = Console()
    table = lines(run_all(args, console), list(cells(args)))
    if args.markdown is not None:
        rows = [_HEAD, "|---|---|---|---|---|---|", *(line.shown() for line in table)]
        args.markdown.write_text("\n".join(rows) + "\n", encoding="utf-8")
    publish(figures(table), "accuracy", args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
