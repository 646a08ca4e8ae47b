"""The roll of a joining: which sites of the roster have joined, and by which nodes."""

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.secagg.aggregator import Aggregator
from fedmodel.secagg.messages import Advert, largest
from fedmodel.wire import Content

__all__ = ["Roll"]


class Roll:
    """The sites of one joining in which updates are hidden or sealed.

    Args:
        aggregator: that takes the sites' keys.
        latest: the last round to whose sum any site can have agreed.
    """

    def __init__(self, aggregator: Aggregator, latest: int = 0) -> None:
        self._aggregator = aggregator
        self._latest = latest
        self.joining = aggregator.agreement.session
        self.numbers: dict[int, int] = {}  # node → the site's number in the roster

    def admit(self, node: int, content: Content, member: int | None = None) -> None:
        """Take a site's signed key from its answer to the offer.

        Args:
            node: that answered.
            content: of the answer.
            member: number of the site that has signed to be at that node; ``None``: nobody has.

        Raises:
            ProtocolError: when it isn't one, is another site's than the node's, or another node has
                given that site's.
        """
        data = wire.parcel(content, "secagg", most=largest(Advert, 1)).tobytes()
        number = self._aggregator.take_advert(data, self._latest)
        if member not in (None, number):
            raise ProtocolError(
                f"a key of site {number} of the roster from a node that has signed as site {member}"
            )
        if number in self.numbers.values():
            raise ProtocolError(f"site {number} of the roster has joined already, by another node")
        self.numbers[node] = number
