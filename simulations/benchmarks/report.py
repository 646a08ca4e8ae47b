"""Output of every benchmark: the machine, and figures with their goals."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "arguments", "machine", "publish"]

_PACKAGES = ("torch", "flwr", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number.

    Args:
        name: what was measured.
        value: the number.
        unit: of the number.
        goal: what it should at most (or at least) be; ``None`` for information only.
        better: which way is better.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    better: Literal["lower", "higher"] = "lower"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, ``None`` without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def _first_of(path: str, key: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(key))
    return next(found, "")


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, memory, versions, load."""
    out: dict[str, Any] = {
        "cpu": _first_of("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": os.cpu_count(),
        "memory": _first_of("/proc/meminfo", "MemTotal") or "unknown",
        "python": platform.python_version(),
        "load": list(os.getloadavg()),
    }
    for name in _PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def arguments(about: str, quick: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has.

    Args:
        about: what it measures.
        quick: what is other with ``--quick``.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def publish(figures: Sequence[Figure], title: str, out: Path, console: Console) -> None:
    """Print the figures as a table and write them, with the machine, as JSON."""
    about = machine()
    table = Table(title=title, caption=f"{about['cpu']}, {about['cores']} cores")
    for name in ("figure", "value", "goal", ""):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for figure in figures:
        sign = "≤" if figure.better == "lower" else "≥"
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
        verdict = {None: "", True: "met", False: "[red]missed[/red]"}[figure.met]
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}".strip(), goal, verdict)
    console.print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "figures": [asdict(figure) for figure in figures]}
    out.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    console.print(f"written to {out}", soft_wrap=True)
