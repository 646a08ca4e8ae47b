"""The page of a run: ``report.html``, self-contained."""

import html
import io

from rich.console import Console

from fedmodel._escape import escaped
from fedmodel.report.tables import summary_tables
from fedmodel.runs import Manifest, RunFolder, Summary, write_atomic

__all__ = ["report_page", "write_page"]


_FORMAT = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{stylesheet}
body {{ color: {foreground}; background-color: {background}; }}
pre {{ overflow-x: auto; font-family: Menlo, "DejaVu Sans Mono", Consolas, monospace; }}
</style>
</head>
<body>
<pre><code style="font-family: inherit">{code}</code></pre>
</body>
</html>
"""


def write_page(folder: RunFolder, summary: Summary, *, anew: bool = True) -> None:
    """Write a finished run's page.

    Args:
        folder: of the run.
        summary: what came of it.
        anew: also where there is one.

    Raises:
        RunFolderError: when it can't be written.
    """
    path = folder.path / "report.html"
    if anew or not path.exists():
        page = report_page(summary, folder.path.name, folder.manifest)
        write_atomic(path, page.encode())


def report_page(summary: Summary, name: str, manifest: Manifest | None = None) -> str:
    """Return an HTML page of a run's tables and notes; the same run gives the same page.

    Args:
        summary: what came of the run.
        name: of the run, for the heading.
        manifest: tells when it was begun, and why.
    """
    recorder = Console(record=True, file=io.StringIO(), width=100, emoji=False)
    for line in _begun(manifest) if manifest is not None else ():
        recorder.print(escaped(line), markup=False, highlight=False)
    for table in summary_tables(summary):
        recorder.print(table)
    for note in summary.notes:
        recorder.print(escaped(note), markup=False, highlight=False)
    # Tables of text are as wide as they are; on a narrow screen they scroll, and the page doesn't.
    page = recorder.export_html(inline_styles=True, code_format=_FORMAT)
    heading = f"<h1>{html.escape(escaped(f'fedmodel run {name}'))}</h1>"
    return page.replace("<body>", f"<body>\n{heading}", 1)


def _begun(manifest: Manifest) -> list[str]:
    lines = [f"begun: {manifest.created}, by fedmodel {manifest.fedmodel}"]
    if purpose := manifest.config.get("purpose"):
        lines.append(f"purpose: {purpose}")
    return lines
