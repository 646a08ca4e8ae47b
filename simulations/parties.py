"""The parties of a simulation: rows handed out, facts declared, and the job that follows."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from clients.declared import count_units
from fedmodel import tasks
from fedmodel._text import listed
from fedmodel.agreement import Facts
from fedmodel.data import (
    Rows,
    classes_of,
    hold_out_everywhere,
    labels_of,
    load,
    sha256_of_rows,
    split,
)
from fedmodel.errors import DataError
from fedmodel.job import Job, Performance
from fedmodel.seeds import Seed
from fedmodel.training.learner import Learner
from fedmodel.watch import UNWATCHED, Watch
from server.agree import UNKNOWN, agree
from simulations.notices import say_rare, say_unit, say_unread
from simulations.scenario import Scenario

__all__ = ["Parties", "gather", "rows_digest"]

logger = logging.getLogger(__name__)

_SITE_NAME = re.compile(r"\w[\w .'()&,-]{0,63}")
_NAMED = 5  # sites in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Parties:
    """A scenario with its rows handed out and its job complete.

    Args:
        job: that all parties run.
        performance: proposed to the sites, and used by the coordinator.
        sites: name → training rows.
        held_out: name → test rows of that site's own; empty with a public test set.
        test: rows the researcher evaluates on: the public ones, or all that are held out.
        learner: this process's model.
        rows_sha256: of all rows.
    """

    job: Job
    performance: Performance
    sites: Mapping[str, Rows]
    test: Rows
    learner: Learner
    rows_sha256: str
    held_out: Mapping[str, Rows] = field(default_factory=dict)


def gather(scenario: Scenario, watch: Watch = UNWATCHED) -> Parties:
    """Load the rows, hand them to the sites and complete the job.

    Args:
        scenario: who plays what.
        watch: who is told how far it is.

    Raises:
        DataError: if the rows aren't usable.
        ConfigError: if the proposal can't be met with them.
        ModelError: if the model isn't usable.
    """
    proposal, task = scenario.proposal, tasks.of(scenario.proposal.model.task)
    shared = _share(scenario, watch)
    sites, test, public = shared.sites, shared.test, not shared.held_out
    # Of all rows: which of them are held out is no matter of which classes there are.
    found = classes_of if proposal.model.labels is None else labels_of
    labels = found(shared.all, task)
    say_rare(Rows.concat(sites.values()), test, task, labels, held_out=not public)
    if scenario.source.kind != "synthetic":
        say_unit(Rows.concat(sites.values()), proposal.privacy)
    facts = _facts(scenario, sites, labels, public_test=public)
    job, learner = agree(proposal, facts, watch)
    # Our own notes are made so that little is lost by the defaults.
    least = 0.01 if scenario.source.kind == "synthetic" else 0.0
    say_unread(learner, Rows.concat(sites.values()).texts, least, watch)
    return Parties(
        job=job,
        performance=proposal.performance,
        sites=sites,
        held_out=shared.held_out,
        test=test,
        learner=learner,
        rows_sha256=sha256_of_rows(sites, test),
    )


def rows_digest(scenario: Scenario, watch: Watch = UNWATCHED) -> str:
    """Return the SHA-256 of a scenario's rows, as :func:`gather` has it; no model is loaded.

    Args:
        scenario: says where they are.
        watch: who is told how far it is.

    Raises:
        DataError: if the rows aren't usable.
        ConfigError: if the scenario doesn't fit them.
    """
    shared = _share(scenario, watch)
    return sha256_of_rows(shared.sites, shared.test)


@dataclass(frozen=True, slots=True)
class _Shared:
    """All rows that may be trained on, and whose they are; none is held out of a public test."""

    all: Rows
    sites: Mapping[str, Rows]
    held_out: Mapping[str, Rows]
    test: Rows


def _share(scenario: Scenario, watch: Watch) -> _Shared:
    """Load the rows and hand them to the sites."""
    seed, task = Seed(scenario.proposal.seed).child("data"), tasks.of(scenario.proposal.model.task)
    tables = load(scenario.source, seed, scenario.sites, task, watch)
    sites: Mapping[str, Rows] = split(tables.train, scenario.partition, seed.child("partition"))
    _check_names(sites)
    if tables.test is not None:
        return _Shared(tables.train, sites, {}, tables.test)
    kept, held_out = _held_out(sites, scenario, seed)
    return _Shared(tables.train, kept, held_out, Rows.concat(held_out.values()))


def _held_out(
    sites: Mapping[str, Rows], scenario: Scenario, seed: Seed
) -> tuple[Mapping[str, Rows], Mapping[str, Rows]]:
    """Let each site hold out rows of its own: name → training rows, and name → test rows."""
    privacy, source = scenario.proposal.privacy, scenario.source
    drawn = hold_out_everywhere(
        sites,
        source.test_fraction,
        seed,
        source.train_only,
        each_trains=not privacy.clips_units,
    )
    if drawn.moved:
        logger.warning(
            "so few rows that all of them fell on one side when %s held some out; one was put on "
            "the other, and one patient or text more or less may change which",
            listed(drawn.moved, _NAMED),
        )
    if idle := [name for name, rows in drawn.train.items() if not len(rows)]:
        logger.warning(
            "all rows of %s fell among the test rows: nothing is trained on there, and what leaves "
            "is noise alone. A row is not moved for that: with privacy, none may depend on others",
            listed(idle, _NAMED),
        )
    return drawn.train, drawn.test


def _facts(
    scenario: Scenario, sites: Mapping[str, Rows], labels: tuple[str, ...], *, public_test: bool
) -> Facts:
    """Declare, in the sites' stead, what they would have published about themselves."""
    privacy = scenario.proposal.privacy
    return Facts(
        labels=labels,
        weights=UNKNOWN,
        units=tuple(count_units(privacy, rows) for rows in sites.values()),
        rows=max(map(len, sites.values())),
        public_test=public_test,
    )


def _check_names(sites: Mapping[str, Rows]) -> None:
    for number, name in enumerate(sites, start=1):
        if not _SITE_NAME.fullmatch(name):
            # Not shown: a wrong data.site=… makes it some other column's text.
            raise DataError(
                f"the name of site {number} of {len(sites)} ({len(name)} characters) can't name a "
                "file; use at most 64 letters, digits, spaces and _ . - ' ( ) & , and check that "
                "data.site is the column of the site"
            )
