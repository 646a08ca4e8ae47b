"""Offers as a site keeps them: what whoever decides is told of who asks."""

from clients.desk.approvals import Asked
from fedmodel.identity import Roster
from fedmodel.wire import Offer

__all__ = ["asked_by"]


def asked_by(offer: Offer, roster: Roster | None) -> Asked:
    """Return what a site keeps of an offer.

    Args:
        offer: as it came.
        roster: the site's own, by which it knows the coordinator; ``None`` without one.
    """
    return Asked(
        run=offer.run,
        purpose=offer.purpose,
        coordinator=None if roster is None else roster.coordinator,
        consortium=None if roster is None else roster.name,
        since="",
        job=offer.job.json.decode(),
    )
