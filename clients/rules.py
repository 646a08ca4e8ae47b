"""A site's own rules against a job: they outrank it, and they are asked before anything runs."""

from clients.site import Site
from fedmodel.data import check_site
from fedmodel.errors import RefusedError
from fedmodel.job import Job

__all__ = ["check"]


def check(job: Job, site: Site) -> None:
    """Refuse a job that this site can't or won't take part in.

    Raises:
        RefusedError: for a job whose labels lack one of the site's.
        DataError: for a site with fewer rows than a batch needs.
    """
    check_site(site.name, site.rows, job.train.batch_size)
    unknown = set(site.rows.labels) - set(job.model.labels)
    if unknown:
        raise RefusedError(
            f"this site has {len(unknown)} label(s) that the job doesn't list; agree on "
            "model.labels first"
        )
