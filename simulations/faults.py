"""A ``LoopbackGrid`` that loses, repeats and delays messages, and restarts sites, on purpose.

For tests, and for who wants to see how a job bears a bad network::

    faults = [Fault(what="back", kind="train", node=3, times=(1,))]
    grid = functools.partial(FaultyGrid, faults=faults)
    play(parties, folder, Silent(), grid=grid)

Site names in alphabetical order are nodes 2, 3, 4, … of a simulation. A site that restarts is a new
``SiteApp`` on the same state, which the caller makes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from simulations.loopback import LoopbackGrid

__all__ = ["Fault", "FaultyGrid", "Happened", "KnowingGrid", "What"]

What = Literal["there", "back", "twice", "late", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with some messages.

    Args:
        what: ``there``: the message is lost on the way to the site, which does nothing; ``back``:
            the site does what it is told, and its reply is lost; ``twice``: the message reaches
            the site twice, and so do two replies the coordinator; ``late``: the reply comes among
            those to the next messages that the coordinator sends; ``none``: nothing.
        kind: type of the message, such as ``train``, ``query.join`` or ``query.open``; ``None``:
            any.
        node: the site; ``None``: any.
        times: which messages of a kind to a node, counted from 1 over the whole run (each attempt
            of a round sends anew); empty: all.
        restart: another process of the site is there after that.
    """

    what: What
    kind: str | None = None
    node: int | None = None
    times: tuple[int, ...] = ()
    restart: bool = False

    def hits(self, kind: str, node: int, time: int) -> bool:
        """Return whether a message is one of those that this is about."""
        return (
            self.kind in (None, kind)
            and self.node in (None, node)
            and (not self.times or time in self.times)
        )


@dataclass(frozen=True, slots=True)
class Happened:
    """One message that something went wrong with: what, its kind, its node, the how manieth."""

    what: What
    kind: str
    node: int
    time: int


class FaultyGrid(LoopbackGrid):
    """Carries messages as a ``LoopbackGrid`` does, but for the faults.

    What is pushed and pulled one by one isn't touched; the apps don't do that.

    Args:
        client: the app.
        contexts: node id → that node's context.
        run: the Flower run.
        faults: what goes wrong; of several that hit one message, the first.
        anew: makes the app of a node's next process, where one restarts.
    """

    def __init__(
        self,
        client: ClientApp,
        contexts: Mapping[int, Context],
        run: Run,
        *,
        faults: Sequence[Fault] = (),
        anew: Callable[[int], ClientApp] | None = None,
    ) -> None:
        super().__init__(client, contexts, run)
        self._faults = tuple(faults)
        self._sent: Counter[tuple[str, int]] = Counter()
        self._late: list[Message] = []
        self._anew = anew
        self.restarts: Counter[int] = Counter()  # node → how often
        self.happened: list[Happened] = []

    def restart(self, node: int) -> None:
        """Let a node's process end, and another one be there.

        Raises:
            ValueError: where nothing makes one.
        """
        if self._anew is None:
            raise ValueError("nothing makes the app of a new process; give anew=…")
        self.restarts[node] += 1
        self.replace(node, self._anew(node))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver messages, and return the replies that come, late ones of earlier calls first."""
        replies, self._late = self._late, []
        for message in messages:
            replies += self._carried(message)
        return replies

    def _carried(self, message: Message) -> list[Message]:
        kind, node = message.metadata.message_type, message.metadata.dst_node_id
        self._sent[kind, node] += 1
        time = self._sent[kind, node]
        fault = next((f for f in self._faults if f.hits(kind, node, time)), None)
        if fault is None:
            return [self._deliver(message)]
        self.happened.append(Happened(fault.what, kind, node, time))
        replies = self._harmed(fault.what, message)
        if fault.restart:
            self.restart(node)
        return replies

    def _harmed(self, what: What, message: Message) -> list[Message]:
        if what == "there":
            return []
        replies = [self._deliver(message)]
        if what == "none":
            return replies
        if what == "twice":
            return [*replies, self._deliver(message)]
        if what == "late":
            self._late += replies
        return []


class KnowingGrid(FaultyGrid):
    """A ``FaultyGrid`` that knows which process of a site is there, as the network does.

    Who is in ``away`` isn't connected: nothing reaches it.
    """

    away: frozenset[int] = frozenset()

    def incarnations(self) -> dict[int, str]:
        """Return node → name of the process that is there now."""
        there = set(self.get_node_ids()) - self.away
        return {node: f"process {self.restarts[node]}" for node in sorted(there)}

    def _carried(self, message: Message) -> list[Message]:
        gone = message.metadata.dst_node_id in self.away
        return [] if gone else super()._carried(message)
