"""Replies of a round → one weighted mean (plain: the coordinator sees each update)."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from flwr.app import Message

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.update import Update

__all__ = ["Collected", "collect"]


@dataclass(slots=True)
class Collected:
    """What came back in a round.

    Args:
        mean: weighted mean of the updates, ``None`` if there was none.
        updates: how many sites gave one.
        failures: node id → why a site gave none.
    """

    mean: Update | None = None
    updates: int = 0
    failures: dict[int, wire.Failure] = field(default_factory=dict)

    @property
    def budgets_spent(self) -> bool:
        """Whether no site failed for any other reason than a spent budget."""
        return bool(self.failures) and all(f.budget for f in self.failures.values())


def collect(replies: Iterable[Message], asked: Iterable[int], size: int) -> Collected:
    """Sum the updates in the order of node ids, so that the result doesn't depend on arrival.

    Args:
        replies: what came back.
        asked: the nodes that were asked; the missing ones count as failures.
        size: parameters an update must have.

    Returns:
        The mean and the failures. A malformed or repeated reply is a failure of its sender.
    """
    out = Collected()
    expected = set(asked)
    answers: dict[int, Message] = {}
    for reply in replies:
        node = reply.metadata.src_node_id
        if node in expected and node not in answers:
            answers[node] = reply
    total: Update | None = None
    for node in sorted(expected):
        if node not in answers:
            out.failures[node] = wire.Failure(reason="no answer in time")
            continue
        reply = answers[node]
        if reply.has_error():
            out.failures[node] = wire.decode_error(reply.error)
            continue
        try:
            update = wire.decode_update(reply.content, size)
        except ProtocolError as error:
            out.failures[node] = wire.Failure(reason=f"malformed update: {error}")
            continue
        total = update if total is None else total + update
        out.updates += 1
    out.mean = None if total is None else total.mean()
    return out
