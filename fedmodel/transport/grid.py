"""A Flower ``Grid`` over a hub: every member of the roster is a node, connected or not."""

from collections.abc import Iterable, Mapping

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmodel.errors import ProtocolError
from fedmodel.transport.host import FIRST_NODE, node_of, number_of_run
from fedmodel.transport.hub import Answered, Hub, Question
from fedmodel.wire.buffers import packed, unpacked

__all__ = ["HubGrid", "Traffic"]

_SERVER = 1
_NO_ANSWER = 251


class Traffic:
    """Bytes of payloads that have crossed the network.

    Attributes:
        up: from the sites.
        down: to them.
    """

    def __init__(self) -> None:
        self.up = 0
        self.down = 0


class HubGrid(Grid):
    """What carries a ``ServerApp``'s messages to the sites of a hub.

    A site's node is its number in the roster, so it stays the same whatever is started anew.

    Args:
        hub: to the sites.
    """

    signed_replies = True  # each is checked against its header, which its site has signed

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._replies: dict[str, Message] = {}
        self._counter = 0
        self.traffic = Traffic()
        self.set_run(Run.create_empty(number_of_run(hub.config.run)))

    def set_run(self, run: Run) -> None:
        """Set the run, and this process's identity in it (``Message`` reads it)."""
        self._run = run
        TaskIdentity.run_id = run.run_id
        TaskIdentity.task_id = 1
        TaskIdentity.node_id = _SERVER

    @property
    def run(self) -> Run:
        """The run this grid works in."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Create a message (kept for Flower's own callers)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes of all members: a quorum is of the roster, not of who is connected."""
        return [node_of(member) for member in sorted(self._hub.config.roster.keys)]

    def incarnations(self) -> Mapping[int, str]:
        """Return which process is connected at each node; who isn't connected isn't in it."""
        return {node_of(member): name for member, name in self._hub.incarnations().items()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep the replies for :meth:`pull_messages`."""
        ids = []
        for message in list(messages):
            for reply in self.send_and_receive([message]):
                self._replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return (once) the replies to pushed messages."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

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
            self._counter += 1
            # Flower numbers messages when they reach its server; a reply refers to that number.
            message.metadata.__dict__["_message_id"] = f"hub-{self._counter}"
            question = self._question(message)
            sent[question.member] = message
            questions.append(question)
        answers = self._hub.ask(questions, timeout)
        return [self._reply(sent[answer.member], answer) for answer in answers]

    def _question(self, message: Message) -> Question:
        parts = packed(message.content)
        self.traffic.down += sum(len(part) for part in parts)
        return Question(
            member=message.metadata.dst_node_id - FIRST_NODE + 1,
            type=message.metadata.message_type,
            group=message.metadata.group_id,
            parts=parts,
        )

    def _reply(self, message: Message, answer: Answered) -> Message:
        if answer.payload is None:
            return Message(Error(_NO_ANSWER, answer.reason), reply_to=message)
        self.traffic.up += len(answer.payload)
        try:
            content = unpacked(answer.payload)
        except ProtocolError as error:
            return Message(Error(_NO_ANSWER, f"malformed answer: {error}"), reply_to=message)
        reply: Message = Message(content, reply_to=message)
        return reply
