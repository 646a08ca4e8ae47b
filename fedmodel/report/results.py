"""Results in a model card: the data's classes, the evaluation, and where figures would mislead.

Of rows that are private nothing is said but what the sites released.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fedmodel import tasks
from fedmodel._escape import escaped
from fedmodel.report.caveats import caveats
from fedmodel.report.markdown import code, number, plain, table
from fedmodel.report.particulars import Particulars
from fedmodel.runs import ReleasedAccuracy, Summary

__all__ = ["data", "evaluation", "misleading"]

_LISTED = 40  # classes in a table
_FILL_IN = "Fill in: what the rows are, whence, of whom, when, in which language."


def data(job: Mapping[str, Any], summary: Summary, particulars: Particulars) -> str:
    """Return the section on the rows: what they are, and how many have each class, if public.

    Args:
        job: the job as a plain mapping.
        summary: says which counts are no secret.
        particulars: what the publisher says of the rows.
    """
    words = particulars.data and " ".join(escaped(particulars.data, lines=True).split())
    parts = [
        "## Data",
        words or _FILL_IN,
    ]
    if summary.classes:
        parts.append(_class_counts(job, summary.classes))
    if "train" not in summary.classes and summary.privacy.private:
        parts.append(
            "How many of the sites' rows are of each class isn't told: ε covers no exact counts."
        )
    return "\n\n".join(parts)


def _class_counts(job: Mapping[str, Any], classes: Mapping[str, Mapping[str, int]]) -> str:
    shown = [name for name in ("train", "test") if name in classes]
    labels = list(job["model"]["labels"])
    titles = {"train": "rows to train on", "test": "test rows"}
    lines = [
        "| | " + " | ".join(titles[name] for name in shown) + " |",
        "|---|" + "---:|" * len(shown),
    ]
    for label in labels[:_LISTED]:
        counts = [str(classes[name].get(label, 0)) for name in shown]
        lines.append(f"| {code(label)} | " + " | ".join(counts) + " |")
    if len(labels) > _LISTED:
        left = [sum(classes[n].get(label, 0) for label in labels[_LISTED:]) for n in shown]
        more = f"{len(labels) - _LISTED} more"
        lines.append(f"| {more} | " + " | ".join(map(str, left)) + " |")
    return "\n".join(lines)


def evaluation(said: tasks.Card, summary: Summary, particulars: Particulars) -> str:
    """Return the section on the evaluation: an accuracy stands beside the majority's.

    Args:
        said: the task's words for a card.
        summary: the figures, and whether the test rows are private.
        particulars: the majority's share, where the publisher knows it.
    """
    if summary.privacy.private and summary.test == "held out from the sites":
        return "## Evaluation\n\n" + _released(said, summary.released, particulars)
    if not summary.final:
        return "## Evaluation\n\nNo evaluation was recorded."
    # An accuracy says little without that of who looks at no text.
    order = [name for name in ("accuracy", "majority") if name in summary.final]
    order += [name for name in summary.final if name not in order]
    rows = [(_metric(said, name), number(summary.final[name])) for name in order]
    where = (
        "On the run's test set:" if summary.test == "public" else "On rows held out at the sites:"
    )
    return f"## Evaluation\n\n{where}\n\n" + table(rows)


def _metric(said: tasks.Card, name: str) -> str:
    """Return words for a metric; one of a single label is named by both, with a dot between."""
    words = {
        "accuracy": "accuracy",
        "loss": "loss",
        "majority": f"accuracy of {said.majority}",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "f1": "F1",
    }
    kind, dot, label = name.partition(".")
    if not dot:
        return words.get(name, code(name))
    return f"{words.get(kind, plain(kind))} of {code(label)}"


def _released(said: tasks.Card, released: ReleasedAccuracy | None, particulars: Particulars) -> str:
    """Say what the sites told of their own test rows; the exact figures aren't for publishing."""
    rows = _released_rows(said, released, particulars) if released is not None else []
    if not rows and released is not None:
        return (
            "The test rows were the sites' own, and the noise on what they told swamps every "
            "figure: how good the model is isn't known."
        )
    if not rows:
        return (
            "The test rows were the sites' own, and no figure on them was released under "
            "differential privacy."
        )
    return (
        "On rows held out at the sites, covered by the ε above. Behind ± stands the standard error "
        "of the noise; that of drawing so few rows comes on top:\n\n" + table(rows)
    )


def _released_rows(
    said: tasks.Card, released: ReleasedAccuracy, particulars: Particulars
) -> list[tuple[str, str]]:
    """Return what the noise doesn't swamp."""
    rows: list[tuple[str, str]] = []
    if released.accuracy is not None and released.standard_error is not None:
        found = f"{number(released.accuracy)} ± {number(released.standard_error)}"
        rows = [("accuracy, from noised counts", found)]
    for name, score in released.scores.items():
        if score.value is not None and score.standard_error is not None:
            found = f"{number(score.value)} ± {number(score.standard_error)}"
            rows.append((f"{_metric(said, name)}, likewise", found))
    if rows:
        common = particulars.majority
        told = "not released: compare with what you know" if common is None else number(common)
        rows.insert(1, (f"accuracy of {said.majority}", told))
        rows.append(("rows, from noised counts", str(released.rows)))
    return rows


def misleading(
    summary: Summary, rounds: Sequence[Mapping[str, Any]], particulars: Particulars
) -> str:
    """Say where the figures would mislead; under privacy by nothing but what was released.

    Args:
        summary: of the run.
        rounds: metrics of the finished rounds, in order; unused where they are private.
        particulars: the majority's share, where the publisher knows it.
    """
    hidden = summary.privacy.private and summary.test != "public"
    found = caveats(
        epsilon=summary.privacy.epsilon,
        unit=summary.privacy.unit,
        sites=sum(site.steps > 0 for site in summary.privacy.sites.values()),
        rounds=() if hidden else rounds,
        released=summary.released,
        majority=particulars.majority if hidden else summary.final.get("majority"),
    )
    return "\n\n".join(["## Caveats", *(f"**{text}**" for text in found)]) if found else ""
