"""Statements of account as tables."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedmodel._escape import escaped
from fedmodel._text import show_epsilon
from fedmodel.budget.statement import RunLine, Statement, Sum, WhatIf

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = ["tables"]


def tables(shown: Sequence[Statement], costs: Sequence[WhatIf]) -> list["RenderableType"]:
    """Return one table for each ledger, one for what a job would cost, and why it is refused."""
    found: list[RenderableType] = [_ledger(each) for each in shown]
    return [*found, _costs(costs), *_refusals(costs)] if costs else found


def _ledger(shown: Statement) -> "Table":
    from rich.table import Table

    from fedmodel.report.tables import cell  # as rich, only for tables

    table = Table(
        title=cell(f"site {shown.site}, dataset {shown.dataset}"), caption=cell(_rows(shown))
    )
    for name in ("run\njob", "state", "protects\nat δ"):
        table.add_column(name, overflow="fold")
    for name in ("steps", "ε\nspent", "with\nreserved", "left\nof cap"):
        table.add_column(name, justify="right")
    for line in shown.runs:
        named = f"{cell(line.run)}\n{cell(line.job[:8])}"
        table.add_row(named, line.state, *_sum(line.sum, _steps(line)))
    table.add_section()
    for each in shown.totals:
        table.add_row("all runs", "", *_sum(each, ""), style="bold")
    return table


def _steps(line: RunLine) -> str:
    """Return how many steps were trained; an evaluation is one on all rows, and is said apart."""
    if not line.evaluations:
        return str(line.steps)
    return f"{line.steps - line.evaluations}\n+ {line.evaluations} to\nevaluate"


def _sum(each: Sum, steps: str) -> list[str]:
    left = "–" if each.left is None else f"{_left(each.left)}\nof {each.cap:g}"
    return [
        f"{each.unit}, {each.adjacency}\nδ = {each.delta:g}",
        steps,
        _show(each.spent),
        _show(each.reserved),
        left,
    ]


def _rows(shown: Statement) -> str:
    if shown.rows is None:
        return f"ledger {shown.ledger}"
    if shown.added is None or shown.removed is None:
        change = "changed; by how many isn't known"
    else:
        change = f"+{shown.added} −{shown.removed} at the last join"
    return f"{shown.rows} rows ({change}); ledger {shown.ledger}"


def _costs(costs: Sequence[WhatIf]) -> "Table":
    from rich.table import Table

    from fedmodel.report.tables import cell  # as rich, only for tables

    table = Table(title="what the job would cost")
    for name in ("site", "dataset", "protects"):
        table.add_column(name)
    for name in ("ε now", "with the job", "cap"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in costs:
        table.add_row(
            cell(each.site),
            cell(each.dataset),
            each.unit,
            _show(each.before),
            _show(each.after),
            "–" if each.cap is None else f"{each.cap:g}",
            "fits" if each.refusal is None else "refused",
            style="red" if each.refusal else None,
        )
    return table


def _refusals(costs: Sequence[WhatIf]) -> list["Text"]:
    """Return the words of each refusal: too long for a column, and told once for each site."""
    from rich.text import Text

    datasets: dict[tuple[str, str], list[str]] = {}
    for each in costs:
        if each.refusal is not None:
            datasets.setdefault((each.site, each.refusal), []).append(each.dataset)
    return [
        Text(escaped(f"site {site}, dataset {', '.join(names)}: {refusal}"), style="red")
        for (site, refusal), names in datasets.items()
    ]


def _show(epsilon: float | None) -> str:
    if epsilon is None:
        return "unknown"
    return show_epsilon(epsilon) if math.isfinite(epsilon) else "∞"


def _left(left: float) -> str:
    """Return what is left, rounded down."""
    return f"{math.floor(left * 1000) / 1000:.3f}" if math.isfinite(left) else "−∞"
