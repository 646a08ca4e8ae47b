"""Exchange: how a site's answers leave it, one file for each way of sending.

All have the same protocol, and a site's run knows no more of them than that.
"""

from typing import Protocol

from clients.exchange.plain import Plain
from clients.exchange.sealed import Sealed
from clients.exchange.summed import Summed
from clients.exchange.work import Work
from clients.site import Site
from fedmodel.wire import Content, Offer, Order

__all__ = ["Exchange", "Work", "make_exchange"]


class Exchange(Protocol):
    """How one site's answers in one joining leave it."""

    def advert(self) -> bytes | None:
        """Return the site's signed word on who it is in this joining; ``None``: none is needed."""

    def respond(self, order: Order, content: Content, work: Work) -> Content:
        """Answer an order to train.

        Args:
            order: what to do.
            content: the message it came in, for what the exchange sends besides.
            work: does it, once the exchange lets it: what is refused before costs nothing.
        """

    def leg(self, name: str, data: bytes) -> bytes:
        """Answer a message of a protocol between the sites: ``open``, ``consent`` or ``reveal``.

        Raises:
            ProtocolError: where there is no such protocol.
        """


def make_exchange(offer: Offer, site: Site, size: int) -> Exchange:
    """Return how a job's answers leave a site.

    Args:
        offer: of the run, with the job, and the name of this joining where updates are hidden.
        site: with its roster, likewise.
        size: parameters of an update.

    Raises:
        RefusedError: when updates are hidden and the site has no roster, or isn't on it.
        FloorError: when the job asks for less than the site's floors.
    """
    if offer.job.secagg.mode == "on":
        return Summed(offer, site, size)
    if offer.job.secagg.mode == "seal":
        return Sealed(offer, site)
    return Plain()
