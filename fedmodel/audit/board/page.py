"""The page of a report: one HTML file that loads nothing, and the PDF that is printed of it."""

import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmodel._escape import escaped
from fedmodel._text import listed, show_epsilon
from fedmodel.audit.board.answers import LIMITS
from fedmodel.audit.board.facts import Facts
from fedmodel.audit.board.picture import COLOURS, budget_picture, picture_text, with_variables
from fedmodel.audit.board.report import Report
from fedmodel.audit.show import alike
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.errors import MissingExtraError, UnavailableError
from fedmodel.identity.names import grouped

__all__ = ["report_page", "report_pdf"]

_MOST = 5
_TONES = {
    Verdict.PASS: "good",
    Verdict.FAIL: "bad",
    Verdict.INCONCLUSIVE: "open",
    Verdict.NOT_TESTED: "quiet",
}
_ADVICE = {"release": "good", "release under conditions": "open", "don't release": "bad"}


@dataclass(frozen=True, slots=True)
class _Line:
    """Checks that have found the same, in one line."""

    name: str
    parties: str
    verdict: Verdict
    reason: str
    entry: str
    tone: str


def report_page(report: Report) -> str:
    """Return the page: HTML that needs nothing beside it.

    Args:
        report: what it says.

    Raises:
        MissingExtraError: when the packages for it aren't installed.
    """
    picture = budget_picture(report.facts)
    return _rendered(report, None if picture is None else with_variables(picture))


def report_pdf(report: Report) -> bytes:
    """Return the page as it is printed: PDF, tagged (PDF/UA-1).

    Args:
        report: what it says.

    Raises:
        MissingExtraError: when the packages for it aren't installed.
        UnavailableError: when the machine lacks Pango, which sets the text.
    """
    try:
        logging.getLogger("weasyprint").setLevel(logging.ERROR)
        from weasyprint import HTML
    except ImportError as error:
        raise MissingExtraError("a report's PDF", "report") from error
    except OSError as error:
        raise UnavailableError(
            "report.pdf can't be made: this machine lacks Pango (on Debian: apt install "
            f"libpango-1.0-0 libpangoft2-1.0-0): {escaped(str(error)):.200}"
        ) from error
    file = io.BytesIO()
    page = HTML(string=_rendered(report, budget_picture(report.facts)), url_fetcher=_nothing)
    page.write_pdf(file, pdf_variant="pdf/ua-1")
    return file.getvalue()


def _nothing(url: str, *rest: Any, **named: Any) -> dict[str, Any]:
    raise ValueError(f"a report loads nothing, and asked for {url:.200}")


def _rendered(report: Report, picture: str | None) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("a report's page", "report") from error
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": escaped, "figure": _figure, "sentence": _sentence, "grouped": grouped}
    return made.get_template("page.html.jinja").render(
        report=report,
        tone=_ADVICE[report.advice.advice],
        colours=COLOURS,
        # Our own picture: names in it were escaped when it was drawn.
        picture=None if picture is None else Markup(picture),  # noqa: S704
        picture_text=picture_text(report.facts),
        families={name: _lines(checks) for name, checks in report.findings.checks.items()},
        participation=_participation(report.facts),
        limits=LIMITS,
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else show_epsilon(value)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _lines(checks: Sequence[Check]) -> list[_Line]:
    """Return the checks of a family, those that have found the same of several parties in one."""
    found = []
    for some in alike(checks):
        first = some[0]
        found.append(
            _Line(
                name=first.name,
                parties=listed([each.party for each in some], _MOST),
                verdict=first.verdict,
                reason=first.reason,
                entry=listed([each.entry for each in some if each.entry], _MOST),
                tone=_TONES[first.verdict],
            )
        )
    return found


def _participation(facts: Facts) -> str:
    """Return in a sentence how many updates came in how many rounds."""
    rounds = facts.records.rounds
    if not rounds:
        return "No round is counted in these records."
    counts = Counter(each.updates for each in rounds)
    told = "; ".join(
        f"{number} {'site' if number == 1 else 'sites'} in {times} of them"
        for number, times in sorted(counts.items(), reverse=True)
    )
    planned = facts.job.train.rounds
    return f"The coordinator counts {len(rounds)} of {planned} rounds, with updates of: {told}."
