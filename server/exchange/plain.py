"""Plain exchange: the coordinator reads each update."""

from fedmodel import wire
from fedmodel.job import Job
from fedmodel.update import Update, Vector
from fedmodel.wire import Content
from server.collect import Collected
from server.exchange.channel import Channel
from server.exchange.protocol import Invitation, collect_updates
from server.exchange.voice import Moment

__all__ = ["Plain"]


class Plain:
    """Updates in the clear.

    Args:
        job: with ``secagg=off``.
        size: parameters of an update.
        joining: names this joining; empty where sites have no roster.
    """

    def __init__(self, job: Job, size: int, joining: str = "") -> None:
        self._job = job
        self._size = size
        self.joining = joining

    def admit(self, node: int, content: Content, member: int | None = None) -> None:
        """Admit every node: who a site is, it has said before."""

    def lost(self, round_: int) -> bool:
        """Return ``False``: sites repeat any round."""
        return False

    def recover(self, channel: Channel, round_: int, vector: Vector) -> Collected | None:
        """Return ``None``: sites repeat any round."""
        return None

    def collect(self, channel: Channel, invitation: Invitation) -> Collected:
        """Play a round (see :class:`server.exchange.protocol.Exchange`)."""

        def read(node: int, content: Content) -> Update:
            return wire.decode_update(content, self._size)

        orders = {node: invitation.order(node) for node in invitation.nodes}
        moment = Moment(invitation.round)
        answers = iter(channel.ask("train", orders, str(invitation.round), moment))
        return collect_updates(self._job, answers, invitation, read)
