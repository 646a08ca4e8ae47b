"""Rounds whose updates come in envelopes: only the coordinator can read them."""

from collections.abc import Iterable
from functools import partial

from flwr.app import Message, RecordDict

from fedmodel import wire
from fedmodel.errors import ConfigError
from fedmodel.identity import Roster
from fedmodel.identity.seal import Context, open_
from fedmodel.secagg.aggregator import Aggregator
from fedmodel.secagg.agreement import Agreement
from fedmodel.update import Update
from server.collect import Check, Collected, collect, nothing
from server.coordinator import Coordinator
from server.joined import Joined
from server.robust import combine

__all__ = ["Sealed"]


class Sealed(Joined):
    """One session of sealed updates at the coordinator.

    Args:
        coordinator: of a job with ``secagg=seal``, with its roster, signing key and seal key.

    Raises:
        ConfigError: when one of them is missing.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        roster, signer, private = coordinator.roster, coordinator.signer, coordinator.seal_key
        if roster is None or signer is None or private is None:
            raise ConfigError(
                "secagg=seal needs a roster, and the coordinator's signing and seal keys; "
                "provision them first"
            )
        self._roster: Roster = roster
        self._private = private
        self._job = coordinator.job
        self._size = coordinator.initial.size
        agreement = Agreement.of_keys(
            session=coordinator.entropy.bytes(32).hex(),
            job=self._job.sha256,
            roster=roster.sha256,
            rounds=self._job.train.rounds,
        )
        protocol = Aggregator(agreement=agreement, members=roster.keys, sign=signer.sign)
        super().__init__(protocol)

    def collect(
        self,
        replies: Iterable[Message],
        nodes: list[int],
        round_: int,
        *,
        uniform: bool,
        check: Check = nothing,
    ) -> Collected:
        """Open a round's envelopes and sum what is in them (see :func:`server.collect.collect`)."""

        def read(node: int, content: RecordDict) -> Update:
            number = self.numbers[node]
            context = Context(
                session=self.session,
                job=self._job.sha256,
                roster=self._roster.sha256,
                member=number,
                round=round_,
            )
            opened = open_(
                wire.parcel(content, "sealed").tobytes(),
                private=self._private,
                sender=self._roster.keys[number],
                context=context,
            )
            return wire.checked_update(*wire.update_from_bytes(opened), self._size)

        return collect(
            replies,
            nodes,
            self._size,
            uniform=uniform,
            check=check,
            read=read,
            combine=partial(combine, self._job.aggregation),
        )
