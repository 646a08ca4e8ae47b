"""Sweep of a simulation: its jobs in turn, those that are there already left out, and one table."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fedmodel import config
from fedmodel.errors import FedmodelError
from fedmodel.report.tables import Spread, cell, spread_table, sweep_table
from fedmodel.runs import RunFolder, Summary, run_path, to_json, write_atomic
from simulations.scenario import Asked
from simulations.words import say

__all__ = ["SCHEMA", "sweep"]

SCHEMA = "fedmodel.sweep/1"
_FIGURES = ("accuracy", "macro_f1", "loss")

# (composed configuration, console, keys given) → its summary.
Simulate = Callable[[dict[str, Any], Console, Sequence[str]], Summary]


@dataclass(frozen=True, slots=True)
class _Job:
    """One job, and what came of it: its summary, or why it failed."""

    label: str
    path: Path
    seed: Any
    found: Summary | str


def sweep(
    mappings: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    given: Sequence[Sequence[str]],
    console: Console,
    simulate: Simulate,
) -> int:
    """Run the jobs of a sweep, show their table and keep it as ``NAME-sweep.json``.

    A job whose folder is there with the same configuration is taken as it is when it is finished,
    and gone on with when it isn't.

    Args:
        mappings: composed configurations.
        labels: what tells the jobs apart.
        given: keys that stood on the command line, for each job.
        console: where to.
        simulate: runs one.

    Returns:
        The exit code: the largest of a job that failed.
    """
    jobs: list[_Job] = []
    failed = 0
    base = run_path(Asked.of(mappings[0]).run)
    for number, (mapping, label, keys) in enumerate(zip(mappings, labels, given, strict=True)):
        console.rule(cell(f"[{number + 1}/{len(mappings)}] {label}"))
        path = base.with_name(f"{base.name}-{number:03d}")
        found: Summary | str
        try:
            resume = _is_there(path, mapping) or bool(mapping.get("resume"))
            asked = {**mapping, "run": str(path), "resume": resume}
            found = simulate(asked, console, keys)
        except FedmodelError as error:  # the others still run
            say(console, f"failed: {error}", "red")
            found = f"failed: {type(error).__name__}"
            failed = max(failed, error.exit_code)
        jobs.append(_Job(label, path, mapping.get("seed"), found))
    console.print(sweep_table([(job.label, job.found) for job in jobs]))
    spreads = _spreads(jobs)
    if any(spread.runs > 1 for spread in spreads):
        console.print(spread_table(spreads))
    kept = base.with_name(f"{base.name}-sweep.json")
    write_atomic(kept, to_json(_mapping(jobs, spreads)))
    say(console, f"table: {kept}", wrap=False)
    return failed


def _is_there(path: Path, mapping: Mapping[str, Any]) -> bool:
    """Return whether a folder holds this very job; that of another is refused when it is run."""
    try:
        begun = dict(RunFolder.open(path).manifest.config)
    except FedmodelError:
        return False
    ours = config.to_mapping(mapping)
    for own in (begun, ours):
        own.pop("run", None)
        own.pop("resume", None)
    return bool(begun == ours)


def _spreads(jobs: Sequence[_Job]) -> list[Spread]:
    """Return the figures of jobs that differ by their seed only."""
    groups: dict[str, list[Summary]] = {}
    for job in jobs:
        words = (w for w in job.label.split(" ") if not w.lstrip("+").startswith("seed="))
        mine = groups.setdefault(" ".join(words), [])
        if isinstance(job.found, Summary):
            mine.append(job.found)
    return [Spread(label, len(found), _figures(found)) for label, found in groups.items() if found]


def _figures(found: Sequence[Summary]) -> dict[str, tuple[float, float | None]]:
    figures: dict[str, tuple[float, float | None]] = {}
    for name in _FIGURES:
        values = [summary.final[name] for summary in found if name in summary.final]
        if values and all(map(math.isfinite, values)):
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            figures[name] = (float(np.mean(values)), spread)
    return figures


_NOTHING: dict[str, Any] = {"failed": None, "final": {}, "released": None, "epsilon": None}


def _found(summary: Summary) -> dict[str, Any]:
    """Return what is kept of a finished job; its released accuracy is ``None`` where none is."""
    told = summary.released
    released = None
    if told is not None:
        released = {"accuracy": told.accuracy, "standard_error": told.standard_error}
    return {
        "final": dict(summary.final),
        "released": released,
        "epsilon": summary.privacy.epsilon,
    }


def _mapping(jobs: Sequence[_Job], spreads: Sequence[Spread]) -> dict[str, Any]:
    rows = []
    for job in jobs:
        row: dict[str, Any] = {"job": job.label, "run": str(job.path), "seed": job.seed}
        found = _found(job.found) if isinstance(job.found, Summary) else {"failed": job.found}
        rows.append({**row, **_NOTHING, **found})
    means = [
        {
            "job": each.label,
            "runs": each.runs,
            "mean": {name: mean for name, (mean, _) in each.figures.items()},
            "sd": {name: sd for name, (_, sd) in each.figures.items()},
        }
        for each in spreads
    ]
    return {"schema": SCHEMA, "jobs": rows, "over_seeds": means}
