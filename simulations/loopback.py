"""A Flower ``Grid`` in one process: messages go straight to the real ``ClientApp``.

What a client gets is a copy of the message's structure, so that none can write into another's;
the arrays' bytes are immutable and shared, so that nothing big is copied.
"""

import copy
import logging
from collections.abc import Iterable, Mapping
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
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedmodel.wire.arrays import array_of
from fedmodel.wire.grids import SERVER, AnsweringGrid

__all__ = ["LoopbackGrid"]

R = TypeVar("R", ConfigRecord, MetricRecord)

logger = logging.getLogger(__name__)

_CLIENT_FAILED = 255


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


class LoopbackGrid(AnsweringGrid):
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
        super().__init__(run)

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

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages and return their replies; nothing is waited for in one process."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> Message:
        self._number(message)
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
