"""A site's own rules against a job: they outrank it, and they are asked before anything runs."""

from clients.site import Site
from fedmodel import tasks
from fedmodel.data import Rows, check_site
from fedmodel.errors import ConfigError, DataError, RefusedError
from fedmodel.job import Job, Privacy

__all__ = ["check", "count_units", "protected_units"]


def check(job: Job, site: Site) -> None:
    """Refuse a job that this site can't or won't take part in.

    Raises:
        ConfigError: for a private job without a public sampling rate.
        RefusedError: for a job whose labels lack one of the site's.
        DataError: for a site with fewer rows than the job or, without DP, a batch needs (a private
            batch draws each unit independently, so it needs no number of them), without the
            patients that the job protects, or without the test rows that it asks about.
    """
    if job.privacy.private and job.privacy.rate is None:
        raise ConfigError(
            "a private job needs a public privacy.rate (the share of a site's "
            f"{job.privacy.unit}s in a step, the same at every site), got null; agree on one, "
            "such as train.batch_size over their published mean number at a site"
        )
    if len(site.rows) < job.federation.min_rows:
        raise DataError(
            f"site '{site.name}': expected at least {job.federation.min_rows} training rows "
            f"(federation.min_rows), got {len(site.rows)}; give it more rows or leave it out"
        )
    if job.privacy.private:
        protected_units(job, site)
    if job.privacy.unit == "site" or not job.privacy.private:
        check_site(site.name, site.rows, job.train.batch_size)
    task = tasks.of(job.model.task)
    found = set().union(*(task.vocabulary(part.labels) for part in _parts(job, site)))
    if found - set(job.model.labels):
        raise RefusedError(
            "this site has labels that the job doesn't list; agree on model.labels first"
        )


def count_units(privacy: Privacy, *parts: Rows) -> int:
    """Return how many units, by the job's notion, some rows of a site are of. It is private.

    Raises:
        DataError: when patients are the unit and the rows don't name theirs.
    """
    if privacy.unit == "site":
        return 1
    if privacy.unit == "record":
        return sum(map(len, parts))
    patients: set[str] = set()
    for rows in parts:
        if rows.patients is None:
            raise DataError(
                "privacy.unit=patient hides a patient with all rows, so it needs the patient of "
                "each row, and these rows have none; set data.patient=COLUMN, or privacy=record"
            )
        patients.update(rows.patients)
    return len(patients)


def protected_units(job: Job, site: Site) -> int:
    """Return how many units the promise is to, as far as the site can tell.

    Those of all rows that the job touches here; where a site is the unit, the sites of the job.

    Raises:
        DataError: when they can't be counted.
    """
    if job.privacy.unit == "site":
        return job.federation.sites
    return count_units(job.privacy, *_parts(job, site))


def _parts(job: Job, site: Site) -> tuple[Rows, ...]:
    if not job.releases_evaluation:
        return (site.rows,)
    if site.test is None:
        raise DataError(
            f"site '{site.name}': the job ends with an evaluation on rows that each site has held "
            "out (federation.test=held-out), and this site has none; hold some out, or agree on "
            "privacy.evaluation=suppressed"
        )
    return (site.rows, site.test)
