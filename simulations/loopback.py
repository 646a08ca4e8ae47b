"""A Flower ``Grid`` in one process: messages go straight to the real ``ClientApp``.

What a client gets is a copy of the message's structure, so that none can write into another's;
the arrays' bytes are immutable and shared, so that nothing big is copied.
"""

import copy
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmodel.wire.arrays import array_of

__all__ = ["LoopbackGrid", "Traffic"]

R = TypeVar("R", ConfigRecord, MetricRecord)

logger = logging.getLogger(__name__)

SERVER = 1  # the coordinator's own node id
_CLIENT_FAILED = 255


@dataclass(slots=True)
class Traffic:
    """Bytes of arrays and text that would have crossed the network."""

    up: int = 0
    down: int = 0


def isolated(content: RecordDict) -> tuple[RecordDict, int]:
    """Return a copy that shares only immutable bytes, and its size in bytes."""
    out, size = RecordDict(), 0
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = record.copy()
            for key, array in record.items():
                arrays[key] = array_of(array.dtype, tuple(array.shape), array.stype, array.data)
                size += len(array.data)
            out[name] = arrays
        elif isinstance(record, MetricRecord):
            size += sum(8 * len(v) if isinstance(v, list) else 8 for v in record.values())
            out[name] = _copy(record)
        else:
            size += sum(len(v) if isinstance(v, str | bytes) else 8 for v in record.values())
            out[name] = _copy(record)
    return out, size


def _copy(record: R) -> R:
    copied = record.copy()  # its values were checked when they were put in
    for name, value in record.items():
        if isinstance(value, list):
            copied[name] = value.copy()
    return copied


class LoopbackGrid(Grid):
    """Calls a ``ClientApp`` for each message, one after the other.

    Args:
        client: the app.
        contexts: node id → that node's context (ids of 2 and more; 1 is the coordinator).
        run: the Flower run.
    """

    signed_replies = True  # or as good as that: in one process nobody stands between

    def __init__(self, client: ClientApp, contexts: Mapping[int, Context], run: Run) -> None:
        self._client = client
        self._contexts = dict(contexts)
        self._others: dict[int, ClientApp] = {}
        self._replies: dict[str, Message] = {}
        self._counter = 0
        self.traffic = Traffic()
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

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes' ids."""
        return list(self._contexts)

    def replace(self, node: int, client: ClientApp) -> None:
        """Let a node be another process from now on: an app that knows nothing of what was.

        Args:
            node: whose process has ended.
            client: the app of the new one.
        """
        self._others[node] = client

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages and keep the replies for :meth:`pull_messages`."""
        ids = []
        for message in messages:
            reply = self._deliver(message)
            self._replies[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return (once) the replies to pushed messages."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return their replies; nothing is waited for in one process."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> Message:
        self._counter += 1
        # Flower numbers messages when they reach its server; a reply refers to that number.
        message.metadata.__dict__["_message_id"] = f"loopback-{self._counter}"
        content, size = isolated(message.content)
        self.traffic.down += size
        node = message.metadata.dst_node_id
        metadata = copy.copy(message.metadata)
        delivered = Message(content, metadata=metadata)  # type: ignore[call-overload]
        TaskIdentity.node_id = node
        try:
            if node not in self._contexts:
                raise LookupError(f"no node {node}")
            client = self._others.get(node, self._client)
            reply = client(delivered, self._contexts[node])
        except Exception as error:
            # As over a network: the coordinator learns that it failed, not the traceback.
            logger.error("node %s: the client app raised %s", node, type(error).__name__)
            return Message(Error(_CLIENT_FAILED, type(error).__name__), reply_to=message)
        finally:
            TaskIdentity.node_id = SERVER
        if reply.has_error():
            return reply
        content, size = isolated(reply.content)
        self.traffic.up += size
        answer: Message = Message(content, metadata=reply.metadata)  # type: ignore[call-overload]
        return answer
