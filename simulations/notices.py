"""Notices of a simulation about its rows, before anything is trained.

They are the researcher's own view: class and site counts, lengths, rare classes. In a deployment
each site has such a view of its own rows only, and none of it leaves the site.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fedmodel import models
from fedmodel.data import Rows
from fedmodel.data.columns import shown
from fedmodel.job import ProposedPrivacy
from fedmodel.models.load import longest_input
from fedmodel.report.tables import cell
from fedmodel.tasks import Task
from fedmodel.training.learner import Learner
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["count_classes", "counts_table", "rare_classes", "say_rare", "say_unit", "say_unread"]

logger = logging.getLogger(__name__)

_PLAIN = re.compile(r"\w[\w.-]{0,39}")
_RARE = 10  # rows of a class, below which chance decides much
_COLUMNS = 8  # classes that have a column of their own
_LISTED = 20
_LOOKED_AT = 5_000_000  # characters
_AT_ONCE = 1000  # texts
_UNKNOWN = 0.1  # share of pieces; rare signs and names are below it


def say_unread(
    learner: Learner, texts: Sequence[str], least: float = 0.0, watch: Watch = UNWATCHED
) -> None:
    """Log what of the rows the model doesn't read: what ``model.max_length`` cuts, unknown words.

    Args:
        learner: the model.
        texts: of all training rows; of very many, evenly spaced ones are looked at.
        least: share of all tokens that must be cut for a word.
        watch: who is told how far it is.
    """
    every = 1 + sum(map(len, texts)) // _LOOKED_AT
    looked = list(texts[::every])
    if not looked:
        return
    found: list[int] = []
    unknown = 0
    with watch.stage("measuring the texts", len(looked)):
        for start in range(0, len(looked), _AT_ONCE):
            part = looked[start : start + _AT_ONCE]
            encoded = learner.tokenizer(part, return_attention_mask=False, verbose=False)
            found += [len(ids) for ids in encoded["input_ids"]]
            unknown += sum(
                ids.count(learner.tokenizer.unk_token_id) for ids in encoded["input_ids"]
            )
            watch.advance(len(part))
    lengths = np.array(found)
    _say_unknown(unknown, lengths - learner.tokenizer.num_special_tokens_to_add())
    _say_cut(learner, lengths, least, " looked at" if every > 1 else "")


def _say_unknown(unknown: int, pieces: NDArray[np.int64]) -> None:
    """Log the share of unknown pieces; a text of which no piece is known is one (see Examples)."""
    share = (unknown + int((pieces == 0).sum())) / int(np.maximum(1, pieces).sum())
    if share >= _UNKNOWN:
        logger.warning(
            "the model's tokenizer doesn't know %.0f %% of the texts' pieces, and what it doesn't "
            "know is all one to the model: take a model made for their language and script",
            100 * share,
        )


def _say_cut(learner: Learner, lengths: NDArray[np.int64], least: float, looked: str) -> None:
    longest = learner.longest
    cut = int((lengths > longest).sum())
    lost = 1 - float(np.minimum(lengths, longest).sum()) / max(1, int(lengths.sum()))
    if not cut or lost < least:
        return
    half, most = np.quantile(lengths, [0.5, 0.9], method="inverted_cdf")
    limit = longest_input(models.unwrap(learner.module).config)
    if limit is None:
        fix = "raise model.max_length"
    elif limit > longest:
        fix = f"raise model.max_length (this model reads up to {limit})"
    else:
        fix = "shorten the texts, or take a model that reads more"
    logger.warning(
        "model.max_length=%d cuts %d of %d training rows%s, and %s of all tokens are never "
        "read. Tokens of a row: half have up to %d, nine in ten up to %d, all up to %d; %s",
        longest, cut, len(lengths), looked,
        "less than 1 %" if lost < 0.01 else f"{100 * lost:.0f} %",
        half, most, lengths.max(), fix,
    )  # fmt: skip


def rare_classes(
    train: Rows, test: Rows, task: Task, labels: Sequence[str] = ()
) -> dict[str, tuple[int, int]]:
    """Return classes with few rows, or none to train on: name → rows to train and to test on.

    Args:
        train: rows of all sites to train on.
        test: the test rows.
        task: says what a row's label is.
        labels: the job's classes; there may be some without a row.
    """
    learned, tested = count_classes(train, task), count_classes(test, task)
    both = sorted({*learned, *tested, *labels})
    return {
        name: (learned[name], tested[name])
        for name in both
        if learned[name] + tested[name] < _RARE or not learned[name]
    }


def say_rare(
    train: Rows, test: Rows, task: Task, labels: Sequence[str] = (), *, held_out: bool
) -> None:
    """Log the names of classes with few rows.

    Args:
        train: rows of all sites to train on.
        test: the test rows.
        task: says what a row's label is.
        labels: the job's classes.
        held_out: whether the test rows were held out from the sites.
    """
    rare = rare_classes(train, test, task, labels)
    if not rare:
        return
    listed = ", ".join(
        f"{shown(name)} ({learned} to train on, {tested} to test on)"
        for name, (learned, tested) in list(rare.items())[:_LISTED]
    )
    fix, out = "", [name for name, (_, tested) in rare.items() if tested]
    if held_out and out:
        names = ",".join(out) if all(map(_PLAIN.fullmatch, out)) else "…"
        fix = f"; which rows are held out is chance: data.train_only=[{names}] holds none out"
    logger.warning(
        "classes with fewer than %d rows, or none to train on, of which a model learns little and "
        "figures tell little: %s%s%s", _RARE, listed, ", …" * (len(rare) > _LISTED), fix,
    )  # fmt: skip


def say_unit(rows: Rows, privacy: ProposedPrivacy) -> None:
    """Log that ε is of a row, where people have several and it is known which are theirs.

    Args:
        rows: of all sites to train on.
        privacy: that is asked for.
    """
    if rows.patients is None or not privacy.clips_units or privacy.unit != "record":
        return
    counts = Counter(zip(rows.sites or [""] * len(rows), rows.patients, strict=True))
    several, most = sum(n > 1 for n in counts.values()), max(counts.values(), default=0)
    if several:
        logger.warning(
            "privacy.unit=record hides one row, and %d of %d patients have several, up to %d: "
            "%s hides all of a patient's", several, len(counts), most,
            "privacy=patient" if privacy.mechanism == "dpsgd" else "privacy.unit=patient",
        )  # fmt: skip


def counts_table(
    sites: Mapping[str, Rows], held_out: Mapping[str, Rows], test: Rows, task: Task
) -> Table:
    """Return a table of the rows of each site and class.

    Args:
        sites: name → training rows.
        held_out: name → rows that the site has held out; empty with public test rows.
        test: all test rows.
        task: says what a row's label is.
    """
    whole = count_classes(Rows.concat(sites.values()), task)
    classes = [name for name, _ in whole.most_common()]
    named = classes if len(classes) <= _COLUMNS else classes[: _COLUMNS - 1]
    patients = all(rows.patients is not None for rows in sites.values())
    table = Table(title="rows to train on")
    table.add_column("site", overflow="fold")
    heads = ["rows", *["patients"] * patients, *["held out"] * bool(held_out), *map(_short, named)]
    for head in [*heads, *[f"{len(classes) - len(named)} more"] * (len(named) < len(classes))]:
        table.add_column(cell(head), justify="right", overflow="fold")

    def add(name: str, rows: Rows, out: int) -> None:
        counts = count_classes(rows, task)
        figures = [len(rows), *[len(set(rows.patients or ()))] * patients]
        figures += [out] * bool(held_out) + [counts[n] for n in named]
        if len(named) < len(classes):
            figures.append(counts.total() - sum(counts[n] for n in named))
        table.add_row(cell(name), *map(str, figures))

    for name, rows in list(sites.items())[:_LISTED]:
        add(name, rows, len(held_out.get(name, ())))
    if len(sites) > _LISTED:
        table.add_row(f"… {len(sites) - _LISTED} more sites")
    add("all", Rows.concat(sites.values()), sum(map(len, held_out.values())))
    if not held_out:
        table.caption = f"{len(test)} public test rows"
    return table


def count_classes(rows: Rows, task: Task) -> Counter[str]:
    """Return how many rows have each class, or each label of a set."""
    return Counter(name for label in rows.labels for name in task.names(label))


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
