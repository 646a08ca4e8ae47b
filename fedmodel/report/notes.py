"""What a run's summary says in words: who is protected from whom, and where it's of little use."""

import math
from collections.abc import Sequence
from typing import Any

from fedmodel.accounting.plan import plan_of
from fedmodel.accounting.spends import Spend
from fedmodel.job import Job
from fedmodel.secagg.sums import cohort_size

__all__ = ["adversaries", "hiding", "noise_to_signal", "notes"]

_USELESS = 1.0  # noise over signal, from where the mean says more about the noise


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
    found = [of_site(plan, spends, job.secagg.colluders) for spends in spent]
    return {name: max(f[name] for f in found) for name in found[0]} if found else {}


def hiding(job: Job) -> dict[str, Any]:
    """Return how updates were hidden."""
    secagg = job.secagg
    if not secagg.on:
        return {"mode": secagg.mode}
    return {
        "mode": "on",
        "survivors": secagg.survivors,
        "colluders": secagg.colluders,
        "honest": secagg.honest,
        "threshold": secagg.threshold,
        "bits": secagg.bits,
    }


def noise_to_signal(job: Job, parameters: int) -> float | None:
    """Return the L2 norm of the noise in a mean update over the largest that an update can have.

    √D · σ·√(m/h) / m for D parameters and m sites: every site adds a share of σ/√h (in units of
    the clip norm), and an update is at most 1 of them. ``None`` where whole updates aren't what is
    noised.
    """
    if job.privacy.mechanism != "site":
        return None
    sites, plan = cohort_size(job), plan_of(job)
    share = plan.gradient_noise_multiplier(1) / math.sqrt(plan.honest)
    return math.sqrt(parameters / sites) * share


def notes(job: Job, parameters: int) -> list[str]:
    """Return what a reader of the summary should know of this run's promise."""
    found = []
    if job.secagg.on and job.privacy.private and not job.privacy.shared:
        found.append(
            "Secure sums hide each site's update from the coordinator. They add nothing to ε: each "
            f"site keeps its own promise ({job.train.steps} local step(s) in a sum), as without "
            "them. The two protections aren't to be multiplied."
        )
    if job.secagg.on and not job.privacy.private:
        found.append(
            "Secure sums hide each site's update from the coordinator. The sum itself, and the "
            "model, may still reveal rows: nothing is promised about those without privacy=…"
        )
    if job.privacy.mechanism == "distributed":
        found.append(
            f"ε is that of DP-SGD on all sites' rows together. It counts on the noise of "
            f"{plan_of(job).honest} sites in every sum, of at least {job.secagg.survivors} "
            f"survivors: {job.secagg.colluders} may work with the coordinator, and each site knows "
            "its own."
        )
    ratio = noise_to_signal(job, parameters)
    if ratio is not None:
        useless = ratio > _USELESS
        found.append(
            f"In a mean update the noise has {ratio:.2g} times the norm of the largest signal"
            + (
                ": of little use. Hiding whole sites takes thousands of them; to hide rows or "
                "patients use privacy=distributed."
                if useless
                else "."
            )
        )
    return found
