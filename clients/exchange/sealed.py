"""Sealed exchange: updates encrypted to the coordinator and signed by the site."""

from clients.exchange.roster import hidden_roster
from clients.exchange.work import Work
from clients.site import Site
from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.identity.seal import Context, seal
from fedmodel.secagg import messages
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.peers import Peers
from fedmodel.update import vector_sha256
from fedmodel.wire import Content, Offer, Order

__all__ = ["Sealed"]


class Sealed:
    """Updates in envelopes (:mod:`fedmodel.identity.seal`).

    Args:
        offer: of a job with ``secagg=seal``.
        site: with its roster.

    Raises:
        RefusedError: when the site has no roster, or isn't on it.
    """

    def __init__(self, offer: Offer, site: Site) -> None:
        job, joining = offer.job, offer.joining
        roster = hidden_roster(site, joining)
        self._to = bytes.fromhex(roster.seal)
        self._sign = site.state.key.sign
        self._ids = (joining, job.sha256, roster.sha256)
        self._member = roster.number_of(site.name)
        agreement = Agreement.of_keys(
            session=joining, job=job.sha256, roster=roster.sha256, rounds=job.train.rounds
        )
        self._peers = Peers(self._member, agreement, roster.keys, site.entropy)

    def advert(self) -> bytes | None:
        """Return the site's signed word on who it is in this joining."""
        return messages.encode(self._peers.advert(self._sign))

    def respond(self, order: Order, content: Content, work: Work) -> Content:
        """Answer an order to train with the sealed update."""
        update = work.train(order)
        work.given(order, vector_sha256(update.vector))
        session, job, roster = self._ids
        context = Context(
            session=session, job=job, roster=roster, member=self._member, round=order.round
        )
        sealed = seal(wire.update_to_bytes(update), to=self._to, sign=self._sign, context=context)
        reply = wire.encode_reply(work.standing(order.entries))
        return wire.add_parcel(reply, "sealed", sealed)

    def leg(self, name: str, data: bytes) -> bytes:
        """Refuse: there is no protocol between the sites."""
        raise ProtocolError("this site's job has no secure sums")
