"""Tables of a run's summary, and of a sweep's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape as without_markup
from rich.table import Table

from fedmodel._escape import escaped
from fedmodel._text import show_epsilon
from fedmodel.runs import Hiding, ReleasedAccuracy, ReleasedScore, RunTime, Summary, Traffic

__all__ = ["Spread", "cell", "spread_table", "summary_tables", "sweep_table"]

_METRICS = {
    "majority": "  always the majority class",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "loss": "test loss",
}
_SHARES = {"accuracy", "majority", "micro_f1", "macro_f1", "f1"}


def cell(text: str) -> str:
    """Return a text for a cell or title of a table: as it stands, no markup and no control."""
    return without_markup(escaped(text))


def summary_tables(summary: Summary, rows: Mapping[str, int] | None = None) -> list[Table]:
    """Return the per-site and the overall table.

    Args:
        summary: what came of the run.
        rows: site → number of training rows, for the researcher's own eyes: they are neither in the
            summary nor in the page that goes with the run folder.
    """
    return [_sites(summary, rows or {}), _overall(summary)]


def _sites(summary: Summary, rows: Mapping[str, int]) -> Table:
    table = Table(title="sites")
    table.add_column("site")
    sites = summary.privacy.sites
    if summary.privacy.basis == "plan":
        return _by_plan(table, summary)
    # Where a site's ledger is older than the run, what its rows have cost in all is another number.
    older = any(site.epsilon_total != site.epsilon for site in sites.values())
    more = ["in all runs"] if older else []
    for name in (*(["rows"] if rows else []), "steps", "ε spent", *more):
        table.add_column(name, justify="right")
    for name, site in sites.items():
        note = f" (refused: {cell(site.refused)})" if site.refused else ""
        spent = "no privacy" if site.epsilon is None else show_epsilon(site.epsilon)
        total = "unknown" if site.epsilon_total is None else show_epsilon(site.epsilon_total)
        count = [str(rows[name])] if rows else []
        table.add_row(cell(name), *count, f"{site.steps}{note}", spent, *([total] if older else []))
    return table


def _by_plan(table: Table, summary: Summary) -> Table:
    """Fill the table of the sites with what a coordinator knows: no site's own figures."""
    for name in ("rounds", "ledger entries", "ε at most"):
        table.add_column(name, justify="right")
    for name, site in summary.privacy.sites.items():
        note = f" (refused: {cell(site.refused)})" if site.refused else ""
        most = "no privacy" if site.epsilon is None else show_epsilon(site.epsilon)
        entries = "–" if site.ledger is None else str(site.ledger.entries)
        table.add_row(cell(name), f"{site.rounds or 0}{note}", entries, most)
    return table


def _overall(summary: Summary) -> Table:
    privacy, final, traffic = summary.privacy, summary.final, summary.traffic
    table = Table(title="overall", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("rounds", str(summary.rounds))
    if "accuracy" in final:
        table.add_row("accuracy", _metric(final, "accuracy"))
    if summary.released is not None:
        # Of the same rows; what is above them only the researcher of a simulation can see.
        table.add_row("  as released under DP", _share(summary.released))
    scores = summary.released.scores if summary.released is not None else {}
    for name in (*_METRICS, *sorted(set(final) - {"accuracy", *_METRICS})):
        if name in final:
            table.add_row(_words(name, final), _metric(final, name))
        if name in scores:
            table.add_row("  as released under DP", _margin(scores[name]))
    most = ", at most" if privacy.basis == "plan" else ""
    if privacy.epsilon is not None and privacy.delta is not None:
        claim = f"({show_epsilon(privacy.epsilon)}, {privacy.delta:g}) per {privacy.unit}"
        table.add_row(f"(ε, δ), worst site{most}", claim)
    for name, epsilon in privacy.adversaries.items():
        table.add_row(f"  against: {cell(name)}{most}", show_epsilon(epsilon))
    for row in (*_rounding(summary.secagg), *_times(summary.time), *_traffic(traffic)):
        table.add_row(*row)
    return table


def _rounding(hidden: Hiding) -> list[tuple[str, str]]:
    if hidden.step is None or hidden.update is None:
        return []
    return [("last update / rounding step", f"{hidden.update:.2g} / {hidden.step:.2g}")]


def _times(time: RunTime) -> list[tuple[str, str]]:
    """Return where the time went, as far as it is known."""
    if time.train_s is None or time.overhead_s is None:
        return [("from start to end", f"{time.total_s:.1f} s")]
    return [
        ("training", f"{time.train_s:.1f} s"),
        ("everything else", f"{time.overhead_s:.1f} s"),
    ]


def _traffic(traffic: Traffic | None) -> list[tuple[str, str]]:
    if traffic is None:
        return []
    megabytes = f"{traffic.bytes_up / 1e6:.2f} / {traffic.bytes_down / 1e6:.2f} MB"
    return [("sent up / down", megabytes)]


def _words(name: str, final: Mapping[str, float]) -> str:
    """Return words for a metric; one of a single label is named by both, with a dot between."""
    if name == "majority" and "micro_f1" in final:  # of sets of labels, not of classes
        return "  always the commonest set of labels"
    kind, dot, label = name.partition(".")
    return (
        f"  {cell(kind.upper())} of {cell(label)}"
        if dot
        else _METRICS.get(name, cell(name.replace("_", " ")))
    )


def _metric(final: Mapping[str, float], name: str) -> str:
    """Return a metric as it is shown; a coordinator without test rows has none."""
    if name not in final:
        return "–"
    share = name.partition(".")[0] in _SHARES
    return f"{100 * final[name]:.1f} %" if share else f"{final[name]:.3f}"


def _share(released: ReleasedAccuracy) -> str:
    accuracy = ReleasedScore(value=released.accuracy, standard_error=released.standard_error)
    return _margin(accuracy)


def _margin(score: ReleasedScore) -> str:
    """Return a share with the interval of two standard errors of its noise, as far as there is."""
    if score.value is None or score.standard_error is None:
        return "lost in the noise"
    low, high = (score.value + sign * 2 * score.standard_error for sign in (-1, 1))
    return f"{100 * score.value:.1f} % ({100 * max(0.0, low):.0f} to {100 * min(1.0, high):.0f})"


@dataclass(frozen=True, slots=True)
class Spread:
    """Figures of jobs that differ by their seed only.

    Args:
        label: what tells them from the others of the sweep; empty where nothing does.
        runs: how many came to their end.
        figures: name → mean, and standard deviation (n - 1) where there are two or more.
    """

    label: str
    runs: int
    figures: Mapping[str, tuple[float, float | None]]


def spread_table(spreads: Sequence[Spread]) -> Table:
    """Return one row for jobs that differ by their seed only: mean ± standard deviation."""
    table = Table(title="over seeds: mean ± standard deviation")
    table.add_column("job", overflow="fold")
    for name in ("runs", "accuracy", "macro-F1", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in spreads:
        shown = [_spread(each, name) for name in ("accuracy", "macro_f1", "loss")]
        table.add_row(cell(each.label) or "(defaults)", str(each.runs), *shown)
    return table


def _spread(each: Spread, name: str) -> str:
    if name not in each.figures:
        return "–"
    mean, sd = each.figures[name]
    share = name.partition(".")[0] in _SHARES
    scale, unit, digits = (100, " %", 1) if share else (1, "", 3)
    spread = "" if sd is None else f" ± {scale * sd:.{digits}f}"
    return f"{scale * mean:.{digits}f}{spread}{unit}"


def sweep_table(results: Sequence[tuple[str, Summary | str]]) -> Table:
    """Return one row per job of a sweep.

    Args:
        results: what tells a job from the others, and what came of it: its summary, or why it
            failed.
    """
    table = Table(title="sweep")
    summaries = [found for _, found in results if isinstance(found, Summary)]
    released = any(summary.released for summary in summaries)
    names = ["job", "accuracy", *(["released"] if released else []), "macro-F1", "loss", "ε"]
    table.add_column("job", overflow="fold")  # a name that is cut tells no job from another
    for name in (*names[1:], "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, summary in results:
        if isinstance(summary, str):  # in the job's column too: in another its width would be lost
            table.add_row(f"{cell(label) or '(defaults)'}\n{cell(summary)}", "–")
            continue
        final, epsilon = summary.final, summary.privacy.epsilon
        share = "–" if summary.released is None else _share(summary.released)
        share = share.replace(" (", "\n(")  # narrow, or 80 columns would cut words of the job
        table.add_row(
            cell(label) or "(defaults)",
            _metric(final, "accuracy"),
            *([share] if released else []),
            _metric(final, "macro_f1"),
            _metric(final, "loss"),
            "–" if epsilon is None else show_epsilon(epsilon),
            f"{summary.time.total_s:.1f}",
        )
    return table
