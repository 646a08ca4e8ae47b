"""A site's own rules against a job: they outrank it, and they are asked before anything runs."""

from clients.site import Site
from fedmodel.data import check_site
from fedmodel.errors import DataError, RefusedError
from fedmodel.job import Job

__all__ = ["check"]


def check(job: Job, site: Site) -> None:
    """Refuse a job that this site can't or won't take part in.

    Raises:
        RefusedError: for a job whose labels lack one of the site's.
        DataError: for a site with fewer rows than the job or, without DP, a batch needs. (A
            private batch draws each row independently, so it needs no number of them.)
    """
    if len(site.rows) < job.federation.min_rows:
        raise DataError(
            f"site '{site.name}': expected at least {job.federation.min_rows} training rows "
            f"(federation.min_rows), got {len(site.rows)}; give it more rows or leave it out"
        )
    if not job.privacy.private:
        check_site(site.name, site.rows, job.train.batch_size)
    unknown = set(site.rows.labels) - set(job.model.labels)
    if unknown:
        raise RefusedError(
            "this site has labels that the job doesn't list; agree on model.labels first"
        )
