"""Which sites have joined a session, and by which nodes."""

from flwr.app import RecordDict

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.secagg.aggregator import Aggregator

__all__ = ["Joined"]


class Joined:
    """One session in which updates are hidden or sealed.

    Args:
        protocol: that takes the sites' keys.
    """

    def __init__(self, protocol: Aggregator) -> None:
        self._protocol = protocol
        self.session = protocol.agreement.session
        self.numbers: dict[int, int] = {}  # node → the site's number in the roster

    def joined(self, node: int, content: RecordDict) -> None:
        """Take a site's signed key from its answer to the job.

        Raises:
            ProtocolError: when it isn't one, or another node has given that site's.
        """
        number = self._protocol.take_advert(wire.parcel(content, "secagg").tobytes())
        if number in self.numbers.values():
            raise ProtocolError(f"site {number} of the roster has joined already, by another node")
        self.numbers[node] = number
