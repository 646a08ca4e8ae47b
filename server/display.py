"""Display of a run's rounds: who joined, a line for each round, and why there is none."""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from rich.console import Console

from fedmodel._escape import escaped
from fedmodel._text import listed
from fedmodel.report.terminal import say

__all__ = ["Display", "Rounds"]

logger = logging.getLogger(__name__)

_NAMED = 8  # sites named for one reason
_ABOVE = "as said above"
_LEFT = "left the round"


class Rounds(Protocol):
    """Who is told where a run's rounds are (a progress display)."""

    def round_started(self, number: int, rounds: int, steps: int) -> None:
        """A round of so many begins, of so many steps by all its sites."""

    def round_ended(self) -> None:
        """It has ended."""


class Display:
    """Who a coordinator tells how a run goes; its lines stay, on the console and in the log.

    Args:
        progress: what is below them on a terminal.
        console: where to.
        rounds: of the run.
        steps: of a site in a round.
        names: node id → site.
    """

    def __init__(
        self,
        progress: Rounds,
        console: Console,
        rounds: int,
        steps: int,
        names: Mapping[int, str] | None = None,
    ) -> None:
        self._console, self._progress = console, progress
        self._names = names or {}
        self._rounds = rounds
        self._steps = steps
        self._reasons: set[str] = set()

    def sites_joined(self, sites: dict[int, str | None]) -> None:
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
            self._reasons.add(reason)
            self._say(f"  {listed(names, _NAMED)} {what}: {reason}", "yellow")

    def unsaid(self, message: str) -> str:
        """Return a message without the reasons that stand above it already."""
        if self._console.quiet:
            return message
        for reason in sorted(self._reasons, key=len, reverse=True):
            message = message.replace(escaped(reason), _ABOVE)
        return re.sub(f"{_ABOVE}(; {_ABOVE})+", _ABOVE, message)

    def _say(self, text: str, style: str | None = None, *, wrap: bool = True) -> None:
        logger.info("%s", text.strip())
        say(self._console, text, style, wrap=wrap)

    def round_started(self, number: int, sites: int) -> None:
        """Begin a round."""
        self._progress.round_started(number, self._rounds, sites * self._steps)

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        """Show a round's metrics, and who has failed in it.

        Args:
            number: of the round.
            metrics: its line.
            gave: the nodes whose updates are in its mean: of a secure sum also who failed in a leg
                after that of the updates.
        """
        shown = [
            f"{name} {metrics[name]:.3f}"
            for name in ("accuracy", "macro_f1", "loss", "train_loss")
            if name in metrics
        ]
        if "step" in metrics:
            shown.append(f"update {metrics['update']:.1e} in steps of {metrics['step']:.1e}")
        if "reason" in metrics:
            shown.append("no sum")
        failures = {int(n): why for n, why in metrics.get("failures", {}).items()}
        # Where there is no sum nobody's update counts, but somebody may have given one.
        lost = _LEFT if "reason" in metrics else "gave no update"
        for what, nodes in (
            (lost, failures.keys() - set(gave)),
            (f"{_LEFT} after giving an update, which counts", failures.keys() & set(gave)),
        ):
            if nodes:
                shown.append(f"{len(nodes)} site(s) {what}")
                self._say_why(what, {node: failures[node] for node in nodes})
        note = " · ".join(shown).replace("_", " ")
        self._progress.round_ended()
        self._say(f"round {number}/{self._rounds}" + (f": {note}" if note else ""), wrap=False)
