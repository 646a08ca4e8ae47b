"""Outcome of a simulated run: what its parties tell, as the summary has it."""

from collections.abc import Mapping, Sequence
from typing import Any

from clients.report import SiteReport
from fedmodel import tasks
from fedmodel.data import Rows
from fedmodel.job import Job
from fedmodel.runs import RunTime, SiteSummary, Summary
from server import outcome
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
    job, result, reports = parties.job, played.result, played.reports
    train_s = sum(report.work.seconds for report in reports.values())
    sites = {
        report.site: _site_summary(
            job, report, result.updates.get(node, 0), refused=node in result.refused
        )
        for node, report in reports.items()
    }
    return outcome.summarise(
        outcome.Ended(
            job=job,
            result=result,
            parameters=parties.learner.layout.total,
            rounds=rows,
            names={node: report.site for node, report in reports.items()},
            sites=sites,
            spent=[report.ledger.spent for report in reports.values() if report.ledger is not None],
            time=RunTime(total_s=total, train_s=train_s, overhead_s=total - train_s),
            traffic=played.traffic,
            classes=_classes(parties, {name for name, site in sites.items() if site.steps}),
        )
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
