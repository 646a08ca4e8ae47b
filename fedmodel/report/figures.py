"""Figures of a summary that follow from the job and the sites' ledgers: computed once, at the end.

Whatever is shown later (tables, page, model card) reads the summary and computes nothing.
"""

import math
from collections.abc import Mapping, Sequence

from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.spends import Spend
from fedmodel.job import Job
from fedmodel.runs import Basis, Hiding, PrivacySummary, SiteSummary
from fedmodel.secagg.sums import plain_step

__all__ = ["adversaries", "hiding", "noise_to_signal", "privacy_summary"]


def adversaries(job: Job, spent: Sequence[Sequence[Spend]]) -> dict[str, float]:
    """Return the worst site's ε against each adversary, where the sites share the noise.

    Args:
        job: complete.
        spent: what each site spent on the run.
    """
    if not job.privacy.shared:
        return {}
    from fedmodel.accounting.adversaries import adversaries as of_site

    plan = plan_of(job)
    found = [of_site(plan, spends, job.secagg.masked.colluders) for spends in spent]
    return {name: max(f[name] for f in found) for name in found[0]} if found else {}


def hiding(job: Job, update: float | None = None) -> Hiding:
    """Return how a complete job's updates were hidden.

    Args:
        job: complete.
        update: root mean square of a coordinate of the last mean update, if there was one.
    """
    if job.secagg.sums is None:
        return Hiding(mode=job.secagg.mode)
    sums = job.secagg.sums
    return Hiding(
        mode="on",
        survivors=sums.survivors,
        colluders=sums.colluders,
        honest=sums.honest,
        threshold=sums.threshold,
        bits=sums.bits,
        step=plain_step(job),
        update=update,
    )


def noise_to_signal(job: Job, parameters: int) -> float | None:
    """Return the L2 norm of the noise in a mean update over the largest that an update can have.

    √D · σ·√(m/h) / m for D parameters and m sites: every site adds a share of σ/√h (in units of
    the clip norm), and an update is at most 1 of them. ``None`` where whole updates aren't what is
    noised.
    """
    if job.privacy.mechanism != "site":
        return None
    sites, plan = job.federation.cohort, plan_of(job)
    share = plan.gradient_noise_multiplier(1) / math.sqrt(plan.honest)
    return math.sqrt(parameters / sites) * share


def privacy_summary(
    job: Job,
    sites: Mapping[str, SiteSummary],
    spent: Sequence[Sequence[Spend]],
    parameters: int,
    basis: Basis = "ledgers",
) -> PrivacySummary:
    """Return what a run promised and what it cost.

    Args:
        job: complete.
        sites: name → what it cost the site.
        spent: what each site spent on the run, where the sites share the noise; else not read.
        parameters: D, how many are trained.
        basis: whose word that is.
    """
    privacy = job.privacy
    epsilons = [site.epsilon for site in sites.values() if site.epsilon is not None]
    return PrivacySummary(
        mechanism=privacy.mechanism,
        unit=privacy.unit,
        adjacency=privacy.adjacency,
        delta=privacy.delta if privacy.private else None,
        epsilon=max(epsilons) if epsilons else None,
        adversaries=adversaries(job, spent),
        noise_to_signal=noise_to_signal(job, parameters),
        sites=dict(sites),
        basis=basis,
    )
