"""A site's ``ClientApp`` behind its link: each order is noted, done, its reply kept, then told."""

import hashlib
import logging
from collections.abc import Sequence

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from fedmodel._escape import escaped
from fedmodel.errors import FedmodelError, ProtocolError, ReplayError, RunFolderError
from fedmodel.transport.call import Received
from fedmodel.transport.inbox import Verdict
from fedmodel.transport.link import Link
from fedmodel.transport.payloads import (
    COVER,
    Departure,
    Part,
    departure_of,
    kept_parts,
    reply_to,
)
from fedmodel.wire.buffers import packed, unpacked
from fedmodel.wire.failures import unexpected
from fedmodel.wire.grids import node_of

__all__ = ["Host", "number_of_run"]

logger = logging.getLogger(__name__)

_FAILED = 250  # code of an error that isn't the app's


def number_of_run(run: str) -> int:
    """Return the number that Flower's contexts have for a run."""
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:7], "big") + 1


class Host:
    """The process that does what a coordinator orders, one order after the other.

    Args:
        app: the site's.
        link: to the coordinator.
    """

    def __init__(self, app: ClientApp, link: Link) -> None:
        self._app = app
        self._link = link
        self._inbox = link.config.inbox
        self._sign = link.config.signer.sign

    def run(self) -> None:
        """Do what comes, until the link ends."""
        while (received := self._link.orders.get()) is not None:
            try:
                self.do(received)
            except Exception as error:
                # Whatever it was: who is asked next must find somebody who does it.
                logger.error("an order can't be done: %s", unexpected(error))
            del received  # while nothing comes its payload takes no room

    def do(self, received: Received) -> None:
        """Do an order, unless it was done before; tell what has come of it.

        Args:
            received: the order.
        """
        stamp, order = received.stamp, received.order
        if received.refusal is not None:
            # Nothing was done, so nothing need be kept.
            self._tell(received, _failure(received.refusal))
            return
        try:
            verdict = self._inbox.admit(stamp)
            if verdict is Verdict.BUSY:
                return
            if verdict is Verdict.AGAIN:
                self._link.send(stamp, departure_of(stamp.seq, self._inbox.reply(stamp)))
                return
            if verdict is Verdict.LOST:
                self._tell(received, _failure("the site's process ended while it was at this"))
                return
        except ReplayError as error:
            logger.warning("order %d (%s) is refused: %s", stamp.seq, escaped(order.type), error)
            return
        except RunFolderError as error:
            # Likewise.
            logger.error("order %d (%s) can't be noted: %s", stamp.seq, escaped(order.type), error)
            self._tell(received, _failure("the site can't note the order; see its own log"))
            return
        self._answer(received, self._done(received))

    def _answer(self, received: Received, parts: Sequence[Part]) -> None:
        reply = self._reply(received, parts)
        try:
            kept = kept_parts(reply.header, parts)
            if not self._inbox.answered(received.stamp, kept, COVER, reply.sha256):
                return
        except RunFolderError as error:
            logger.error("the reply to order %d can't be kept: %s", received.stamp.seq, error)
            parts = _failure("the site can't keep its reply; see its own log")
            self._tell(received, parts)
            return
        self._link.send(received.stamp, reply)

    def _tell(self, received: Received, parts: Sequence[Part]) -> None:
        self._link.send(received.stamp, self._reply(received, parts))

    def _reply(self, received: Received, parts: Sequence[Part]) -> Departure:
        return reply_to(received.order, received.stamp.digest, parts, self._sign)

    def _done(self, received: Received) -> Sequence[Part]:
        """Return the app's reply as a payload."""
        order, node = received.order, node_of(received.order.member)
        try:
            content = unpacked(received.payload)
        except ProtocolError as error:
            logger.warning("order %d (%s): %s", order.seq, escaped(order.type), error)
            return packed(Error(_FAILED, "the order can't be read"))
        run = number_of_run(order.run)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = run, 1, node
        if isinstance(content, Error):
            return _failure("an order is no error")
        message = Message(content, node, order.type, group_id=order.group)
        message.metadata.__dict__["_message_id"] = f"{order.epoch}-{order.seq}"
        try:
            reply = self._app(message, Context(run, node, {}, RecordDict(), {}))
        except FedmodelError as error:
            logger.error("order %d (%s): %s", order.seq, escaped(order.type), error)
            return _failure(type(error).__name__)
        except Exception as error:
            # As with Flower: the coordinator learns that it failed, not the traceback.
            what = escaped(order.type), unexpected(error)
            logger.error("order %d (%s) failed: %s", order.seq, *what)
            return _failure(type(error).__name__)
        return packed(reply.error if reply.has_error() else reply.content)


def _failure(reason: str) -> Sequence[Part]:
    return packed(Error(_FAILED, reason))
