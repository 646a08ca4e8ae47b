"""The job of a real run: from what is asked and what sites have declared, or as it was written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmodel import tasks
from fedmodel.agreement import Facts
from fedmodel.data import Rows, sha256_of_rows
from fedmodel.data.sources import load_test
from fedmodel.errors import ConfigError
from fedmodel.job import Job, Performance, Proposal
from fedmodel.runs import job_in
from fedmodel.training.learner import Learner, resident
from server.agree import UNKNOWN, agree
from server.ask import ANEW, Ask, Sizes

__all__ = ["Proposed", "propose"]

_GROUPS = ("model", "train", "privacy", "secagg", "aggregation", "federation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A job that sites may be asked for.

    Args:
        job: complete.
        performance: of this machine, and proposed to the sites.
        test: public test rows; ``None``: each site holds some of its own out.
        learner: this process's model.
    """

    job: Job
    performance: Performance
    test: Rows | None
    learner: Learner

    @property
    def rows_sha256(self) -> str | None:
        """SHA-256 (hex) of the rows that a coordinator sees, the public ones; ``None``: of none."""
        return None if self.test is None else sha256_of_rows({}, self.test)


def propose(
    ask: Ask,
    mapping: Mapping[str, Any],
    sites: int,
    *,
    given: Sequence[str] = (),
    begun: Job | None = None,
) -> Proposed:
    """Return the job that is asked for.

    Args:
        ask: what stands around it.
        mapping: the composed configuration.
        sites: of the roster.
        given: keys that were given.
        begun: the job of a run that goes on.

    Raises:
        ConfigError: for what is lacking, or doesn't go together.
        DataError: for test rows that aren't usable.
        ModelError: for a model that isn't.
    """
    proposal = _proposal(mapping)
    whole = begun or _whole(ask.whole_job, given)
    if whole is None:
        facts = _facts(proposal, ask, sites)
        test = _test(ask, proposal.model.task, facts.labels)
        job, learner = agree(proposal, facts)
    else:
        job = whole
        _check_fits(job, ask, sites)
        test = _test(ask, job.model.task, job.model.labels)
        learner = resident(job, proposal.performance)
    performance = proposal.performance
    performance.check(job.privacy)
    return Proposed(job=job, performance=performance, test=test, learner=learner)


def _proposal(mapping: Mapping[str, Any]) -> Proposal:
    federation = {k: v for k, v in (mapping.get("federation") or {}).items() if k != "exclude"}
    asked = {key: mapping[key] for key in (*_GROUPS, "seed", "device") if key in mapping}
    return Proposal.from_mapping({**asked, "federation": federation})


def _whole(path: Path | None, given: Sequence[str]) -> Job | None:
    if path is None:
        return None
    more = [key for key in given if key not in ANEW and not key.startswith("data.")]
    if more:
        raise ConfigError(
            f"job={path} is a whole job, taken as it is, and {', '.join(more[:5])} would make it "
            "another; leave that out, or give the keys in place of the job"
        )
    return job_in(path)


def _facts(proposal: Proposal, ask: Ask, sites: int) -> Facts:
    """Return what a job follows from beside what is asked for: said, where a simulation counts."""
    if proposal.model.labels is None:
        raise ConfigError(
            "serve sees no rows, so it must be told the classes, in the order of the logits: "
            "model.labels=[FIRST,SECOND]"
        )
    units = _units(proposal, ask.declared, sites)
    return Facts(
        labels=proposal.model.labels,
        weights=UNKNOWN,
        units=units,
        rows=ask.declared.rows or max(units),
        public_test=ask.data.test is not None,
    )


def _units(proposal: Proposal, declared: Sizes, sites: int) -> tuple[int, ...]:
    privacy, units = proposal.privacy, declared.units
    counted = proposal.secrecy == "on" and proposal.weights == "examples"
    if privacy.mechanism == "site":
        return (1,) * sites
    if units is None and (privacy.private or (counted and declared.rows is None)):
        what = f"{privacy.unit}s" if privacy.private else "rows"
        raise ConfigError(
            f"serve sees no rows, so it must be told how many {what} the sites declare, at most, "
            f"to train on: declared.units=[…], one number for each of the {sites} sites of the "
            "roster, in its order, or one for all"
        )
    if units is None:
        return (declared.rows or 1,) * sites
    if len(units) == 1:
        return units * sites
    if len(units) != sites:
        raise ConfigError(
            f"declared.units has {len(units)} numbers, and the roster {sites} sites; give one for "
            "each in its order, or one for all"
        )
    return units


def _check_fits(job: Job, ask: Ask, sites: int) -> None:
    if job.federation.sites != sites:
        raise ConfigError(
            f"the job is of {job.federation.sites} sites, and the roster has {sites}; take the "
            "roster that it was made for, or make another job"
        )
    public = ask.data.test is not None
    if public != (job.federation.test == "public"):
        raise ConfigError(
            f"the job's test rows are {job.federation.test}, so data.test="
            f"{'must name them' if not public else '… has no place'}"
        )


def _test(ask: Ask, task: str, labels: Sequence[str]) -> Rows | None:
    source = ask.data.source()
    if source is None:
        return None
    return load_test(source, tasks.of(task), labels)
