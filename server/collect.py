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


def collect(
    replies: Iterable[Message], asked: Iterable[int], size: int, *, uniform: bool = False
) -> Collected:
    """Sum the updates in the order of node ids, so that the result doesn't depend on arrival.

    Args:
        replies: what came back.
        asked: the nodes that were asked; the missing ones count as failures.
        size: parameters an update must have.
        uniform: every update must have weight 1: no site can make itself count for more.

    Returns:
        The mean and the failures. A malformed or repeated reply is a failure of its sender.
    """
    out = Collected()
    expected = set(asked)
    answers: dict[int, Message] = {}
    repeated: set[int] = set()
    for reply in replies:
        node = reply.metadata.src_node_id
        if node in answers:
            repeated.add(node)
        if node in expected:
            answers[node] = reply
    updates: list[Update] = []
    for node in sorted(expected):
        if node not in answers:
            out.failures[node] = wire.Failure(reason="no answer in time")
            continue
        if node in repeated:
            # Taking one of them would make the result depend on which came first.
            out.failures[node] = wire.Failure(reason="answered more than once")
            continue
        reply = answers[node]
        if reply.has_error():
            out.failures[node] = wire.decode_error(reply.error)
            continue
        try:
            updates.append(_checked(wire.decode_update(reply.content, size), uniform))
        except ProtocolError as error:
            out.failures[node] = wire.Failure(reason=f"malformed update: {error}")
    out.updates = len(updates)
    out.mean = Update.total(updates).mean() if updates else None
    return out


def _checked(update: Update, uniform: bool) -> Update:
    if uniform and update.weight != 1.0:
        raise ProtocolError(f"expected weight 1, got {update.weight:g}")
    return update
