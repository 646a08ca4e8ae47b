"""A Flower ``Grid`` over a hub: every member of the roster is a node, connected or not."""

from collections.abc import Iterable, Mapping

from flwr.app import Error, Message
from flwr.supercore.run import Run

from fedmodel.errors import ProtocolError
from fedmodel.transport.host import number_of_run
from fedmodel.transport.hub import Hub
from fedmodel.transport.questions import Answered, Question
from fedmodel.wire.buffers import packed, unpacked
from fedmodel.wire.grids import AnsweringGrid, member_of, node_of

__all__ = ["HubGrid"]

_NO_ANSWER = 251


class HubGrid(AnsweringGrid):
    """What carries a ``ServerApp``'s messages to the sites of a hub.

    A site's node is its number in the roster, so it stays the same whatever is started anew.

    Args:
        hub: to the sites.
    """

    signed_replies = True  # each is checked against its header, which its site has signed

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        super().__init__(Run.create_empty(number_of_run(hub.config.run)))

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of all members: a quorum is of the roster, not of who is connected."""
        return [node_of(member) for member in sorted(self._hub.config.roster.keys)]

    def incarnations(self) -> Mapping[int, str]:
        """Return which process is connected at each node; who isn't connected isn't in it."""
        return {node_of(member): name for member, name in self._hub.incarnations().items()}

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Ask the messages' nodes at once, and return their replies.

        Args:
            messages: one for each node at most.
            timeout: seconds to wait for them.
        """
        sent = {}
        questions = []
        for message in messages:
            self._number(message)
            question = self._question(message)
            sent[question.member] = message
            questions.append(question)
        answers = self._hub.ask(questions, timeout)
        return [self._reply(sent[answer.member], answer) for answer in answers]

    def _question(self, message: Message) -> Question:
        return Question(
            member=member_of(message.metadata.dst_node_id),
            type=message.metadata.message_type,
            group=message.metadata.group_id,
            parts=packed(message.content),
        )

    def _reply(self, message: Message, answer: Answered) -> Message:
        self.traffic.down += answer.sent
        if answer.payload is None:
            return Message(Error(_NO_ANSWER, answer.reason), reply_to=message)
        self.traffic.up += len(answer.payload)
        try:
            content = unpacked(answer.payload)
        except ProtocolError as error:
            return Message(Error(_NO_ANSWER, f"malformed answer: {error}"), reply_to=message)
        reply: Message = Message(content, reply_to=message)
        return reply
