"""Refusals of a site's policy, as its own security log has them."""

from collections.abc import Callable

from clients.policy import Broken
from clients.site import Site
from fedmodel import _hazmat
from fedmodel.identity.refusals import RefusalLog
from fedmodel.wire import Offer

__all__ = ["note_of"]


def note_of(offer: Offer, site: Site) -> Callable[[Broken], None]:
    """Return what writes down that an offer was refused, by which rule, and who had asked.

    Once for each run, job and rule; the numbers are the site's own, and stay there.

    Args:
        offer: that is refused.
        site: by whom.
    """

    def note(broken: Broken) -> None:
        run, job = offer.run, offer.job.sha256
        key = None if site.roster is None else bytes.fromhex(site.roster.coordinator)
        RefusalLog(site.state.folder, site.clock).add(
            "job-refused",
            same=(run, job, broken.rule),
            rule=broken.rule,
            asked=broken.asked,
            allowed=broken.allowed,
            run=run,
            job=job,
            coordinator="none" if key is None else _hazmat.fingerprint(key),
        )

    return note
