"""Sweep of a simulation: its jobs in turn, those that are there already left out, and one table."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fedmodel import config
from fedmodel.errors import ConfigError, FedmodelError
from fedmodel.report.tables import Spread, cell, spread_table, sweep_table
from fedmodel.report.terminal import say
from fedmodel.runs import RunFolder, Summary, run_path, to_json, write_atomic
from simulations.scenario import Asked

__all__ = ["SCHEMA", "sweep"]

SCHEMA = "fedmodel.sweep/1"
_LONGEST = 500  # characters of a reason
_FIGURES = ("accuracy", "macro_f1", "loss")

# (composed configuration, console, keys given) → its summary.
Simulate = Callable[[dict[str, Any], Console, Sequence[str]], Summary]


@dataclass(frozen=True, slots=True)
class _Job:
    """One job, and what came of it: its summary, or how it failed, and the reason of that."""

    label: str
    path: Path
    seed: Any
    found: Summary | str
    reason: str | None = None


def sweep(
    mappings: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    given: Sequence[Sequence[str]],
    console: Console,
    simulate: Simulate,
) -> int:
    """Run the jobs of a sweep, show their table and keep it as ``NAME-sweep.json``.

    A job whose folder is there with the same configuration, whatever its number, is taken as it is
    when it is finished, and gone on with when it isn't.

    Args:
        mappings: composed configurations.
        labels: what tells the jobs apart.
        given: keys that stood on the command line, for each job.
        console: where to.
        simulate: runs one.

    Returns:
        The exit code: the largest of a job that failed.

    Raises:
        ConfigError: for jobs of several names.
    """
    jobs: list[_Job] = []
    failed = 0
    base = _base(mappings)
    places = _places(base, mappings)
    for number, (mapping, label, keys) in enumerate(zip(mappings, labels, given, strict=True)):
        console.rule(cell(f"[{number + 1}/{len(mappings)}] {label}"))
        path, resume = places[number]
        found: Summary | str
        reason = None
        try:
            resume = resume or bool(mapping.get("resume"))
            asked = {**mapping, "run": str(path), "resume": resume}
            found = simulate(asked, console, keys)
        except FedmodelError as error:  # the others still run
            say(console, f"failed: {error}", "red")
            found = f"failed: {type(error).__name__}"
            reason = _line(str(error))
            failed = max(failed, error.exit_code)
        jobs.append(_Job(label, path, mapping.get("seed"), found, reason))
    console.print(sweep_table([(job.label, job.found) for job in jobs]))
    spreads = _spreads(jobs)
    if any(spread.runs > 1 for spread in spreads):
        console.print(spread_table(spreads))
    kept = base.with_name(f"{base.name}-sweep.json")
    write_atomic(kept, to_json(_mapping(jobs, spreads)))
    say(console, f"table: {kept}", wrap=False)
    return failed


def _line(text: str) -> str:
    """Return a message that isn't long. As every error's it is one line, without a row's text."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _base(mappings: Sequence[Mapping[str, Any]]) -> Path:
    """Return the path whose name all jobs' folders begin with."""
    names = {Asked.of(mapping).run for mapping in mappings}
    if len(names) > 1:
        raise ConfigError(
            "run names a whole sweep, and its jobs get numbers behind it; give one run=NAME"
        )
    return run_path(names.pop())


def _places(base: Path, mappings: Sequence[Mapping[str, Any]]) -> list[tuple[Path, bool]]:
    """Return each job's folder, and whether this very job is there.

    A sweep of more values numbers its jobs anew: by number alone one that is finished, and has
    spent its ε, would be run again beside it.
    """
    known = [(path, begun) for path in _numbered(base) if (begun := _begun(path)) is not None]
    found: list[Path | None] = []
    for mapping in mappings:
        ours = _comparable(config.to_mapping(mapping))
        same = (path for path, begun in known if begun == ours and path not in found)
        found.append(next(same, None))
    held = {path for path, _ in known}
    free = (
        path
        for number in itertools.count(len(mappings))
        if not (path := _place(base, number)).exists()
    )
    places = []
    for number, (mapping, there) in enumerate(zip(mappings, found, strict=True)):
        own = _place(base, number)
        # Who says resume=true means the run that has this number; another job is refused there.
        moves = own in held and not mapping.get("resume")
        places.append((there or (next(free) if moves else own), there is not None))
    return places


def _place(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}-{number:03d}")


def _numbered(base: Path) -> list[Path]:
    """Return the folders that a sweep of this name may have made, by their numbers."""
    pattern = re.compile(re.escape(base.name) + r"-(\d{3,})")
    if not base.parent.is_dir():
        return []
    found = [path for path in base.parent.iterdir() if pattern.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _begun(path: Path) -> dict[str, Any] | None:
    """Return the configuration of the run in a folder, ``None`` where there is none to read."""
    try:
        return _comparable(RunFolder.open(path).manifest.config)
    except FedmodelError:
        return None


def _comparable(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in ("run", "resume")}


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


_NOTHING: dict[str, Any] = {
    "failed": None,
    "reason": None,
    "final": {},
    "released": None,
    "epsilon": None,
}


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
        found = {"failed": job.found, "reason": job.reason}
        if isinstance(job.found, Summary):
            found = _found(job.found)
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
