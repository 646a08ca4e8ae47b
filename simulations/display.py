"""What a person sees of a run: progress while it goes, a summary when it ends."""

import html
import io
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fedmodel.job import show_epsilon

__all__ = ["Display", "report_page", "summary_tables", "sweep_table"]

_STEP_INTERVAL = 0.1  # seconds between redraws, so that tiny steps don't pay for the display


class Display:
    """A progress display; on something that isn't a terminal, one line per round."""

    def __init__(self, console: Console, rounds: int, steps: int) -> None:
        self._console = console
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
        refused = [reason for reason in sites.values() if reason]
        self._console.print(f"{len(sites) - len(refused)} of {len(sites)} sites joined")
        for reason in refused:
            self._console.print(f"  refused: {reason}", style="yellow")

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
        if metrics.get("failures"):
            shown.append(f"{len(metrics['failures'])} site(s) gave no update")
        note = " · ".join(shown).replace("_", " ")
        self._progress.update(self._round_task, completed=number, note=note)
        if not self._live:
            self._console.print(f"round {number}/{self._rounds}: {note}", soft_wrap=True)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def summary_tables(
    summary: Mapping[str, Any], rows: Mapping[str, int] | None = None
) -> list[Table]:
    """Return the per-site and the overall table.

    Args:
        summary: content of ``summary.json``.
        rows: site → number of training rows, for the researcher's own eyes: they are neither in the
            summary nor in the page that goes with the run folder.
    """
    privacy, final, seconds = summary["privacy"], summary["final"], summary["time"]
    private = privacy["mechanism"] != "none"
    sites = Table(title="sites")
    sites.add_column("site")
    # Where a site's ledger is older than the run, what its rows have cost in all is another number.
    older = any(s.get("epsilon_total") != s["epsilon"] for s in privacy["sites"].values())
    more = ["in all runs"] if private and older else []
    for name in (*(["rows"] if rows else []), "steps", "ε spent", *more):
        sites.add_column(name, justify="right")
    for name, site in privacy["sites"].items():
        spent = show_epsilon(site["epsilon"]) if private else "no privacy"
        note = f" (refused: {site['refused']})" if site["refused"] else ""
        count = [str(rows[name])] if rows else []
        whole = site.get("epsilon_total")
        total = ["unknown" if whole is None else show_epsilon(whole)] if more else []
        sites.add_row(name, *count, f"{site['steps']}{note}", spent, *total)
    overall = Table(title="overall", show_header=False)
    overall.add_column()
    overall.add_column(justify="right")
    overall.add_row("rounds", str(summary["rounds"]))
    released = summary.get("released")
    overall.add_row("accuracy", _percent(final["accuracy"]))
    if released:
        # Of the same rows; what is above them only the researcher of a simulation can see.
        overall.add_row("  as released under DP", _share(released))
    overall.add_row("  always the majority class", _percent(final["majority"]))
    overall.add_row("macro-F1", _percent(final["macro_f1"]))
    overall.add_row("test loss", f"{final['loss']:.3f}")
    if private:
        claim = f"({show_epsilon(privacy['epsilon'])}, {privacy['delta']:g}) per {privacy['unit']}"
        overall.add_row("(ε, δ), worst site", claim)
    for name, epsilon in privacy.get("adversaries", {}).items():
        overall.add_row(f"  against: {name}", show_epsilon(epsilon))
    overall.add_row("training", f"{seconds['train_s']:.1f} s")
    overall.add_row("everything else", f"{seconds['overhead_s']:.1f} s")
    traffic = summary["traffic"]
    megabytes = f"{traffic['bytes_up'] / 1e6:.2f} / {traffic['bytes_down'] / 1e6:.2f} MB"
    overall.add_row("sent up / down", megabytes)
    return [sites, overall]


def _share(released: Mapping[str, Any]) -> str:
    if released["accuracy"] is None:
        return "lost in the noise"
    return f"{100 * released['accuracy']:.1f} ± {100 * released['standard_error']:.1f} %"


def sweep_table(results: list[tuple[str, Mapping[str, Any] | str]]) -> Table:
    """Return one row per job of a sweep; a failed one shows why."""
    table = Table(title="sweep")
    told = any(not isinstance(s, str) and s.get("released") for _, s in results)
    names = ["job", "accuracy", *(["released"] if told else []), "macro-F1", "loss", "ε", "seconds"]
    for name in names:
        table.add_column(name, justify="left" if name == "job" else "right")
    for label, summary in results:
        if isinstance(summary, str):
            table.add_row(label, summary)
            continue
        final, epsilon = summary["final"], summary["privacy"]["epsilon"]
        released = summary.get("released")
        table.add_row(
            label or "(defaults)",
            _percent(final["accuracy"]),
            *([_share(released) if released else "–"] if told else []),
            _percent(final["macro_f1"]),
            f"{final['loss']:.3f}",
            "–" if epsilon is None else show_epsilon(epsilon),
            f"{summary['time']['total_s']:.1f}",
        )
    return table


def report_page(tables: list[Table], title: str, notes: Sequence[str] = ()) -> str:
    """Return a self-contained HTML page of the tables and notes, for ``report.html``."""
    recorder = Console(record=True, file=io.StringIO(), width=100)
    for table in tables:
        recorder.print(table)
    for note in notes:
        recorder.print(note, markup=False, highlight=False)
    theme = f"<h1>{html.escape(title)}</h1>"
    page = recorder.export_html(inline_styles=True)
    return page.replace("<body>", f"<body>\n{theme}", 1)
