"""Claims: ε of each site and of the run, recomputed from the ledgers, and held against the summary.

Two accountants that have little in common bound each ε from above, and a test on the sum of all
outputs bounds it from below (:mod:`fedmodel.accounting.claims`). They are asked once for equal
schedules: most sites of a run have spent the same.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from fedmodel.accounting.adversaries import adversaries
from fedmodel.accounting.claims import Claim, claim
from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.spends import Adjacency, Kind, Spend, merge
from fedmodel.audit.plans import plan_by
from fedmodel.audit.reading import LedgerReading, RunEntries
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import (
    Family,
    Outcome,
    Rule,
    failed,
    inconclusive,
    not_tested,
    passed,
)
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.job import Job
from fedmodel.ledger.caps import Basis

__all__ = ["EPSILON"]

_TOLD = 1e-3  # by which a figure may be off, relative: what accountants of other versions may be
_NOTHING = Claim(0.0, 0.0, 0.0)


@lru_cache(maxsize=256)
def _claimed(schedule: tuple[Spend, ...], delta: float, adjacency: Adjacency) -> Claim:
    return claim(schedule, delta, adjacency)


def _of_run(records: Records, ledger: LedgerReading) -> Claim:
    """Return ε of what a run has spent, by what the ledger itself says it is to be told at.

    Raises:
        PrivacyError: when the accountants contradict one another.
    """
    found = ledger.of_run(records.run)
    if not found.spends:
        return _NOTHING
    first = found.spends[0]  # all of a run agree with their reservation, and that with the job
    return _claimed(found.schedule, float(first.delta), first.adjacency)


def _same(told: float | None, found: float) -> bool:
    return told is not None and math.isclose(told, found, rel_tol=_TOLD, abs_tol=1e-9)


# -- of each site --------------------------------------------------------------------------------


def _bounds(records: Records, site: SiteRecords) -> Outcome:
    if site.ledger is None:
        return not_tested("it has no ledger here")
    try:
        found = _of_run(records, site.ledger)
    except PrivacyError as error:
        return failed(str(error), site.ledger.name)
    told = f"ε ≤ {found.pld:.6g} by PLD, ≤ {found.rdp:.6g} by RDP"
    if not math.isfinite(found.epsilon):
        return failed(f"neither accountant finds a bound for what was spent ({told})")
    if found.rdp < found.pld * (1 - _TOLD):
        return inconclusive(
            f"{told}: the accountant that is nearly tight is above the other, as it is only for "
            "many tiny steps; both are bounds, and the smaller is taken"
        )
    return passed(told)


def _told(records: Records, site: SiteRecords) -> Outcome:
    summary, ledger = records.summary.value, site.ledger
    if summary is None or ledger is None:
        return not_tested("there is no summary that can be read")
    told = summary.privacy.sites.get(site.name)
    if told is None or told.epsilon is None:
        return failed("the summary tells no ε for it", "summary.json")
    found = _of_run(records, ledger).epsilon
    if summary.privacy.basis == "plan":
        if found > told.epsilon * (1 + _TOLD):
            return failed(
                f"the summary says ε ≤ {told.epsilon:.6g}, and its ledger adds up to {found:.6g}",
                "summary.json",
            )
    elif not _same(told.epsilon, found):
        return failed(
            f"the summary says ε = {told.epsilon:.6g}, and its ledger adds up to {found:.6g}",
            "summary.json",
        )
    return passed(f"ε = {found:.6g}")


def _kept(records: Records, site: SiteRecords) -> Outcome:
    job, ledger = records.job.value, site.ledger
    if job is None or ledger is None:
        return not_tested("there is no job that can be read")
    found = _of_run(records, ledger).epsilon
    if found > job.privacy.epsilon * (1 + 1e-6):
        return failed(
            f"the run has cost ε = {found:.6g} here, and the job promises {job.privacy.epsilon:g}",
            ledger.name,
        )
    return passed(f"ε = {found:.6g} of {job.privacy.epsilon:g}")


def _total(records: Records, site: SiteRecords) -> Outcome:
    summary, job, ledger = records.summary.value, records.job.value, site.ledger
    if summary is None or job is None or ledger is None:
        return not_tested("there is no summary that can be read")
    if summary.privacy.basis == "plan":
        return not_tested("what all runs have cost is the site's own to tell")
    told = summary.privacy.sites.get(site.name)
    if told is None:
        return failed("the summary has no such site", "summary.json")
    charges = ledger.book.charges()[0]
    try:
        basis = Basis.of(charges, job.privacy.unit)
        spends = merge(each.spend for each in charges)
        found = _claimed(spends, basis.delta, basis.adjacency).epsilon if spends else 0.0
    except PrivacyError as error:
        if told.epsilon_total is None:
            return passed(f"no ε of all runs can be told: {error}")
        return failed(
            f"the summary says ε = {told.epsilon_total:.6g} over all runs, and none can be told: "
            f"{error}",
            "summary.json",
        )
    if not _same(told.epsilon_total, found):
        return failed(
            f"the summary says ε = {told.epsilon_total} over all runs, and the ledger adds up to "
            f"{found:.6g}",
            "summary.json",
        )
    return passed(f"ε = {found:.6g} over all runs")


# -- of the run ----------------------------------------------------------------------------------


def _by_plan(records: Records) -> Outcome:
    """Hold figures that are the plan's word against the job: no ledger is here to hold them to."""
    summary, job = records.summary.value, records.job.value
    if summary is None or job is None:
        return not_tested("there is no summary that can be read")
    if summary.privacy.basis != "plan":
        return passed("the summary's figures are the ledgers' word, which each site's are held to")
    for name, site in summary.privacy.sites.items():
        least = 0.0 if site.refused is not None and not site.steps else job.privacy.epsilon
        if job.privacy.private and (site.epsilon is None or site.epsilon < least * (1 - 1e-9)):
            return failed(
                f"the summary says ε = {site.epsilon} for site {name!r}, and by the plan's word "
                f"no less than the job's {least:g} can be told",
                "summary.json",
            )
    return passed("by the plan's word each ε is the job's, or of who was never asked")


def _worst(records: Records) -> Outcome:
    summary = records.summary.value
    if summary is None:
        return not_tested("there is no summary that can be read")
    told = summary.privacy
    if not told.private:
        return not_tested("the job promises no privacy")
    found = [_of_run(records, ledger).epsilon for _, ledger in records.with_ledgers()]
    sites = [site.epsilon for site in told.sites.values() if site.epsilon is not None]
    # Where no ledger is here, the sites' own figures are all there is.
    worst = max(found or sites, default=0.0)
    if told.basis == "plan":
        worst = max(sites, default=0.0)
    if not _same(told.epsilon, worst):
        return failed(
            f"the summary says ε = {told.epsilon} for the run, and its worst site has {worst:.6g}",
            "summary.json",
        )
    return passed(f"ε = {worst:.6g}, the worst site's")


def _adversaries(records: Records) -> Outcome:
    summary, job = records.summary.value, records.job.value
    if summary is None or job is None:
        return not_tested("there is no summary that can be read")
    told = summary.privacy.adversaries
    if not job.privacy.shared:
        if told:
            return failed(
                "the summary tells of several adversaries, and noise isn't shared", "summary.json"
            )
        return not_tested("each site adds all of its noise: against everybody ε is the same")
    if (why := records.without_ledgers) is not None:
        return not_tested(why)
    by_plan = summary.privacy.basis == "plan"
    if by_plan and not told:
        return inconclusive(
            "the summary tells no ε against each adversary: an earlier version's coordinator has "
            "written it, or they were taken out",
            "summary.json",
        )
    try:
        sites = [ledger.of_run(records.run) for _, ledger in records.with_ledgers()]
        found = _against(job, sites)
        planned = _planned(job, sites) if by_plan else found
    except (PrivacyError, ConfigError) as error:
        return failed(str(error))
    for name in dict.fromkeys([*planned, *told]):  # in one order, whoever looks at it
        if not _same(told.get(name), planned.get(name, math.nan)):
            whose = "the whole plan costs" if by_plan else "the worst ledger adds up to"
            return failed(
                f"against {name} the summary says ε = {told.get(name)}, and {whose} "
                f"{planned.get(name)}",
                "summary.json",
            )
        if found.get(name, 0.0) > planned[name] * (1 + _TOLD):
            return failed(
                f"against {name} the worst ledger adds up to ε = {found[name]:.6g}, and the whole "
                f"plan to {planned[name]:.6g}",
            )
    most = "at most " if by_plan else ""
    return passed("; ".join(f"{name}: ε = {most}{value:.6g}" for name, value in planned.items()))


def _planned(job: Job, sites: Sequence[RunEntries]) -> dict[str, float]:
    """Return ε of the whole plan against each adversary: the most that a run can have cost."""
    reserved = next((each for each in sites if each.reservations), None)
    plan = plan_of(job) if reserved is None else plan_by(job, reserved)
    return adversaries(plan, plan.spends(), job.secagg.masked.colluders)


def _against(job: Job, sites: Sequence[RunEntries]) -> dict[str, float]:
    """Return the worst site's ε against each adversary; equal schedules are worked out once."""
    schedules = {}
    for each in sites:
        if each.reservations:
            # Not merged: whose noise a spend's is depends on what it was for.
            kinds = Counter[tuple[float, float, Kind]]()
            for entry in each.spends:
                spend = entry.spend()
                kinds[spend.rate, spend.noise_multiplier, spend.kind] += spend.steps
            spends = tuple(Spend(r, z, n, kind) for (r, z, kind), n in sorted(kinds.items()))
            schedules[spends] = plan_by(job, each)
    found: dict[str, float] = {}
    for spends, plan in schedules.items():
        for name, value in adversaries(plan, spends, job.secagg.masked.colluders).items():
            found[name] = max(found.get(name, 0.0), value)
    return found


EPSILON = Family(
    name="epsilon",
    rules=(
        Rule(
            name="epsilon-bounds",
            says="Of what a ledger says that the run spent, PLD and RDP each have a finite bound "
            "at its own δ and adjacency, no bound is below what a test would show, and RDP's isn't "
            "below PLD's.",
            site=_bounds,
        ),
        Rule(
            name="epsilon-told",
            says="The summary's ε of each site is what its ledger adds up to (to 0.1 %). Where it "
            "is the plan's word, it is no less than that, nor than the job's.",
            site=_told,
            run=_by_plan,
        ),
        Rule(
            name="epsilon-kept",
            says="What the run has cost a site is no more than the job's ε.",
            site=_kept,
        ),
        Rule(
            name="epsilon-total",
            says="The summary's ε over all runs is what the site's whole ledger adds up to, for "
            "the job's unit (to 0.1 %).",
            site=_total,
        ),
        Rule(
            name="epsilon-worst",
            says="The summary's ε of the run is its worst site's.",
            run=_worst,
            ledgers=True,
        ),
        Rule(
            name="epsilon-adversaries",
            says="Where sites share the noise, the summary's ε against each adversary is what the "
            "worst ledger adds up to (to 0.1 %). Where it is the plan's word, it is what the whole "
            "plan costs, and no ledger adds up to more.",
            run=_adversaries,
            ledgers=True,
        ),
    ),
    needs=(
        *("schema", "chain", "signatures", "roster", "tree heads"),
        *("completeness", "job", "plan"),
    ),
    run_needs=("job", "plan"),
)
