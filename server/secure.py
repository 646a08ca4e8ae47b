"""Rounds of which the coordinator learns only the sum: the legs of secure aggregation over a grid.

``query.open`` (a signed manifest → shared secrets) · ``train`` (the others' shares and the model →
a masked vector) · ``query.consent`` (who survived → a signature) · ``query.reveal`` (the
signatures → shares that unmask the sum). A site that fails in a leg is out of the round; the
protocol's own rules say whether the others are enough.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedmodel import wire
from fedmodel.accounting.plan import Plan
from fedmodel.errors import ConfigError, FedmodelError, ProtocolError, QuorumError
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.ring import packed_size
from fedmodel.secagg.sums import PlainSum, SharedSum
from fedmodel.training.optim import descent
from fedmodel.update import Update, Vector, vector_sha256
from server.collect import Check, Collected, nothing, read_all
from server.coordinator import Coordinator
from server.joined import Joined

__all__ = ["Secure"]

logger = logging.getLogger(__name__)

Failures = dict[int, wire.Failure]


class _TooFewError(Exception):
    """An attempt that can't be finished; nothing of it was revealed unless ``final``."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Secure(Joined):
    """One session of secure aggregation at the coordinator.

    Args:
        coordinator: of a job with ``secagg=on``, with roster, signing key and, where it takes the
            optimiser's steps, rates.
        plan: of the job, where the sites share the noise.

    Raises:
        ConfigError: when one of them is missing.
    """

    def __init__(self, coordinator: Coordinator, plan: Plan | None) -> None:
        roster, signer = coordinator.roster, coordinator.signer
        if roster is None or signer is None:
            raise ConfigError(
                "secagg=on needs a roster and the coordinator's signing key; provision them first"
            )
        self._job = job = coordinator.job
        self._rates = coordinator.rates
        if job.privacy.mechanism == "distributed" and self._rates is None:
            raise ConfigError("privacy=distributed needs the learning rates at the coordinator")
        self._plan = plan if job.privacy.shared else None
        self._size = coordinator.initial.size
        first = self._sums(1)
        agreement = Agreement.of(
            job.secagg,
            session=coordinator.entropy.bytes(32).hex(),
            job=job.sha256,
            roster=roster.sha256,
            rounds=job.train.rounds,
            bits=first.bits,
            count=first.count,
        )
        self._bytes = packed_size(first.count, first.bits)
        protocol = Aggregator(agreement=agreement, members=roster.keys, sign=signer.sign)
        super().__init__(protocol)

    def _sums(self, round_: int) -> PlainSum | SharedSum:
        if self._plan is None:
            return PlainSum(self._job, self._size)
        return SharedSum(self._job, self._plan, self._size, round_)

    def closed(self) -> int:
        """Return the last round that the sites won't repeat."""
        return min(self._protocol.closed(), self._job.train.rounds)

    # -- a round ---------------------------------------------------------------------------------

    def collect(
        self,
        grid: Grid,
        nodes: list[int],
        round_: int,
        vector: Vector,
        order: Callable[[int], RecordDict],
        *,
        check: Check = nothing,
        timeout: float | None = None,
    ) -> Collected:
        """Play a round: its attempts until one ends with a sum, or there are no more.

        Args:
            grid: to the sites.
            nodes: who is invited.
            round_: of the run.
            vector: the parameters that the sites start from.
            order: what a node is told to train.
            check: what the answers must pass besides.
            timeout: seconds to wait in each leg.

        Returns:
            The mean, and who failed at which leg. Without a sum, why.
        """
        model = vector_sha256(vector)
        legs = _Legs(grid, self.numbers, check, timeout)
        reason: str | None = None
        earlier: str | None = None
        for attempt in range(1, self._job.secagg.attempts + 1):
            legs.begin(round_, attempt)
            try:
                mean, givers = self._attempt(legs, nodes, (round_, attempt), model, vector, order)
            except _TooFewError as error:
                reason = f"attempt {attempt} of {self._job.secagg.attempts}: {error}"
                # If another attempt goes well, or fails otherwise, only this line says why.
                told = "; ".join(sorted({f.reason for f in legs.failures.values()}))
                logger.warning("round %d, %s: %s", round_, reason, told)
                if legs.budgets_spent:
                    reason = earlier  # why the budgets say no is told by the failures
                if error.final or legs.budgets_spent:
                    break
                earlier = reason
                continue
            return Collected(mean=mean, givers=givers, failures=legs.failures)
        return Collected(failures=legs.failures, reason=reason)

    def _attempt(
        self,
        legs: "_Legs",
        nodes: list[int],
        number: tuple[int, int],
        model: str,
        vector: Vector,
        order: Callable[[int], RecordDict],
    ) -> tuple[Update, tuple[int, ...]]:
        """Play one attempt; return the mean and the nodes whose updates are in it."""
        round_, attempt_ = number
        cohort = [self.numbers[n] for n in nodes]
        try:
            attempt = self._protocol.begin(
                round=round_, attempt=attempt_, model=model, cohort=cohort
            )
            legs.play("query.open", nodes, attempt.open_for, attempt.take_shares)
            attempt.close_shares()
            self._upload(legs, attempt, order)
            attempt.close_uploads()
            told = attempt.survivors_message()
            left = legs.nodes(attempt.survivors)
            legs.play("query.consent", left, lambda member: told, attempt.take_consent)
            attempt.close_consents()
        except QuorumError as error:
            raise _TooFewError(str(error)) from error
        legs.play("query.reveal", left, attempt.request_for, attempt.take_reveal)
        try:
            mean = self._mean(attempt, round_, vector)
        except (QuorumError, ProtocolError) as error:
            # Some have revealed, and go into no further attempt of this round.
            raise _TooFewError(str(error), final=True) from error
        return mean, tuple(left)

    def _upload(
        self,
        legs: "_Legs",
        attempt: Attempt,
        order: Callable[[int], RecordDict],
    ) -> None:
        def content(node: int, member: int) -> RecordDict:
            return wire.add_parcel(order(node), "secagg", attempt.deliver_for(member))

        def take(member: int, reply: RecordDict) -> None:
            packed = wire.parcel(reply, "masked", self._bytes)
            attempt.take_upload(member, wire.parcel(reply, "secagg").tobytes(), packed)

        legs.ask("train", legs.nodes(attempt.takers), content, take)

    def _mean(self, attempt: Attempt, round_: int, vector: Vector) -> Update:
        total, sites = attempt.total(), len(attempt.survivors)
        sums = self._sums(round_)
        if isinstance(sums, PlainSum):
            return sums.decode(total, sites)
        mean = sums.decode(total, sites)
        if self._rates is not None and self._job.privacy.mechanism == "distributed":
            mean = descent(self._rates, mean, vector, self._job.train.weight_decay)
        return Update.of(mean)


class _Legs:
    """Sends a leg's messages and reads its replies; who fails is noted and left out."""

    def __init__(
        self, grid: Grid, numbers: Mapping[int, int], check: Check, timeout: float | None
    ) -> None:
        self._grid = grid
        self._numbers = numbers
        self._of_number = {number: node for node, number in numbers.items()}
        self._check = check
        self._timeout = timeout
        self._group = ""
        self.failures: Failures = {}

    def begin(self, round_: int, attempt: int) -> None:
        """Begin an attempt of a round: nobody has failed in it."""
        self._group = f"{round_}.{attempt}"
        self.failures = {}

    @property
    def budgets_spent(self) -> bool:
        return Collected(failures=self.failures).budgets_spent

    def nodes(self, members: Iterable[int]) -> list[int]:
        return sorted(self._of_number[n] for n in members)

    def play(
        self,
        kind: str,
        nodes: list[int],
        message: Callable[[int], bytes],
        take: Callable[[int, bytes], None],
    ) -> None:
        """Play a leg of nothing but protocol bytes."""

        def content(node: int, member: int) -> RecordDict:
            return wire.add_parcel(wire.encode_reply(), "secagg", message(member))

        def read(member: int, reply: RecordDict) -> None:
            take(member, wire.parcel(reply, "secagg").tobytes())

        self.ask(kind, nodes, content, read)

    def ask(
        self,
        kind: str,
        nodes: list[int],
        content: Callable[[int, int], RecordDict],
        take: Callable[[int, RecordDict], Any],
    ) -> None:
        """Send every node its message and take the replies."""
        messages = [
            Message(content(node, self._numbers[node]), node, kind, group_id=self._group)
            for node in nodes
        ]
        # Who answers an earlier leg or attempt too late has dropped out of that one only.
        replies = [
            reply
            for reply in self._grid.send_and_receive(messages, timeout=self._timeout)
            if (reply.metadata.message_type, reply.metadata.group_id) == (kind, self._group)
        ]

        def read(node: int, reply: RecordDict) -> None:
            try:
                take(self._numbers[node], reply)
            except FedmodelError as error:
                raise ProtocolError(str(error)) from error

        check = self._check if kind == "train" else nothing
        leg = kind.partition(".")[2] or "upload"
        _, failures = read_all(replies, nodes, read, check, f"answer in leg '{leg}'")
        for node, failure in failures.items():
            reason = failure.reason if failure.budget else f"{leg}: {failure.reason}"
            # A later failure mostly follows from the first one.
            self.failures.setdefault(node, wire.Failure(reason=reason, budget=failure.budget))
