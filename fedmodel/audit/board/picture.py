"""The picture of the budget: how ε of each site grew over the rounds, beside what was promised."""

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedmodel._escape import escaped
from fedmodel._text import listed, show_epsilon
from fedmodel.audit.board.facts import Course, Facts
from fedmodel.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "budget_picture", "picture_text", "with_variables"]

_MOST = 3
_INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour of the picture; its contrast to the page is at least 4.5 in both schemes.

    Args:
        name: of the page's variable.
        light: on white, hex.
        dark: on a dark page, hex.
    """

    name: str
    light: str
    dark: str


_INK = Colour("--ink", "#1b1b1f", "#e8e8ea")
_PROMISE = Colour("--promise", "#a8201a", "#ff8a80")
_LINES = (
    Colour("--line-1", "#0b5394", "#8ab4f8"),
    Colour("--line-2", "#38761d", "#93d18c"),
    Colour("--line-3", "#7a3e9d", "#d0a5f0"),
    Colour("--line-4", "#8a5a00", "#f0c060"),
    Colour("--line-5", "#00707a", "#6fd6df"),
)
COLOURS = (_INK, _PROMISE, *_LINES)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))


def budget_picture(facts: Facts) -> str | None:
    """Return the picture as SVG on no ground; ``None`` where no ledger tells how ε grew.

    Args:
        facts: of the run.

    Raises:
        MissingExtraError: when matplotlib isn't installed.
    """
    if not facts.courses:
        return None
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("a report's picture", "report") from error
    settings: Any = {
        "svg.fonttype": "none",  # text stays text: it can be read out, searched and scaled
        "svg.hashsalt": "fedmodel",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.parse_math": False,  # names are others' texts
        **dict.fromkeys(_INKED, _INK.light),
    }
    with rc_context(settings):
        figure = Figure(figsize=(6.8, 3.4), layout="constrained")
        _draw(figure.subplots(), facts)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue())


def _draw(axes: "Axes", facts: Facts) -> None:
    """Draw how ε grew at the sites, and what was promised."""
    from matplotlib.ticker import MaxNLocator

    for number, course in enumerate(facts.courses):
        axes.step(
            (0, *course.rounds),
            (0.0, *course.epsilons),
            where="post",
            color=_LINES[number % len(_LINES)].light,
            linestyle=_DASHES[number % len(_DASHES)],
            label=_label(course),
        )
    promised = facts.job.privacy.epsilon
    axes.axhline(promised, color=_PROMISE.light, linewidth=1, label=f"promised: {promised:g}")
    axes.set_xlim(0, max(course.rounds[-1] for course in facts.courses))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round")
    axes.set_ylabel("ε of the run, training")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)


def with_variables(svg: str) -> str:
    """Return the picture with the page's variables for its colours."""
    for each in COLOURS:
        svg = svg.replace(each.light, f"var({each.name})")
    return svg


def _label(course: Course) -> str:
    return escaped(listed(course.sites, _MOST))


def _inline(svg: str) -> str:
    """Return an SVG as it stands in a page: no prologue, and the page says what it shows."""
    start = svg.index("<svg")
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[start:], flags=re.DOTALL)
    return body.replace("<svg", '<svg role="img" aria-describedby="budget-text" ', 1)


def picture_text(facts: Facts) -> list[str]:
    """Return in words what the picture shows."""
    promised = facts.job.privacy.epsilon
    lines = []
    for course in facts.courses:
        points = list(zip(course.rounds, course.epsilons, strict=True))
        middle = points[1:-1][len(points) // 2 - 1 : len(points) // 2]
        shown = [points[0], *middle, points[-1]] if len(points) > 1 else points
        told = ", ".join(f"{show_epsilon(value)} after round {number}" for number, value in shown)
        lines.append(f"{_label(course)}: ε = {told}; {promised:g} was promised.")
    if facts.uncharted:
        lines.append(f"{facts.uncharted} more courses aren't drawn.")
    return lines
