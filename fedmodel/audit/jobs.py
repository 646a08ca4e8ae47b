"""Job: whether it is the one that its hash, the summary and every ledger name."""

from fedmodel import config
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested, passed
from fedmodel.errors import ConfigError

__all__ = ["JOB"]


def _complete(records: Records) -> Outcome:
    job = records.job
    if job.value is None:
        return failed(f"the job can't be read: {job.wrong}", job.name)
    return PASSED


def _hash(records: Records) -> Outcome:
    manifest = records.manifest
    try:
        found = config.digest(manifest.job)
    except ConfigError as error:
        return failed(f"the job has no canonical form: {error}", "manifest.json")
    if found != manifest.job_sha256:
        return failed(
            f"the job's SHA-256 is {found[:16]}…, and the manifest names {manifest.job_sha256[:16]}"
            "…: one of the two was changed",
            "manifest.json",
        )
    return PASSED


def _told(records: Records) -> Outcome:
    summary, named = records.summary.value, records.manifest.job_sha256
    if summary is None:
        return not_tested("there is no summary that can be read")
    if summary.job_sha256 != named:
        return failed(
            f"the summary is of job {summary.job_sha256[:16]}…, and the manifest of {named[:16]}…",
            "summary.json",
        )
    return PASSED


def _named(records: Records, site: SiteRecords) -> Outcome:
    ledger, named = site.ledger, records.manifest.job_sha256
    if ledger is None:
        return not_tested("it has no ledger here")
    of_run = ledger.of_run(records.run)
    # Every other entry of a run is held against its reservation's job as the ledger is read.
    for held in of_run.reservations:
        if held.entry.job != named:
            return failed(
                f"the run reserved for job {held.entry.job[:16]}…, and the manifest's is "
                f"{named[:16]}…",
                ledger.at(held.entry),
            )
    if not of_run.reservations:
        return not_tested("the run has reserved nothing here")
    return passed(f"{len(of_run.drawn)} entries")


JOB = Family(
    name="job",
    rules=(
        Rule(
            name="job-complete",
            says="The manifest's job is complete, and of a format that is known.",
            run=_complete,
        ),
        Rule(
            name="job-hash",
            says="The SHA-256 of the job's canonical form (RFC 8785) is the one that the manifest "
            "names.",
            run=_hash,
        ),
        Rule(
            name="job-named",
            says="The summary, and every entry of the run in a ledger, name that job.",
            run=_told,
            site=_named,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster", "tree heads"),
    run_needs=("job",),
)
