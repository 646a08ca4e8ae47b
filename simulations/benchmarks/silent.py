"""Simulations within a benchmark: in its own process, and without a word."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedmodel import cli
from fedmodel.runs import Summary
from simulations.run import simulate

__all__ = ["simulated"]


def simulated(words: Sequence[str], folder: Path) -> Summary:
    """Run what a command line would, and return what came of it.

    Args:
        words: of the command line, after ``fedmodel simulate``.
        folder: of the run.
    """
    mapping = cli.compose("simulate", [*words, f"run='{folder}'"])
    return simulate(mapping, Console(file=io.StringIO()))
