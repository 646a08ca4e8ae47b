"""Outcome of a run: what its parties tell, as the summary has it."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from clients.report import SiteReport
from fedmodel import tasks
from fedmodel.data import Rows
from fedmodel.job import Job
from fedmodel.report.caveats import caveats
from fedmodel.report.figures import hiding, privacy_summary
from fedmodel.report.notes import notes
from fedmodel.runs import (
    ReleasedAccuracy,
    ReleasedScore,
    RunTime,
    SiteSummary,
    Summary,
)
from server.publishing import Published
from simulations.notices import count_classes
from simulations.parties import Parties
from simulations.play import Played

__all__ = ["summarise"]


def summarise(
    parties: Parties, played: Played, rows: Sequence[Mapping[str, Any]], total: float
) -> Summary:
    """Return the summary of a run that has come to its end.

    Args:
        parties: who took part.
        played: what each told of it.
        rows: metrics of the finished rounds, in order.
        total: wall seconds of the whole.
    """
    job, parameters, result = parties.job, parties.learner.layout.total, played.result
    reports = played.reports
    train_s = sum(report.work.seconds for report in reports.values())
    sites = {
        report.site: _site_summary(
            job, report, result.updates.get(node, 0), refused=node in result.refused
        )
        for node, report in reports.items()
    }
    spent = [report.ledger.spent for report in reports.values() if report.ledger is not None]
    privacy = privacy_summary(job, sites, spent, parameters)
    hidden = hiding(job, result.update)
    released = None if result.published is None else _published(result.published, reports)
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
                sites=len(sites) - len(result.refused),
                rounds=rows,
                released=released,
                majority=result.final.get("majority"),
            ),
            *_blamed(played),
        ),
        time=RunTime(total_s=total, train_s=train_s, overhead_s=total - train_s),
        traffic=played.traffic,
        classes=_classes(parties, {name for name, site in sites.items() if site.steps}),
    )


def _classes(parties: Parties, trained: set[str]) -> dict[str, dict[str, int]]:
    """Return the class counts that may be published: of training rows, where none is private."""
    job, task = parties.job, tasks.of(parties.job.model.task)
    public = {}
    if not job.privacy.private:
        rows = [rows for name, rows in parties.sites.items() if name in trained]
        public["train"] = Rows.concat(rows)
    if not job.privacy.private or job.federation.test == "public":
        public["test"] = parties.test
    return {
        name: {label: counts[label] for label in job.model.labels}
        for name, rows in public.items()
        if (counts := count_classes(rows, task)).total()
    }


def _blamed(played: Played) -> tuple[str, ...]:
    return tuple(
        f"Site {played.reports[node].site} was named in a secure sum: {why}. Look at its log; "
        f"{_without(played.reports[node].site)} leaves it out."
        for node, why in sorted(played.result.blamed.items())
    )


def _without(site: str) -> str:
    """Return what leaves a site out, as it is typed into a shell."""
    if re.fullmatch(r"[\w.-]+", site):
        return f"federation.exclude=[{site}]"
    quoted = site.replace('"', '\\"')
    return "federation.exclude=" + shlex.quote(f'["{quoted}"]')


def _published(found: Published, reports: Mapping[int, SiteReport]) -> ReleasedAccuracy:
    return ReleasedAccuracy(
        accuracy=found.accuracy,
        standard_error=found.standard_error,
        rows=found.rows,
        noise_std=found.noise_std,
        sites=found.sites,
        failures={reports[node].site: reason for node, reason in found.failures.items()},
        scores={
            name: ReleasedScore(value=e.value, standard_error=e.standard_error)
            for name, e in found.scores.items()
        },
    )


def _site_summary(job: Job, report: SiteReport, updates: int, *, refused: bool) -> SiteSummary:
    reason, ledger = report.work.refusal if refused else None, report.ledger
    if not job.privacy.private:
        return SiteSummary(epsilon=None, steps=updates * job.train.steps, refused=reason)
    if ledger is None:  # it was never asked, or refused before it wrote a line
        return SiteSummary(epsilon=0.0, epsilon_total=0.0, steps=0, refused=reason)
    return SiteSummary(
        epsilon=ledger.epsilon,
        epsilon_total=ledger.epsilon_total,
        steps=ledger.steps,
        refused=reason,
    )
