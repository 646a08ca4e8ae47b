"""A Flower ``Grid`` that answers at once: what those of a simulation and of the network share."""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["FIRST_SITE", "SERVER", "AnsweringGrid", "Crossed", "member_of", "node_of"]

SERVER = 1  # the coordinator's own node id
FIRST_SITE = 2


def node_of(member: int) -> int:
    """Return the node id of a site by its number in the roster."""
    return member - 1 + FIRST_SITE


def member_of(node: int) -> int:
    """Return the number in the roster of the site at a node."""
    return node - FIRST_SITE + 1


@dataclass(slots=True)
class Crossed:
    """Bytes that have crossed.

    Args:
        up: from the sites.
        down: to them.
    """

    up: int = 0
    down: int = 0


class AnsweringGrid(Grid):
    """A grid whose messages are all answered when :meth:`send_and_receive` returns.

    Args:
        run: the Flower run.
    """

    def __init__(self, run: Run) -> None:
        self._replies: dict[str, Message] = {}
        self._counter = 0
        self.traffic = Crossed()
        self.set_run(run)

    def set_run(self, run: Run) -> None:
        """Set the run, and this process's identity in it (``Message`` reads it)."""
        self._run = run
        TaskIdentity.run_id = run.run_id
        TaskIdentity.task_id = 1
        TaskIdentity.node_id = SERVER

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

    @abstractmethod
    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return their replies."""

    def _number(self, message: Message) -> None:
        """Number a message, as Flower's server would; a reply refers to that number."""
        self._counter += 1
        message.metadata.__dict__["_message_id"] = f"message-{self._counter}"
