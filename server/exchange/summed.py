"""Summed exchange: a round as a secure sum, leg by leg.

``query.open`` (a signed manifest → shared secrets) · ``train`` (the others' shares and the model →
a masked vector) · ``query.consent`` (who survived → a signature) · ``query.reveal`` (the
signatures → shares that unmask the sum). A site that fails in a leg is out of the round; the
protocol's own rules say whether the others are enough.
"""

import logging
from collections.abc import Iterable

from fedmodel import wire
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import ConfigError, ProtocolError, QuorumError
from fedmodel.runs import Begun
from fedmodel.secagg.aggregator import Aggregator, Attempt
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.checks import upload_size
from fedmodel.secagg.manifest import Manifest
from fedmodel.secagg.messages import Upload, largest
from fedmodel.secagg.stored import restored, stored
from fedmodel.secagg.sums import PlainSum, SharedSum, plain_step
from fedmodel.training.optim import descent
from fedmodel.update import Update, Vector, vector_sha256
from fedmodel.wire import Content
from server.answers import nothing
from server.collect import Collected
from server.coordinator import Coordinator
from server.exchange.blame_kept import BlameOnDisk
from server.exchange.channel import Channel
from server.exchange.legs import Legs
from server.exchange.protocol import Invitation
from server.exchange.roll import Roll

__all__ = ["Summed"]

logger = logging.getLogger(__name__)


class _TooFewError(Exception):
    """An attempt that can't be finished; nothing of it was revealed unless ``final``."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Summed:
    """One joining with secure aggregation at the coordinator.

    Args:
        coordinator: of a job with ``secagg=on``, with its keys and, where it takes the optimiser's
            steps, rates.
        reached: the last round that it has finished.
        blame: what was found out about sites in earlier joinings of the run.

    Raises:
        ConfigError: when one of them is missing.
    """

    def __init__(
        self, coordinator: Coordinator, reached: int = 0, blame: Blame | None = None
    ) -> None:
        keys, self._job = coordinator.keys, coordinator.job
        if keys is None:
            raise ConfigError(
                "secagg=on needs a roster and the coordinator's signing key; provision them first"
            )
        self._keys = keys
        self._rates = coordinator.rates
        if self._job.privacy.mechanism == "distributed" and self._rates is None:
            raise ConfigError("privacy=distributed needs the learning rates at the coordinator")
        self._size = coordinator.initial.size
        first = self._shared(1) if self._job.privacy.shared else self._plain()
        self._bytes = upload_size(first.count, first.bits)
        agreement = Agreement.of(
            self._job.secagg.masked,
            session=coordinator.entropy.bytes(32).hex(),
            job=self._job.sha256,
            roster=keys.roster.sha256,
            rounds=self._job.train.rounds,
            count=first.count,
        )
        self._aggregator = Aggregator(
            agreement=agreement, members=keys.roster.keys, sign=keys.signer.sign, blame=blame
        )
        self._folder = coordinator.folder
        path = None if self._folder is None else self._folder.blame
        self._on_disk = BlameOnDisk(path, self._aggregator.blame, keys.roster)
        self._ledger = coordinator.ledger
        self._begun = self._folder.begun() if self._folder else Begun()
        # What sites say of rounds that this coordinator hasn't begun to unmask isn't believed.
        self._latest = reached + 1 if self._begun.round == reached + 1 else reached
        self._roll = Roll(self._aggregator, self._latest)

    def _plain(self) -> PlainSum:
        return PlainSum(self._job, self._size)

    def _shared(self, round_: int) -> SharedSum:
        return SharedSum(self._job, plan_of(self._job), self._size, round_)

    @property
    def joining(self) -> str:
        """Name of this joining."""
        return self._roll.joining

    def admit(self, node: int, content: Content, member: int | None = None) -> None:
        """Take a site's signed key from its answer to the offer (see :class:`Roll`)."""
        self._roll.admit(node, content, member)

    def lost(self, round_: int) -> bool:
        """Return whether the sites won't repeat a round that this coordinator hasn't finished.

        That can only be one in which it had begun to ask them for their consent, by its own word.
        """
        return round_ == self._latest and self._aggregator.closed() >= round_

    # -- a round ---------------------------------------------------------------------------------

    def collect(self, channel: Channel, invitation: Invitation) -> Collected:
        """Play a round: its attempts until one ends with a sum, or there are no more.

        Returns:
            The mean, and who failed at which leg. Without a sum, why.
        """
        blame, numbers = self._aggregator.blame, self._roll.numbers
        legs = Legs(
            channel, numbers, len(self._keys.roster.members), check=invitation.check, blame=blame
        )
        blame.begin_round(signed=channel.signed)
        model = vector_sha256(invitation.vector)
        attempts = self._job.secagg.masked.attempts
        reason: str | None = None
        earlier: str | None = None
        for attempt in range(1, attempts + 1):
            try:
                mean, gave = self._attempt(legs, invitation, attempt, model)
            except _TooFewError as error:
                reason = f"attempt {attempt} of {attempts}: {error}"
                # If another attempt goes well, or fails otherwise, only this line says why.
                told = "; ".join(sorted({f.reason for f in legs.failures.values()}))
                logger.warning("round %d, %s: %s", invitation.round, reason, told)
                if legs.budgets_spent:
                    reason = earlier  # why the budgets say no is told by the failures
                if error.final or legs.budgets_spent:
                    break
                earlier = reason
                continue
            return Collected(
                mean=mean,
                givers=tuple(gave),
                failures=legs.failures,
                blamed=self._blamed(legs),
                step=plain_step(self._job),
                sha256s=gave,
            )
        return Collected(failures=legs.failures, reason=reason, blamed=self._blamed(legs))

    def _blamed(self, legs: Legs) -> dict[int, str]:
        blame, known = self._aggregator.blame, self._roll.numbers.values()
        self._on_disk.keep()
        for member, why in blame.news().items():
            name = self._keys.roster.member(member).name
            logger.warning(
                "site %s is wrong, and is left out of this run's sums as far as enough sites are "
                "left: %s", name, why,
            )  # fmt: skip
        found = blame.disputed() | blame.wrong()
        return {legs.nodes((n,))[0]: why for n, why in found.items() if n in known}

    def _attempt(
        self, legs: Legs, invitation: Invitation, number: int, model: str
    ) -> tuple[Update, dict[int, str]]:
        """Play one attempt; return the mean and whose masked vectors it is of, by node."""
        self._on_disk.keep()  # before anybody sees by a cohort who is left out
        try:
            attempt = self._begin(invitation, number, model)
        except QuorumError as error:
            raise _TooFewError(str(error)) from error
        self._ledger.opens(attempt)
        legs.begin(invitation.round, number, lambda: attempt.short)
        try:
            self._agree(legs, attempt, invitation)
        except QuorumError as error:
            # Who has consented goes into no further attempt of this round.
            self._aggregator.blame.agreed(attempt.consented)
            raise _TooFewError(str(error), final=attempt.spoilt) from error
        left = legs.nodes(attempt.survivors)
        legs.play("query.reveal", left, attempt.request_for, attempt.take_reveal)
        try:
            mean = self._mean(attempt, invitation.round, invitation.vector)
        except (QuorumError, ProtocolError) as error:
            # Some have revealed, and go into no further attempt of this round.
            raise _TooFewError(str(error), final=True) from error
        return mean, _gave(legs, attempt, attempt.survivors)

    def _begin(self, invitation: Invitation, number: int, model: str) -> Attempt:
        """Begin an attempt with the sites that may be in one sum.

        Raises:
            QuorumError: when they are too few.
        """
        members = [self._roll.numbers[node] for node in invitation.nodes]
        cohort = self._aggregator.blame.cohort(members, self._job.secagg.masked.survivors)
        return self._aggregator.begin(
            round=invitation.round, attempt=number, model=model, cohort=cohort
        )

    def _agree(self, legs: Legs, attempt: Attempt, invitation: Invitation) -> None:
        """Play an attempt until its survivors have agreed that their sum is unmasked.

        Raises:
            QuorumError: when too few are left after a leg.
        """
        cohort = legs.nodes(attempt.manifest.cohort)
        legs.play("query.open", cohort, attempt.open_for, attempt.take_shares)
        attempt.close_shares()
        self._upload(legs, attempt, invitation)
        attempt.close_uploads()
        told, left = attempt.survivors_message(), legs.nodes(attempt.survivors)
        if self._folder is not None:
            self._folder.note_begun(invitation.round, len(invitation.nodes))
        legs.play("query.consent", left, lambda member: told, attempt.take_consent)
        attempt.close_consents()
        if self._folder is not None:
            self._folder.keep_attempt(stored(attempt))
        self._ledger.unmasks(attempt)

    def recover(self, channel: Channel, round_: int, vector: Vector) -> Collected | None:
        """Ask again for the reveals of a round in whose midst this coordinator died.

        Sites that had revealed give the very same reply; who hadn't needn't be there, if enough
        had. The attempt is of an earlier joining: of what its sites agreed on nothing is changed.
        """
        data = (
            None
            if self._folder is None or self._latest != round_
            else (self._folder.kept_attempt())
        )
        keys, blame = self._keys, self._aggregator.blame
        attempt = None if data is None else restored(data, keys.roster.keys, blame)
        if attempt is None or not self._continues(attempt.manifest, round_, vector):
            return None
        blame.begin_round(signed=channel.signed)
        legs = Legs(
            channel, self._roll.numbers, len(keys.roster.members), check=nothing, blame=blame
        )
        legs.begin(round_, attempt.manifest.attempt, lambda: attempt.short)
        here = set(attempt.survivors) & set(self._roll.numbers.values())
        left = legs.nodes(here)
        legs.play("query.reveal", left, attempt.request_for, attempt.take_reveal)
        try:
            mean = self._mean(attempt, round_, vector)
        except (QuorumError, ProtocolError) as error:
            logger.warning("round %d can't be finished: %s", round_, error)
            return None
        return Collected(
            mean=mean,
            givers=tuple(left),
            sha256s=_gave(legs, attempt, here),
            absent=len(attempt.survivors) - len(left),
            asked=self._begun.asked,
            failures=legs.failures,
            blamed=self._blamed(legs),
            step=plain_step(self._job),
        )

    def _continues(self, manifest: Manifest, round_: int, vector: Vector) -> bool:
        agreed = self._aggregator.agreement
        found = (manifest.job, manifest.roster, manifest.round, manifest.model)
        return found == (agreed.job, agreed.roster, round_, vector_sha256(vector))

    def _upload(self, legs: Legs, attempt: Attempt, invitation: Invitation) -> None:
        def content(node: int, member: int) -> Content:
            return wire.add_parcel(invitation.order(node), "secagg", attempt.deliver_for(member))

        def take(member: int, reply: Content) -> None:
            packed = wire.parcel(reply, "masked", self._bytes)
            header = wire.parcel(reply, "secagg", most=largest(Upload, 1)).tobytes()
            attempt.take_upload(member, header, packed)

        legs.ask("train", legs.nodes(attempt.takers), content, take)

    def _mean(self, attempt: Attempt, round_: int, vector: Vector) -> Update:
        total, sites = attempt.total(), len(attempt.survivors)
        if not self._job.privacy.shared:
            return self._plain().decode(total, sites)
        mean = self._shared(round_).decode(total, sites)
        if self._rates is not None and self._job.privacy.mechanism == "distributed":
            mean = descent(self._rates, mean, vector, self._job.train.weight_decay)
        return Update.of(mean)


def _gave(legs: Legs, attempt: Attempt, members: Iterable[int]) -> dict[int, str]:
    """Return the SHA-256 (hex) of each site's masked vector, by node, in rising order."""
    vectors = attempt.vectors
    found = {legs.nodes((member,))[0]: vectors[member] for member in members}
    return dict(sorted(found.items()))
