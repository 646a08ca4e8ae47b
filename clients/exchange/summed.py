"""Summed exchange: the coordinator learns the sum of the sites' updates and nothing else."""

import logging

from clients.exchange.paid_round import PaidRound
from clients.exchange.replies import Part, Replies
from clients.exchange.roster import hidden_roster
from clients.exchange.work import Work
from clients.round_files import ClosedRounds
from clients.site import Site
from fedmodel import wire
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import EquivocationError, ProtocolError
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.masking import Encode
from fedmodel.secagg.messages import Upload, decode
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.sums import PlainSum, PlainValues, SharedSum
from fedmodel.update import Update
from fedmodel.wire import Content, Offer, Order

__all__ = ["Summed"]

logger = logging.getLogger(__name__)


class Summed:
    """Secure aggregation at a site (:class:`fedmodel.secagg.participant.Participant`).

    Args:
        offer: of a job with ``secagg=on``.
        site: with its roster and floors.
        size: parameters of an update.

    Raises:
        FloorError: when the job asks for less than the site's floors.
        RefusedError: when the site has no roster, or isn't on it.
    """

    def __init__(self, offer: Offer, site: Site, size: int) -> None:
        job, joining = offer.job, offer.joining
        roster = hidden_roster(site, joining)
        self._job, self._size, self._entropy = job, size, site.entropy
        self._name = site.name
        shared = job.privacy.shared
        first = self._shared(1) if shared else PlainSum(job, size)
        agreement = Agreement.of(
            job.secagg.masked,
            session=joining,
            job=job.sha256,
            roster=roster.sha256,
            rounds=job.train.rounds,
            count=first.count,
        )
        folder = site.state.run_folder(offer.run)
        self._replies = Replies(folder, job.sha256)
        # A round's update, by the round and the model it is of: for another attempt of the round.
        self._pending: tuple[tuple[int, str], Update] | None = None
        # Where one set of survivors a round can be agreed on, its attempts are paid for once.
        self._once = agreement.one_set_of(len(roster.members))
        self._paid = PaidRound(folder, job.sha256, roster.sha256)
        self._plain: PlainValues | None = None
        self._said = False
        self.participant = Participant(
            member=roster.number_of(site.name),
            agreement=agreement,
            members=roster.keys,
            coordinator=bytes.fromhex(roster.coordinator),
            floors=site.policy.floors.of_roster(len(roster.members)),
            sign=site.state.key.sign,
            entropy=site.entropy,
            closing=ClosedRounds(folder, job.sha256, site.before or site.state.folder),
        )

    def _shared(self, round_: int) -> SharedSum:
        return SharedSum(self._job, plan_of(self._job), self._size, round_)

    def advert(self) -> bytes | None:
        """Return the site's signed key for this joining."""
        return self.participant.advert()

    def respond(self, order: Order, content: Content, work: Work) -> Content:
        """Answer an order to train with a masked vector; the same one when it is asked again."""
        work.check(order)
        request = wire.parcel(content, "secagg", most=wire.LONGEST).tobytes()
        header: bytes
        packed: Part
        if (kept := self._replies.find("train", request)) is not None:
            header, packed = kept
        else:
            # Before anything is spent: what the protocol refuses costs nothing.
            self._deliver(request, order)
            header, packed = self.participant.upload(self._values(order, work))
            self._say_lost()
            self._replies.keep("train", request, (header, packed))
        upload = decode(Upload, header)
        work.given(order, upload.vector, upload.manifest)
        reply = wire.encode_reply(work.standing(order.entries))
        wire.add_parcel(reply, "secagg", header)
        return wire.add_parcel(reply, "masked", packed)

    def leg(self, name: str, data: bytes) -> bytes:
        """Answer a message of the secure sum's protocol.

        Raises:
            ProtocolError: for a leg that doesn't exist.
        """
        legs = {
            "open": self.participant.open,
            "consent": self.participant.consent,
            "reveal": self.participant.reveal,
        }
        if name not in legs:
            raise ProtocolError(f"a secure sum has no leg '{name:.40}'")
        if (kept := self._replies.find(name, data)) is not None:
            return kept[0]
        told = legs[name](data)
        self._replies.keep(name, data, (told,))
        return told

    def _deliver(self, data: bytes, order: Order) -> None:
        """Take the others' shares, and check that the order is what the manifest named."""
        self.participant.deliver(data)
        manifest = self.participant.manifest
        if (manifest.round, manifest.model) != (order.round, order.model):
            raise EquivocationError(
                "the order's round or parameters aren't those of the manifest that all sites of "
                "this sum have signed for"
            )

    def _values(self, order: Order, work: Work) -> Encode:
        """Return what writes this site's numbers of a secure sum."""
        if self._job.privacy.shared:
            sums = self._shared(order.round)
            payments = work.payments(order.round)
            paid = self._once and self._paid.covers(order.round, payments)
            if not paid:
                self._paid.note(order.round, payments)
            found = work.contribution(order, paid=paid)
            return sums.encode(found, self._entropy)
        what = (order.round, self.participant.manifest.model)
        if self._pending is None or self._pending[0] != what:
            self._pending = (what, work.train(order))
        self._plain = PlainSum(self._job, self._size).encode(self._pending[1])
        return self._plain

    def _say_lost(self) -> None:
        """Tell the site's operator, and nobody else, that its update has hardly any effect."""
        plain = self._plain
        if plain is None or self._said or not plain.mostly_lost:
            return
        self._said = True
        logger.warning(
            "site %s: of %d coordinates that this site's update changes, %d are left after "
            "rounding to secagg.bits=%d: it has little effect on the model. Agree on more bits, "
            "or on a smaller secagg.range",
            self._name,
            plain.given,
            plain.kept,
            self._job.secagg.masked.bits,
        )
