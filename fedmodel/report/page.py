"""The page of a run: ``report.html``, self-contained."""

import html
import io

from rich.console import Console

from fedmodel._escape import escaped
from fedmodel.report.tables import summary_tables
from fedmodel.runs import Summary

__all__ = ["report_page"]


def report_page(summary: Summary, name: str) -> str:
    """Return an HTML page of a run's tables and notes; the same summary gives the same page.

    Args:
        summary: what came of the run.
        name: of the run, for the heading.
    """
    recorder = Console(record=True, file=io.StringIO(), width=100, emoji=False)
    for table in summary_tables(summary):
        recorder.print(table)
    for note in summary.notes:
        recorder.print(escaped(note), markup=False, highlight=False)
    page = recorder.export_html(inline_styles=True)
    heading = f"<h1>{html.escape(escaped(f'fedmodel run {name}'))}</h1>"
    return page.replace("<body>", f"<body>\n{heading}", 1)
