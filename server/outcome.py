"""Outcome of a run: its summary, by what the coordinator has and what is told of the sites."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmodel.accounting.spends import Spend
from fedmodel.job import Job
from fedmodel.report.caveats import caveats
from fedmodel.report.figures import hiding, privacy_summary
from fedmodel.report.notes import notes
from fedmodel.runs import (
    Basis,
    ReleasedAccuracy,
    ReleasedScore,
    RunTime,
    SiteSummary,
    Summary,
    Traffic,
)
from server.coordinator import RunResult
from server.publishing import Published

__all__ = ["Ended", "summarise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that has come to its end.

    Args:
        job: of the run.
        result: by the coordinator.
        parameters: how many are trained.
        rounds: metrics of the finished rounds, in order.
        names: node id → site.
        sites: site → what it cost the site.
        basis: whose word that is.
        spent: what each site has spent on the run, or the most that it can have spent.
        time: where the wall time went.
        traffic: what crossed; ``None`` where nobody has counted.
        classes: class counts that are no secret.
    """

    job: Job
    result: RunResult
    parameters: int
    rounds: Sequence[Mapping[str, Any]]
    names: Mapping[int, str]
    sites: Mapping[str, SiteSummary]
    basis: Basis = "ledgers"
    spent: Sequence[Sequence[Spend]] = ()
    time: RunTime
    traffic: Traffic | None = None
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def summarise(ended: Ended) -> Summary:
    """Return the summary of a run that has come to its end."""
    job, result = ended.job, ended.result
    privacy = privacy_summary(job, ended.sites, ended.spent, ended.parameters, ended.basis)
    hidden = hiding(job, result.update)
    found = result.published
    released = None if found is None else _published(found, ended.names)
    return Summary(
        job_sha256=job.sha256,
        rounds=result.rounds,
        stopped=result.stopped,
        test="public" if job.federation.test == "public" else "held out from the sites",
        final=result.final,
        released=released,
        privacy=privacy,
        secagg=hidden,
        notes=(
            *notes(job, privacy.noise_to_signal, hidden, skipped=result.skipped),
            *caveats(
                epsilon=privacy.epsilon,
                unit=privacy.unit,
                sites=len(ended.sites) - len(result.refused),
                rounds=ended.rounds,
                released=released,
                majority=result.final.get("majority"),
            ),
            *_blamed(result, ended.names),
        ),
        time=ended.time,
        traffic=ended.traffic,
        classes=ended.classes,
    )


def _blamed(result: RunResult, names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(
        f"Site {names[node]} was named in a secure sum: {why}. Look at its log; "
        f"{_without(names[node])} leaves it out."
        for node, why in sorted(result.blamed.items())
    )


def _without(site: str) -> str:
    """Return what leaves a site out, as it is typed into a shell."""
    if re.fullmatch(r"[\w.-]+", site):
        return f"federation.exclude=[{site}]"
    quoted = site.replace('"', '\\"')
    return "federation.exclude=" + shlex.quote(f'["{quoted}"]')


def _published(found: Published, names: Mapping[int, str]) -> ReleasedAccuracy:
    return ReleasedAccuracy(
        accuracy=found.accuracy,
        standard_error=found.standard_error,
        rows=found.rows,
        noise_std=found.noise_std,
        sites=found.sites,
        failures={names[node]: reason for node, reason in found.failures.items()},
        scores={
            name: ReleasedScore(value=e.value, standard_error=e.standard_error)
            for name, e in found.scores.items()
        },
    )
