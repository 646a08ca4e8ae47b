"""Protocol of every exchange: who joins, and what a round of it brings in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from fedmodel.errors import ProtocolError
from fedmodel.job import Job
from fedmodel.update import Update, Vector, vector_sha256
from fedmodel.wire import Content, Failure
from server.answers import Answer, Check, nothing
from server.collect import Collected, read_each
from server.exchange.channel import Channel
from server.robust import Combination
from server.weighed import Weighed, weighs

__all__ = ["Exchange", "Invitation", "collect_updates", "require_weight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A round as the nodes are invited to it.

    Args:
        round: of the run, from 1.
        nodes: who is invited.
        vector: the parameters that the sites start from.
        order: node → what it is told to train.
        check: what the answers must pass besides.
        named: the updates are named by their SHA-256, for this coordinator's ledger.
    """

    round: int
    nodes: list[int]
    vector: Vector
    order: Callable[[int], Content]
    check: Check = nothing
    named: bool = False


class Exchange(Protocol):
    """How the sites' answers in one joining reach the coordinator."""

    @property
    def joining(self) -> str:
        """Name of this joining; empty where sites need none."""

    def admit(self, node: int, content: Content, member: int | None = None) -> None:
        """Take what a node's answer to the offer says of who it is.

        Args:
            node: that answered.
            content: of the answer.
            member: number of the site that has signed to be at that node; ``None`` without roster.

        Raises:
            ProtocolError: when it isn't one of the sites, or another node has joined as it.
        """

    def lost(self, round_: int) -> bool:
        """Return whether the sites won't repeat a round that this coordinator hasn't finished."""

    def recover(self, channel: Channel, round_: int, vector: Vector) -> Collected | None:
        """Return what a round brings in that an earlier joining had all but finished, if it can.

        Args:
            channel: to the sites.
            round_: the next one.
            vector: the parameters that it started from.
        """

    def collect(self, channel: Channel, invitation: Invitation) -> Collected:
        """Play a round: invite the nodes, and return the mean of what they give."""


def collect_updates(
    job: Job,
    answers: Iterator[Answer],
    invitation: Invitation,
    read: Callable[[int, Content], Update],
) -> Collected:
    """Return the mean of updates that the coordinator reads one by one, and lets go of.

    Args:
        job: says how they are weighted and combined.
        answers: of the nodes; nobody else should hold them.
        invitation: to the round.
        read: makes an update of a node's answer; it raises ProtocolError.
    """
    uniform = job.aggregation.weights == "uniform"

    def checked(node: int, content: Content) -> Update:
        update = read(node, content)
        if uniform:
            require_weight(update)
        return update

    own_noise = weighs(job, invitation.round)
    together = Weighed(job) if own_noise else Combination(job.aggregation)
    givers: list[int] = []
    failures: dict[int, Failure] = {}
    sha256s: dict[int, str] = {}
    for node, got in read_each(answers, invitation.nodes, checked, invitation.check, "update"):
        if isinstance(got, Failure):
            failures[node] = got
        else:
            if invitation.named:
                sha256s[node] = vector_sha256(got.vector)
            together.add(got)
            givers.append(node)
        del got  # before the next is read: an update that was sealed is in memory
    mean = together.result() if givers else None
    return Collected(mean=mean, givers=tuple(givers), failures=failures, sha256s=sha256s)


def require_weight(update: Update) -> None:
    """Refuse another weight than 1: no site can make itself count for more.

    Raises:
        ProtocolError: when it has one.
    """
    if update.weight != 1.0:
        raise ProtocolError(f"expected weight 1, got {update.weight:g}")
