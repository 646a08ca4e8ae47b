"""A site's rows in one job: those that it can use, as tensors."""

import logging
import math
from dataclasses import dataclass
from typing import Literal

from clients.site import Site
from fedmodel import tasks
from fedmodel.data import Rows
from fedmodel.errors import DataError, FedmodelError
from fedmodel.job import Job, Performance
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["SiteRows", "open_rows", "with_known_labels"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRows:
    """What a site has for a job. Secret.

    Args:
        examples: to train on.
        test: rows that are held out; ``None`` where none are, or the job doesn't ask about them.
        held_out: the same, ready for the learner.
    """

    examples: Examples
    test: Rows | None = None
    held_out: Examples | None = None


def open_rows(
    site: Site, job: Job, learner: Learner, performance: Performance, watch: Watch = UNWATCHED
) -> SiteRows:
    """Return a site's rows for a job, tokenised before anything is spent on them.

    Args:
        site: whose rows.
        job: that they are for.
        learner: the job's network.
        performance: which engine, and how many rows fit into a pass.
        watch: who is told how far it is.

    Raises:
        DataError: for a job without privacy of whose labels no row has any, or rows that are
            labelled for another task.
        PrivacyError: where no shape of a pass keeps a row's bits.
    """
    rows = _usable(site, site.rows, job, "training")
    if not len(rows) and not job.privacy.private:
        raise DataError(
            f"site '{site.name}': no row to train on; give it rows of the job's classes "
            "(model.labels), or leave it out"
        )
    clips = job.privacy.clips_units
    _, examples = _opened(site, rows, job, learner, "training", watch=watch)
    if clips:
        from fedmodel.training import replay  # Opacus is slow to import

        with watch.stage("checking gradients"):
            replay.prove_steps(learner, examples, performance)
    if not (job.publishes_evaluation and site.test):
        return SiteRows(examples=examples)
    usable = _usable(site, site.test, job, "held-out")
    test, held_out = _opened(site, usable, job, learner, "held-out", watch=watch)
    if clips:
        replay.prove_evaluation(learner, held_out)
    return SiteRows(examples=examples, test=test, held_out=held_out)


def with_known_labels(rows: Rows, job: Job) -> Rows:
    """Return the rows whose labels a job lists. Whether a row is among them hangs on it alone.

    Raises:
        DataError: for a label of another kind than the job's task has.
    """
    task, known = tasks.of(job.model.task), set(job.model.labels)
    return rows.select(
        i for i, label in enumerate(rows.labels) if known.issuperset(task.names(label))
    )


def _usable(site: Site, rows: Rows, job: Job, what: str) -> Rows:
    found = with_known_labels(rows, job)
    if left := len(rows) - len(found):
        logger.warning(
            "site %s: %d of %d %s rows have labels that the job doesn't list (model.labels); they "
            "are left out of this run",
            site.name, left, len(rows), what,
        )  # fmt: skip
    return found if left else rows


def _opened(
    site: Site,
    rows: Rows,
    job: Job,
    learner: Learner,
    what: Literal["training", "held-out"],
    *,
    watch: Watch,
) -> tuple[Rows, Examples]:
    """Return the rows that the job's tokenizer can read, as they are and as tensors.

    Whether a row is among them hangs on it alone: if one of them could stop a private site, a
    tokenizer that can't read a word would ask who has it. Without privacy it stops.
    """

    def prepared(rows: Rows) -> Examples:
        uses = _uses(job, len(rows)) if what == "training" else len(rows)
        return _prepared(learner, rows, job, uses, watch)

    try:
        return rows, prepared(rows)
    except FedmodelError:
        raise
    except Exception:
        if not job.privacy.private:
            raise
    found = rows.select(i for i, text in enumerate(rows.texts) if _reads(learner, text, job))
    logger.warning(
        "site %s: the job's tokenizer fails at %d of %d %s rows; they are left out of this run",
        site.name, len(rows) - len(found), len(rows), what,
    )  # fmt: skip
    return found, prepared(found)


def _reads(learner: Learner, text: str, job: Job) -> bool:
    try:
        rows_as_tensors.tokens_of(learner, [text], job.model.max_length)
    except Exception:  # whatever it raises is about a text, and quotes it perhaps
        return False
    return True


def _prepared(learner: Learner, rows: Rows, job: Job, uses: int, watch: Watch) -> Examples:
    patients = rows.patients if job.privacy.unit == "patient" else None
    return rows_as_tensors.prepare(
        learner,
        rows.texts,
        rows.labels,
        job.model.labels,
        job.model.max_length,
        uses=uses,
        patients=patients,
        watch=watch,
    )


def _uses(job: Job, rows: int) -> int:
    """Return about how many rows the whole run asks for."""
    batch = min(job.train.batch_size, rows)
    if job.privacy.clips_units:
        batch = math.ceil(job.privacy.rate * rows)
    return job.total_steps * batch
