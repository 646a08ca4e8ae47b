"""CPU seconds of ``fedmodel verify``: for a run of many rounds and sites, and whether it is linear.

The run folders are made for it (see ``verify_run``). Each measurement is a process of its own, so
that nothing is remembered from another; what it imports is told apart, the accountants' libraries
(SciPy, dp-accounting), which are imported where there is an ε to recompute, from the rest.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from simulations.benchmarks import verify_once
from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.verify_run import make_run

_TIMEOUT = 600


def _measured(run: Path) -> dict[str, float]:
    """Return the CPU seconds of a process: of imports, and of verifying a run folder."""
    command = [sys.executable, "-m", verify_once.__name__, str(run)]
    done = subprocess.run(command, check=True, timeout=_TIMEOUT, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _in_turns(runs: Mapping[str, Path], turns: int) -> dict[str, list[dict[str, float]]]:
    """Return what was measured of each run folder: one after the other, so often.

    Raises:
        RuntimeError: when a check fails of a run in which all is well.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, path in runs.items():
            found[name].append(_measured(path))
    for name, times in found.items():
        if any(each["failed"] for each in times):
            raise RuntimeError(f"the run {name!r} is clean, and a check of it has failed")
    return found


def figures(folder: Path, rounds: int, sites: int, turns: int, *, goals: bool) -> list[Figure]:
    """Return what was measured: a run, one of half its rounds, and one in which noise decays."""
    runs = {
        "whole": make_run(folder / "whole", rounds=rounds, sites=sites),
        "half": make_run(folder / "half", rounds=rounds // 2, sites=sites),
        "sums": make_run(folder / "sums", rounds=rounds, sites=sites, sums=True),
        "decay": make_run(folder / "decay", rounds=rounds // 10, sites=sites, decay=2.0),
    }
    found = _in_turns(runs, turns)

    def figure(name: str, run: str, what: str, goal: float | None = None) -> Figure:
        value = statistics.median(each[what] for each in found[run])
        return Figure(name=f"{name}, CPU", value=value, unit="s", goal=goal if goals else None)

    size = f"{rounds} rounds, {sites} sites"
    decayed = f"{rounds // 10} rounds of another noise each, {sites} sites"
    ratios = [w["verify"] / h["verify"] for w, h in zip(found["whole"], found["half"], strict=True)]
    return [
        figure("imports of the verb", "whole", "imports", 0.5),
        figure("imports of the accountants beyond", "whole", "accountants"),
        figure(f"verify, {size}", "whole", "verify", 2.0),
        figure(f"verify, {size}, a secure sum and all consents each round", "sums", "verify"),
        figure(f"verify, {decayed}", "decay", "verify"),
        Figure(
            name=f"verify, {size}, CPU / half the rounds",
            value=statistics.median(ratios),
            unit="x",
            goal=2.2 if goals else None,
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = arguments(__doc__, "small sizes, no goals")
    args = parser.parse_args(argv)
    rounds, sites, turns = (20, 3, 1) if args.quick else (1000, 50, 5)
    with tempfile.TemporaryDirectory() as folder:
        found = figures(Path(folder), rounds, sites, turns, goals=not args.quick)
    publish(found, "verification of a run", args.out, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
