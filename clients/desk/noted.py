"""Offers that a site takes note of: at most so many new ones a day, where its policy says so."""

from clients.circumstances import Circumstances
from clients.policy import decide
from clients.site import Site
from fedmodel import config
from fedmodel.wire import Offer

__all__ = ["circumstances_of", "note_offer"]


def circumstances_of(offer: Offer, site: Site) -> Circumstances:
    """Return what comes with an offer, for the site's policy to look at.

    Raises:
        RunFolderError: when it can't be read how many offers there were of late.
    """
    now, count = site.clock(), 0
    if site.policy.limits.offers is not None:
        count = site.offered.would_be(_key(offer), now)
    return Circumstances(base=offer.base, now=now, offers=count)


def note_offer(offer: Offer, site: Site) -> None:
    """Take note of an offer; nothing where the policy has no limit of them.

    Raises:
        RefusedError: when there were too many of late after all: another process has noted some.
        RunFolderError: when that can't be read or written.
    """
    most = site.policy.limits.offers
    if most is None:
        return
    now = site.clock()
    count = site.offered.note(_key(offer), now, most)
    decide(offer.job, site.policy, offered=Circumstances(base=offer.base, now=now, offers=count))


def _key(offer: Offer) -> str:
    return config.digest([offer.run, offer.job.sha256])
