"""Sealed exchange: updates come in envelopes that only the coordinator can open."""

from fedmodel import wire
from fedmodel.errors import ConfigError
from fedmodel.identity.seal import OVERHEAD, Context, open_
from fedmodel.secagg.aggregator import Aggregator
from fedmodel.secagg.agreement import Agreement
from fedmodel.update import Update, Vector
from fedmodel.wire import Content
from server.collect import Collected
from server.coordinator import Coordinator
from server.exchange.channel import Channel
from server.exchange.protocol import Invitation, collect_updates
from server.exchange.roll import Roll
from server.exchange.voice import Moment

__all__ = ["Sealed"]


class Sealed:
    """One joining with sealed updates at the coordinator.

    Args:
        coordinator: of a job with ``secagg=seal``, with its keys.

    Raises:
        ConfigError: when they are missing.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        keys = coordinator.keys
        if keys is None:
            raise ConfigError(
                "secagg=seal needs a roster, and the coordinator's signing and seal keys; "
                "provision them first"
            )
        self._keys = keys
        self._job = coordinator.job
        self._size = coordinator.initial.size
        agreement = Agreement.of_keys(
            session=coordinator.entropy.bytes(32).hex(),
            job=self._job.sha256,
            roster=keys.roster.sha256,
            rounds=self._job.train.rounds,
        )
        members = keys.roster.keys
        self._roll = Roll(Aggregator(agreement=agreement, members=members, sign=keys.signer.sign))

    @property
    def joining(self) -> str:
        """Name of this joining."""
        return self._roll.joining

    def admit(self, node: int, content: Content, member: int | None = None) -> None:
        """Take a site's signed key from its answer to the offer (see :class:`Roll`)."""
        self._roll.admit(node, content, member)

    def lost(self, round_: int) -> bool:
        """Return ``False``: sites repeat any round."""
        return False

    def recover(self, channel: Channel, round_: int, vector: Vector) -> Collected | None:
        """Return ``None``: sites repeat any round."""
        return None

    def collect(self, channel: Channel, invitation: Invitation) -> Collected:
        """Play a round (see :class:`server.exchange.protocol.Exchange`)."""
        orders = {node: invitation.order(node) for node in invitation.nodes}
        moment = Moment(invitation.round)
        answers = iter(channel.ask("train", orders, str(invitation.round), moment))

        def read(node: int, content: Content) -> Update:
            return self._open(self._roll.numbers[node], invitation.round, content)

        return collect_updates(self._job, answers, invitation, read)

    def _open(self, number: int, round_: int, content: Content) -> Update:
        roster = self._keys.roster
        context = Context(
            session=self.joining,
            job=self._job.sha256,
            roster=roster.sha256,
            member=number,
            round=round_,
        )
        opened = open_(
            wire.parcel(content, "sealed", OVERHEAD + wire.update_size(self._size)).data,
            private=self._keys.seal,
            sender=roster.keys[number],
            context=context,
        )
        return wire.checked_update(*wire.update_from_bytes(opened), self._size)
