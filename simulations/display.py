"""Progress of a run on a terminal, while it goes."""

import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fedmodel._escape import escaped

__all__ = ["Display", "say"]

logger = logging.getLogger(__name__)

_NAMED = 8  # sites named for one reason
_STEP_INTERVAL = 0.1  # seconds between redraws, so that tiny steps don't pay for the display


def say(console: Console, text: str, style: str | None = None, *, wrap: bool = True) -> None:
    """Print a text as it stands: no markup is read in it, and what isn't printable is escaped."""
    console.print(
        escaped(text), style=style, markup=False, highlight=False, emoji=False, soft_wrap=not wrap
    )


class Display:
    """A progress display: a line for each round, and bars below them on a terminal.

    Args:
        console: where to.
        rounds: of the run.
        steps: of a site in a round.
        names: node id → site.
    """

    def __init__(
        self, console: Console, rounds: int, steps: int, names: Mapping[int, str] | None = None
    ) -> None:
        self._console = console
        self._names = names or {}
        self._rounds = rounds
        self._steps = steps
        self._live = console.is_terminal
        self._pending = 0
        self._drawn = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._round_task = self._progress.add_task("rounds", total=rounds, note="")
        self._step_task = self._progress.add_task("site steps", total=None, note="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def joined(self, sites: dict[int, str | None]) -> None:
        """Say who joined."""
        refused = {node: reason for node, reason in sites.items() if reason}
        self._say(f"{len(sites) - len(refused)} of {len(sites)} sites joined")
        self._say_why("refused", refused)

    def _say_why(self, what: str, reasons: Mapping[int, str]) -> None:
        """Say each reason once, with the sites that it is the reason of."""
        by_reason: dict[str, list[str]] = {}
        for node, reason in sorted(reasons.items()):
            by_reason.setdefault(reason, []).append(self._names.get(node, f"node {node}"))
        for reason, names in by_reason.items():
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            self._say(f"  {', '.join(names[:_NAMED])}{more} {what}: {reason}", "yellow")

    def _say(self, text: str, style: str | None = None, *, wrap: bool = True) -> None:
        logger.info("%s", text.strip())
        say(self._console, text, style, wrap=wrap)

    def round_started(self, number: int, sites: int) -> None:
        """Begin a round's step bar."""
        self._pending = 0
        self._progress.update(self._round_task, completed=number - 1)
        self._progress.reset(self._step_task, total=sites * self._steps)

    def step(self) -> None:
        """Count one local step of some site."""
        self._pending += 1
        now = time.monotonic()
        if self._live and now - self._drawn > _STEP_INTERVAL:
            self._progress.advance(self._step_task, self._pending)
            self._pending, self._drawn = 0, now

    def round_ended(self, number: int, metrics: dict[str, Any]) -> None:
        """Show a round's metrics."""
        shown = [
            f"{name} {metrics[name]:.3f}"
            for name in ("accuracy", "macro_f1", "loss", "train_loss")
            if name in metrics
        ]
        if "step" in metrics:
            shown.append(f"update {metrics['update']:.1e} in steps of {metrics['step']:.1e}")
        if "reason" in metrics:
            shown.append("no sum")
        if metrics.get("failures"):
            shown.append(f"{len(metrics['failures'])} site(s) gave no update")
            self._say_why("gave no update", {int(n): w for n, w in metrics["failures"].items()})
        note = " · ".join(shown).replace("_", " ")
        self._progress.update(self._round_task, completed=number, note=note)
        self._say(f"round {number}/{self._rounds}: {note}", wrap=False)
