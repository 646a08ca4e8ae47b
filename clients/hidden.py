"""A site's side of hiding its updates: in a sum, or in an envelope that the coordinator opens."""

from flwr.app import RecordDict

from clients.round_files import ClosedRounds
from clients.site import Site
from fedmodel import wire
from fedmodel.errors import ConfigError, EquivocationError, ProtocolError, RefusedError
from fedmodel.identity import Roster
from fedmodel.identity.seal import Context, seal
from fedmodel.job import Job
from fedmodel.secagg import messages
from fedmodel.secagg.agreement import Agreement
from fedmodel.secagg.masking import Encode
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.peers import Peers
from fedmodel.secagg.sums import PlainSum, SharedSum, cohort_size
from fedmodel.update import Update, vector_sha256
from fedmodel.wire import Order

__all__ = ["Envelopes", "Sums", "hide", "sums_model"]


class Sums:
    """Secure aggregation at a site (:class:`fedmodel.secagg.participant.Participant`).

    Args:
        job: with ``secagg=on``.
        site: with its roster and floors.
        session: names this joining.
        first: the sums of the first round: what kind, and how large.

    Raises:
        FloorError: when the job asks for less than the site's floors.
        RefusedError: when the site has no roster, or isn't in it.
    """

    def __init__(self, job: Job, site: Site, session: str, first: PlainSum | SharedSum) -> None:
        roster = _roster(site, session)
        agreement = Agreement.of(
            job.secagg,
            session=session,
            job=job.sha256,
            roster=roster.sha256,
            rounds=job.train.rounds,
            bits=first.bits,
            count=first.count,
        )
        site.floors.check(
            cohort=cohort_size(job),
            survivors=agreement.survivors,
            threshold=agreement.threshold,
            colluders=agreement.colluders,
        )
        self._closed = ClosedRounds(site.state, agreement.job)
        self.participant = Participant(
            member=roster.number_of(site.name),
            agreement=agreement,
            members=roster.keys,
            coordinator=bytes.fromhex(roster.coordinator),
            floors=site.floors,
            sign=site.books.key.sign,
            entropy=site.entropy,
            closed=self._closed.read(),
        )

    def reveal(self, data: bytes) -> bytes:
        """Reveal shares; that it was done is on disk before they leave."""
        shares = self.participant.reveal(data)
        self._closed.write(self.participant.closed)
        return shares

    def advert(self) -> bytes:
        """Return the site's signed key for this session."""
        return self.participant.advert()

    def deliver(self, data: bytes, order: Order) -> None:
        """Take the others' shares, and check that the order is what the manifest named.

        Raises:
            EquivocationError: when its round or its parameters are others.
            FedmodelError: as the participant does.
        """
        self.participant.deliver(data)
        manifest = self.participant.manifest
        model = vector_sha256(order.vector)
        if (manifest.round, manifest.model) != (order.round, model):
            raise EquivocationError(
                "the order's round or parameters aren't those of the manifest that all sites of "
                "this sum have signed for"
            )

    def answer(self, content: RecordDict, values: Encode) -> RecordDict:
        """Put the masked vector into an answer, and return it."""
        header, packed = self.participant.upload(values)
        wire.add_parcel(content, "secagg", header)
        return wire.add_parcel(content, "masked", packed)


class Envelopes:
    """Updates sealed to the coordinator and signed by the site (:mod:`fedmodel.identity.seal`).

    Args:
        job: with ``secagg=seal``.
        site: with its roster.
        session: names this joining.

    Raises:
        RefusedError: when the site has no roster, or isn't in it.
    """

    def __init__(self, job: Job, site: Site, session: str) -> None:
        roster = _roster(site, session)
        self._to = bytes.fromhex(roster.seal)
        self._sign = site.books.key.sign
        self._ids = (session, job.sha256, roster.sha256)
        self._member = roster.number_of(site.name)
        agreement = Agreement.of_keys(
            session=session, job=job.sha256, roster=roster.sha256, rounds=job.train.rounds
        )
        self._peers = Peers(self._member, agreement, roster.keys, site.entropy)

    def advert(self) -> bytes:
        """Return the site's signed word on who it is in this session."""
        return messages.encode(self._peers.advert(self._sign))

    def answer(self, content: RecordDict, update: Update, round_: int) -> RecordDict:
        """Put the sealed update into an answer, and return it."""
        session, job, roster = self._ids
        context = Context(
            session=session, job=job, roster=roster, member=self._member, round=round_
        )
        sealed = seal(wire.update_to_bytes(update), to=self._to, sign=self._sign, context=context)
        return wire.add_parcel(content, "sealed", sealed)


def _roster(site: Site, session: str) -> Roster:
    if site.roster is None:
        raise RefusedError(
            "the job hides updates (secagg), and this site has no roster that says who the others "
            "are; get the consortium's, or agree on secagg=off"
        )
    if not session:
        raise ProtocolError("the job hides updates, but its offer names no session")
    try:
        known = site.roster.keys[site.roster.number_of(site.name)]
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    if known != site.books.key.public:
        raise RefusedError(
            "the roster has another key under this site's name than this site's own; get the "
            "consortium to enter the right one"
        )
    return site.roster


def hide(
    job: Job, site: Site, session: str, first: PlainSum | SharedSum | None
) -> Sums | Envelopes | None:
    """Return how a job's updates are hidden at a site; ``None`` where they aren't."""
    if job.secagg.mode == "on" and first is not None:
        return Sums(job, site, session, first)
    return Envelopes(job, site, session) if job.secagg.mode == "seal" else None


def sums_model(hidden: Sums | Envelopes | None) -> str:
    """Return the hash of the parameters that the open attempt of a secure sum starts from.

    Raises:
        ProtocolError: when none is open.
    """
    if not isinstance(hidden, Sums):
        raise ProtocolError("the job has no secure sums")
    return hidden.participant.manifest.model
