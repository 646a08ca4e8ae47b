"""The job of a run as its coordinator's operator sees it before anybody is asked for it."""

import json
from typing import Any

from rich.table import Table

from fedmodel import config
from fedmodel._text import listed, show_epsilon
from fedmodel.accounting.claims import claim
from fedmodel.accounting.planning import plan_of
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.job import Job
from fedmodel.report.tables import cell
from fedmodel.report.terminal import Terminal
from server.ask import Ask
from server.membership import quorum
from server.proposed import Proposed

__all__ = ["show_job"]

_NAMED = 20


def show_job(proposed: Proposed, roster: SignedRoster, ask: Ask) -> None:
    """Print a job: its name, what it asks of each site, and what it costs.

    Args:
        proposed: the job.
        roster: of the sites.
        ask: how, and whom the operator leaves out.
    """
    job = proposed.job
    needed, key = quorum(job, len(roster.members))
    sites = [each.name for each in roster.members]
    planned = _planned(job)
    if ask.format == "json":
        whole: dict[str, Any] = {
            "schema": "fedmodel.check/1",
            "job_sha256": job.sha256,
            "sites": sites,
            "excluded": list(ask.exclude),
            "needed": needed,
            "epsilon": planned,
            "performance": config.to_mapping(proposed.performance),
            "job": config.to_mapping(job),
        }
        print(json.dumps(whole, indent=2, allow_nan=False))
        return
    table = Table(title="what the sites will be asked", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in (
        ("job (SHA-256)", job.sha256),
        ("sites", f"{len(sites)}: {listed(sites, _NAMED)}"),
        *([("left out", listed(list(ask.exclude), _NAMED))] if ask.exclude else []),
        ("needed", f"{needed} ({key})"),
        *_training(job),
        *_privacy(job, planned),
        ("secure sums", _sums(job)),
        ("test rows", job.federation.test),
    ):
        table.add_row(name, cell(text))
    Terminal().print(table)


def _planned(job: Job) -> float | None:
    """Return what each site's whole run costs, if no round is repeated."""
    if not job.privacy.private:
        return None
    plan = plan_of(job)
    return claim(plan.spends(), plan.delta, plan.adjacency).epsilon


def _training(job: Job) -> list[tuple[str, str]]:
    model, train = job.model, job.train
    named = model.path or model.source
    return [
        ("model", f"{named} (weights {job.weights[:16]}…), {train.method} is trained"),
        ("classes", listed(list(model.labels), _NAMED)),
        ("rounds", f"{train.rounds} of {train.steps} step(s), batches of {train.batch_size}"),
    ]


def _privacy(job: Job, planned: float | None) -> list[tuple[str, str]]:
    privacy = job.privacy
    if planned is None:
        return [("privacy", "none: updates and the model may reveal rows")]
    return [
        ("privacy", f"{privacy.mechanism}, clip norm {privacy.clip:g}, rate {privacy.rate:g}"),
        (
            "(ε, δ) of a site",
            f"({show_epsilon(planned)}, {privacy.delta:g}) per {privacy.unit}, and with repeated "
            f"rounds never above ε = {privacy.epsilon:g}",
        ),
    ]


def _sums(job: Job) -> str:
    if job.secagg.sums is None:
        return {"off": "off: updates reach the coordinator in the clear"}.get(
            job.secagg.mode, "seal: updates are encrypted to the coordinator, who reads them"
        )
    sums = job.secagg.sums
    return (
        f"on: {sums.survivors} sites in a sum, of whom {sums.colluders} may work with the "
        f"coordinator; threshold {sums.threshold}"
    )
