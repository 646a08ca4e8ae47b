"""Plan of a run, as its job and a ledger have it, and what a site's entries are held against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_at
from fedmodel.audit.reading import LedgerReading, RunEntries
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import Outcome, failed, not_tested
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.job import Job
from fedmodel.ledger import Part, SpendEntry

__all__ = ["Held", "plan_by", "steps_of", "with_plan"]


def plan_by(job: Job, entries: RunEntries) -> Plan:
    """Return the plan that a job stands for at the noise that a run has reserved.

    Raises:
        PrivacyError: when none was reserved, or it can't be accounted.
        ConfigError: for a job without privacy.
    """
    for held in entries.reservations:
        for part in held.entry.parts:
            if part.kind == "train":
                return plan_at(job, float(part.noise_multiplier))
    raise PrivacyError("the run has reserved no step of training")


@dataclass(frozen=True, slots=True)
class Held:
    """What a site's entries of a run are held against, and where they stand."""

    job: Job
    plan: Plan
    entries: RunEntries
    ledger: LedgerReading


def with_plan(check: Callable[[Held], Outcome]) -> Callable[[Records, SiteRecords], Outcome]:
    """Return a check of a site's entries against the plan, which says why where there is none."""

    def made(records: Records, site: SiteRecords) -> Outcome:
        job, ledger = records.job.value, site.ledger
        if job is None or ledger is None:
            return not_tested("there is no job that can be read" if job is None else "no ledger")
        entries = ledger.of_run(records.run)
        if not entries.reservations:
            return not_tested("the run has reserved nothing here")
        if not job.privacy.private:
            where = ledger.at(entries.reservations[0].entry)
            return failed("the job promises no privacy, and the run has reserved some", where)
        try:
            plan = plan_by(job, entries)
        except (PrivacyError, ConfigError) as error:
            return failed(f"no plan fits: {error}", ledger.at(entries.reservations[0].entry))
        return check(Held(job, plan, entries, ledger))

    return made


def steps_of(entries: RunEntries, ledger: LedgerReading) -> Iterator[tuple[Part | SpendEntry, str]]:
    """Yield each part of a reservation, and one spend of each kind, with where it stands."""
    for held in entries.reservations:
        for part in held.entry.parts:
            yield part, ledger.at(held.entry)
    for entry in entries.kinds:
        yield entry, ledger.at(entry)
        for part in entry.given_up:
            yield part, ledger.at(entry)
