"""The channel to the sites: asks them over Flower's grid, and reads who answered."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

from fedmodel import wire
from fedmodel.wire import Content, Failure
from server.answers import Answer
from server.exchange.voice import Moment, Voice

__all__ = ["CarriesSigned", "Channel", "KnowsProcesses"]

ANYTIME = Moment()


@runtime_checkable
class KnowsProcesses(Protocol):
    """A grid that knows which process of a site is connected."""

    def incarnations(self) -> Mapping[int, str]:
        """Return node → name of the process that is connected there now; none: not there."""


@runtime_checkable
class CarriesSigned(Protocol):
    """A grid that says whether each reply comes under its site's signature, checked."""

    @property
    def signed_replies(self) -> bool:
        """Whether nobody between a site and here can have changed what it replies."""


class Channel:
    """Messages to the nodes of a grid, and their answers.

    Args:
        grid: to the sites.
        timeout: seconds to wait for answers.

    Attributes:
        voice: signs what is sent; ``None``: nothing is signed, for nobody has a roster.
    """

    def __init__(self, grid: Grid, timeout: float | None = None) -> None:
        self._grid = grid
        self._timeout = timeout
        self.voice: Voice | None = None
        self._joinings = 0

    def nodes(self) -> list[int]:
        """Return the nodes that there are, in rising order."""
        return sorted(self._grid.get_node_ids())

    def incarnations(self) -> dict[int, str]:
        """Return node → name of the process that is there now; who isn't connected isn't in it.

        To a grid that doesn't know such, each node that there is is always the same one.
        """
        if isinstance(self._grid, KnowsProcesses):
            return dict(self._grid.incarnations())
        return dict.fromkeys(self.nodes(), "")

    @property
    def signed(self) -> bool:
        """Whether what is wrong in an answer is its site's own doing; of Flower's grids it isn't.

        What carries messages there, and has no site's key, could change them.
        """
        return isinstance(self._grid, CarriesSigned) and self._grid.signed_replies

    @contextmanager
    def brief(self, seconds: float) -> Iterator[None]:
        """Wait no longer than so many seconds for an answer meanwhile."""
        usual = self._timeout
        self._timeout = seconds if usual is None else min(seconds, usual)
        try:
            yield
        finally:
            self._timeout = usual

    @contextmanager
    def speaking(self, voice: Voice) -> Iterator[None]:
        """Speak with another voice meanwhile: of another run."""
        usual, self.voice = self.voice, voice
        try:
            yield
        finally:
            self.voice = usual

    def greet(self, joining: str) -> dict[int, Failure | None]:
        """Ask all nodes who they are that haven't said so in a joining.

        Args:
            joining: names it.

        Returns:
            Node → ``None`` where it is known, or why not, of those that were asked. Without a
            voice, where each is whoever the grid says, all are known.
        """
        nodes, voice = self.nodes(), self.voice
        if voice is None or voice.joining != joining:
            self._joinings += 1
        if voice is None:
            return dict.fromkeys(nodes)
        known = voice.members if voice.joining == joining else {}
        asked = [node for node in nodes if node not in known]
        if not asked:
            return {}
        return voice.greet(joining, asked, lambda contents: self._send(wire.HELLO, contents, ""))

    def ask(
        self,
        kind: str,
        contents: Mapping[int, Content],
        group: str = "",
        at: Moment = ANYTIME,
    ) -> list[Answer]:
        """Send every node its content, signed; return what they answer to that, as it comes.

        An answer to an earlier question comes too late and is passed over.

        Args:
            kind: of message.
            contents: node id → what it is sent.
            group: names the question among those of its kind.
            at: round and attempt that it belongs to.
        """
        voice = self.voice
        if voice is not None:
            contents = {
                node: voice.sign(kind, node, content, at) for node, content in contents.items()
            }
        return self._send(kind, contents, group)

    def _send(self, kind: str, contents: Mapping[int, Content], group: str) -> list[Answer]:
        if self._joinings > 1:  # an answer of an earlier joining is none in this
            group = f"{group}+{self._joinings}"
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
