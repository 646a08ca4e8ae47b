"""Joinings of a run: the first, and a new one for all where a site has come anew.

A site that restarts has lost its joining, its model and its keys of secure sums. All join anew
before the next round then, and not it alone: a sum's keys are of one joining.
"""

import logging
import time

from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.wire import Failure
from server.collect import Collected
from server.coordinator import Coordinator
from server.exchange.blame_kept import blame_of
from server.exchange.channel import Channel
from server.exchange.making import make_exchange
from server.exchange.protocol import Exchange
from server.leaving import tell_untold
from server.membership import join, lacking, quorum, require_quorum

__all__ = ["Joinings"]

logger = logging.getLogger(__name__)

_LOOK_AGAIN = 0.5  # seconds between two looks at who is connected


class Joinings:
    """Who takes part in a run, from one joining to the next.

    Args:
        channel: to the nodes.
        coordinator: of the run.
    """

    def __init__(self, channel: Channel, coordinator: Coordinator) -> None:
        self._channel = channel
        self._c = coordinator
        # Who was proved wrong stays so in the next joining, and in the next process.
        self._blame = blame_of(coordinator)
        self._exchange: Exchange | None = None
        self._joined: dict[int, Failure | None] = {}
        self._ever: set[int] = set()  # who has joined once
        self._seen: dict[int, str] = {}  # node → which process was there at the last joining
        self._strangers: set[int] = set()  # who says that it hasn't joined
        self._renewed = 0  # the last round before which there was a new joining

    @property
    def exchange(self) -> Exchange:
        """Of the joining that goes on."""
        if self._exchange is None:
            raise ProtocolError("no joining has begun")
        return self._exchange

    @property
    def nodes(self) -> list[int]:
        """Who has joined, in rising order."""
        return [node for node, failure in self._joined.items() if failure is None]

    @property
    def expected(self) -> int:
        """How many a round's quorum is counted of: also those that are away, but for refusals."""
        return len(self._counted())

    @property
    def never(self) -> dict[int, str]:
        """Why nodes haven't joined that never have."""
        joined = self._joined.items()
        return {n: f.reason for n, f in joined if f is not None and n not in self._ever}

    def begin(self, reached: int) -> None:
        """Let all join for the first time.

        Args:
            reached: the last round that is finished.

        Raises:
            QuorumError: when too few do.
        """
        self._join(reached)
        reasons = {n: None if f is None else f.reason for n, f in self._joined.items()}
        try:
            require_quorum(self._c.job, reasons)
        except QuorumError as error:
            out = self._c.exclude
            failures = [f for n, f in self._joined.items() if f is not None and n not in out]
            needed, _ = quorum(self._c.job, len(reasons))
            lacking(error, failures, fine=len(self.nodes), needed=needed)
            raise

    def note(self, failures: dict[int, Failure]) -> None:
        """Take note of which nodes say that they haven't joined: another process is there now."""
        self._strangers |= {node for node, failure in failures.items() if failure.unjoined}

    def due(self, round_: int) -> bool:
        """Return whether all are to join anew before a round is asked, or asked again.

        So it is where another process of a site is there than had joined, or one that hadn't; at
        most once a round, so that a site that keeps restarting doesn't hold up the others.

        Args:
            round_: the next one; after the last, one more.
        """
        if self._renewed >= round_:
            return False
        self._await_quorum()
        now = self._channel.incarnations()
        came = {n for n, name in now.items() if self._seen.get(n) != name} - self._c.exclude
        return bool(came or self._strangers)

    def renew(self, reached: int) -> None:
        """Let all join anew, but those that have refused for good and are the same process.

        Args:
            reached: the last round that is finished.
        """
        self._renewed = reached + 1
        self._join(reached)

    def too_few(self, needed: int, chosen: list[int]) -> Collected | None:
        """Return what a round brings in for which nobody is asked; ``None`` where it may be.

        Args:
            needed: so many updates.
            chosen: the nodes that would be asked.
        """
        if len(chosen) >= needed:
            return None
        failures = {node: f for node, f in self._joined.items() if f is not None}
        reason = f"{len(chosen)} sites take part, so none was asked"
        return Collected(failures=failures, reason=reason)

    def _join(self, reached: int) -> None:
        # Before anybody is asked: who restarts meanwhile is noticed at the next look.
        now = self._channel.incarnations()
        same = {n for n, name in now.items() if self._seen.get(n) == name}
        refused = {
            n: f for n, f in self._joined.items() if f is not None and f.lasting and n in same
        }
        tell_untold(self._channel, self._c)
        before, self._seen, self._strangers = self._exchange, now, set()
        self._exchange = make_exchange(self._c, reached, self._blame)
        self._joined = join(self._channel, self._c, self._exchange, refused)
        voice = self._channel.voice
        if voice is not None:
            joining = self._exchange.joining
            self._c.ledger.joined(joining, voice.members, self._joined, self._c.exclude)
        self._ever |= set(self.nodes)
        if before is not None:
            count = len(self.nodes)
            logger.info("all joined anew: %d of %d sites take part", count, len(self._joined))

    def _await_quorum(self) -> None:
        """Give sites that are away some time to come back, where too few are connected."""
        until, counted = time.monotonic() + self._c.grace, self._counted()
        needed, _ = quorum(self._c.job, len(counted))
        # Who is left out, has refused or is ahead may be connected, too, and gives nothing.
        giving = {n for n in counted if (f := self._joined[n]) is None or f.away}
        while len(giving & set(self._channel.incarnations())) < needed:
            if time.monotonic() >= until:
                return
            time.sleep(_LOOK_AGAIN)

    def _counted(self) -> set[int]:
        out = self._c.exclude
        joined = self._joined.items()
        return {n for n, f in joined if n not in out and (f is None or f.away or f.ahead)}
