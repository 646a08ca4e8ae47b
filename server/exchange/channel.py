"""The channel to the sites: asks them over Flower's grid, and reads who answered."""

from collections.abc import Iterable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from fedmodel import wire
from fedmodel.wire import Content
from server.answers import Answer

__all__ = ["Channel"]


class Channel:
    """Messages to the nodes of a grid, and their answers.

    Args:
        grid: to the sites.
        timeout: seconds to wait for answers.
    """

    def __init__(self, grid: Grid, timeout: float | None = None) -> None:
        self._grid = grid
        self._timeout = timeout

    def nodes(self) -> list[int]:
        """Return the nodes that there are, in rising order."""
        return sorted(self._grid.get_node_ids())

    def ask(self, kind: str, contents: Mapping[int, Content], group: str = "") -> list[Answer]:
        """Send every node its content; return what they answer to that, as it comes.

        An answer to an earlier question comes too late and is passed over.

        Args:
            kind: of message.
            contents: node id → what it is sent.
            group: names the question among those of its kind.
        """
        messages = [
            Message(content, node, kind, group_id=group) for node, content in contents.items()
        ]
        replies: Iterable[Message] = self._grid.send_and_receive(messages, timeout=self._timeout)
        return [
            _answer(reply)
            for reply in replies
            if (reply.metadata.message_type, reply.metadata.group_id) == (kind, group)
        ]


def _answer(reply: Message) -> Answer:
    node = reply.metadata.src_node_id
    if reply.has_error():
        return Answer(node=node, failure=wire.decode_error(reply.error))
    return Answer(node=node, content=reply.content)
