"""Replies of a round → one weighted mean (plain: the coordinator sees each update).

And of an evaluation → each site's noised counts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update

__all__ = [
    "Check",
    "Collected",
    "Combine",
    "Read",
    "collect",
    "collect_counts",
    "nothing",
    "read_all",
]

T = TypeVar("T")
Check = Callable[[int, RecordDict], None]
Read = Callable[[int, RecordDict], Update]
Combine = Callable[[Sequence[Update]], Update]


@dataclass(slots=True)
class Collected:
    """What came back in a round.

    Args:
        mean: weighted mean of the updates, ``None`` if there was none.
        givers: the nodes whose updates are in it.
        failures: node id → why a site gave none, or failed to do all that it was asked for.
        reason: why there is no mean although sites gave updates.
    """

    mean: Update | None = None
    givers: tuple[int, ...] = ()
    failures: dict[int, wire.Failure] = field(default_factory=dict)
    reason: str | None = None

    @property
    def updates(self) -> int:
        """How many sites gave an update."""
        return len(self.givers)

    @property
    def budgets_spent(self) -> bool:
        """Whether no site failed for any other reason than a spent budget."""
        return bool(self.failures) and all(f.budget for f in self.failures.values())


def nothing(node: int, content: RecordDict) -> None:
    """Check nothing more."""


def collect(
    replies: Iterable[Message],
    asked: Iterable[int],
    size: int,
    *,
    uniform: bool = False,
    check: Check = nothing,
    read: Read | None = None,
    combine: Combine = lambda updates: Update.total(updates).mean(),
) -> Collected:
    """Sum the updates in the order of node ids, so that the result doesn't depend on arrival.

    Args:
        replies: what came back.
        asked: the nodes that were asked; the missing ones count as failures.
        size: parameters an update must have.
        uniform: every update must have weight 1: no site can make itself count for more.
        check: what else a node's reply must pass; it raises ProtocolError.
        read: makes an update of a node's reply; by default of one in the clear.
        combine: makes one update of them; by default their weighted mean.

    Returns:
        The mean and the failures. A malformed or repeated reply is a failure of its sender.
    """

    def plain(node: int, content: RecordDict) -> Update:
        return wire.decode_update(content, size)

    def checked(node: int, content: RecordDict) -> Update:
        return _checked((read or plain)(node, content), uniform)

    updates, failures = read_all(replies, asked, checked, check, "update")
    mean = combine(list(updates.values())) if updates else None
    return Collected(mean=mean, givers=tuple(updates), failures=failures)


def collect_counts(
    replies: Iterable[Message], asked: Iterable[int], size: int, check: Check = nothing
) -> tuple[list[Counts], dict[int, wire.Failure]]:
    """Return the noised counts of the sites that gave some, and why the others didn't.

    Args:
        replies: what came back.
        asked: the nodes that were asked.
        size: how many counts each must have.
        check: what else a reply must pass.
    """

    def read(node: int, content: RecordDict) -> Counts:
        return wire.decode_counts(content, size)

    counts, failures = read_all(replies, asked, read, check, "counts")
    return list(counts.values()), failures


def read_all(
    replies: Iterable[Message],
    asked: Iterable[int],
    read: Callable[[int, RecordDict], T],
    check: Check,
    what: str,
) -> tuple[dict[int, T], dict[int, wire.Failure]]:
    """Read every node's reply, in the order of node ids.

    Args:
        replies: what came back.
        asked: the nodes that were asked.
        read: makes something of a node's reply; it raises ProtocolError.
        check: what else a reply must pass.
        what: what it is, for messages.

    Returns:
        Node id → what was read, in rising order, and node id → why there is nothing.
    """
    expected = set(asked)
    answers: dict[int, Message] = {}
    repeated: set[int] = set()
    for reply in replies:
        node = reply.metadata.src_node_id
        if node in answers:
            repeated.add(node)
        if node in expected:
            answers[node] = reply
    found: dict[int, T] = {}
    failures: dict[int, wire.Failure] = {}
    for node in sorted(expected):
        if node not in answers:
            failures[node] = wire.Failure(reason="no answer in time")
            continue
        if node in repeated:
            # Taking one of them would make the result depend on which came first.
            failures[node] = wire.Failure(reason="answered more than once")
            continue
        reply = answers[node]
        if reply.has_error():
            failures[node] = wire.decode_error(reply.error)
            continue
        try:
            check(node, reply.content)
            found[node] = read(node, reply.content)
        except ProtocolError as error:
            failures[node] = wire.Failure(reason=f"malformed {what}: {error}")
    return found, failures


def _checked(update: Update, uniform: bool) -> Update:
    if uniform and update.weight != 1.0:
        raise ProtocolError(f"expected weight 1, got {update.weight:g}")
    return update
