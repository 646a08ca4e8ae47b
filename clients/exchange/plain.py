"""Plain exchange: the coordinator reads each update."""

from clients.exchange.work import Work
from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.update import vector_sha256
from fedmodel.wire import Content, Order

__all__ = ["Plain"]


class Plain:
    """Updates in the clear."""

    def advert(self) -> bytes | None:
        """Return ``None``: who a site is, its node says."""
        return None

    def respond(self, order: Order, content: Content, work: Work) -> Content:
        """Answer an order to train with the update."""
        update = work.train(order)
        work.given(order, vector_sha256(update.vector))
        return wire.encode_update(update, work.standing(order.entries))

    def leg(self, name: str, data: bytes) -> bytes:
        """Refuse: there is no protocol between the sites."""
        raise ProtocolError("this site's job has no secure sums")
