"""A site's end of the network: one connection outwards, dialled again as often as it is cut.

It has a thread of its own with its own loop, beside the one that trains: pings are answered and
pieces taken in meanwhile.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc

from fedmodel._escape import escaped
from fedmodel.errors import FedmodelError, RunFolderError
from fedmodel.identity import SigningKey
from fedmodel.identity.home import PartyHome
from fedmodel.seeds import Entropy
from fedmodel.transport.backoff import Backoff
from fedmodel.transport.call import Call, Received, Taken
from fedmodel.transport.connection import settle
from fedmodel.transport.diagnosis import why_unreachable
from fedmodel.transport.goodbyes import ENDED, FINAL, STOPPING
from fedmodel.transport.inbox import Inbox
from fedmodel.transport.options import channel_options
from fedmodel.transport.payloads import Departure, departure_of
from fedmodel.transport.proxy import Proxy, Route
from fedmodel.transport.room import Room
from fedmodel.transport.server import METHOD
from fedmodel.transport.stamps import Stamp
from fedmodel.transport.tls import CurrentMaterial, credentials_of

__all__ = ["Link", "LinkConfig"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_SAY_AGAIN_S = 300.0  # the same reason for no connection isn't said more often
_CLOSING_S = 5.0
_ENDS = {
    ENDED: "its run is over; dialling again, for the next one",
    STOPPING: "its process ends, and may come again; dialling again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkConfig:
    """What a site's end goes by.

    Args:
        home: folder of the site's identity.
        passphrase: that its keys are sealed under.
        signer: the site's identity.
        address: host and port of the coordinator.
        route: returns how it is reached now: through a proxy or not; it raises ConfigError.
        sources: SHA-256 (hex) of the sources that this process runs.
        folder: for large payloads that are under way; of the site alone.
        inbox: what this site has taken and answered.
        explain: look for the reason when it can't be reached, which takes seconds.
        most: bytes that there may be in all of orders that aren't done, whole or on their way, and
            of replies that the coordinator hasn't acknowledged.
        entropy: draws nonces and the name of this process.
    """

    home: PartyHome
    passphrase: bytes | None = None
    signer: SigningKey
    address: str
    route: Callable[[], Route] = lambda: Route(proxy=None, why="no proxy is set")
    sources: str
    folder: Path
    inbox: Inbox
    explain: bool = True
    most: int = 1 << 34
    entropy: Entropy = field(default_factory=Entropy)


class Link:
    """A site's end.

    Args:
        config: what it goes by.

    Attributes:
        orders: what has come, whole, in the order in which it came.
        numbers: run → this site's number there, by the coordinator's first word.
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        self.orders: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self.numbers: dict[str, int] = {}
        self.room = Room(config.most)
        self.incarnation = config.entropy.bytes(16).hex()
        self._loop = asyncio.new_event_loop()
        self._aside = ThreadPoolExecutor(1, "fedmodel-link-disk")
        self._thread = threading.Thread(target=self._run, name="fedmodel-link", daemon=True)
        self._stopping = asyncio.Event()
        self._call: Call | None = None
        self._current: CurrentMaterial | None = None  # none where it was no good at the start
        self._taken: Taken | None = None
        self._backoff = Backoff(config.entropy)
        self._said: tuple[str, float] = ("", float("-inf"))
        self._lost_since = time.monotonic()
        self.connected = False
        self.final: str | None = None  # why it has given up
        self.ended = ""  # code of the end that was told last, until the next connection

    # -- for other threads -----------------------------------------------------------------------

    def run_beside(self) -> None:
        """Start the link's thread."""
        self._thread.start()

    def send(self, stamp: Stamp, reply: Departure) -> None:
        """Send a reply, now or when there is a connection again.

        Args:
            stamp: of the order that it answers.
            reply: on disk, unless all that it says is why there is no other.
        """
        # Where the link has ended, the next process sends what is on disk.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._send, stamp, reply)

    @property
    def said(self) -> str:
        """Why there was no connection when that was last said; empty: there is one."""
        return self._said[0]

    def away_for(self) -> float:
        """Return for how many seconds there has been no connection; 0 while there is one."""
        return 0.0 if self.connected else time.monotonic() - self._lost_since

    def close(self, reason: str = "") -> None:
        """Tell the coordinator that this process goes, and end the link's thread."""
        if not self._thread.is_alive():
            return
        with suppress(TimeoutError, RuntimeError):
            ended: Future[None] = asyncio.run_coroutine_threadsafe(self._end(reason), self._loop)
            ended.result(_CLOSING_S)
        self._thread.join(_CLOSING_S)

    # -- in its own thread -----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._go_on())
        finally:
            self.orders.put(None)
            self._aside.shutdown()
            settle(self._loop)
            self._loop.close()

    async def _go_on(self) -> None:
        while not self._stopping.is_set():
            self.ended = ""
            try:
                self._say(await self._connected())
            except Exception as error:
                # Whatever it was: a site that doesn't dial again is lost to its run.
                self._say(
                    f"the connection fails: {type(error).__name__}: {escaped(str(error)[:300])}"
                )
                logger.debug("the connection fails", exc_info=True)
            now = time.monotonic()
            if self.connected:
                self.connected, self._lost_since = False, now
            if self.final is not None:
                return
            # An end that was told is no trouble of the line: the next start may come at once.
            told = self.ended in (ENDED, STOPPING)
            wait = self._backoff.hinted(now) if told else self._backoff.lost(now)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _connected(self) -> str:
        """Dial, and stay while it lasts; return why it has ended."""
        config = self.config
        try:
            route = config.route()
            if self._current is None:
                self._current = CurrentMaterial(config.home, config.passphrase, "site")
            # Not read anew each time: each use of a key is a line of the security log.
            material = self._current.read()
            options = channel_options(route.url, material.server_name)
            credentials = credentials_of(material)
        except FedmodelError as error:
            return str(error)
        async with grpc.aio.secure_channel(config.address, credentials, options) as channel:
            stream = channel.stream_stream(METHOD)()
            self._call = Call(self, stream)
            try:
                ended = await self._call.run()
            except grpc.aio.AioRpcError as error:
                return await self._explained(error, route.proxy)
            except (RunFolderError, OSError) as error:
                return f"an order can't be kept: {error}"
            except FedmodelError as error:
                return str(error)
            finally:
                self._call.connection.close()
                self._call = None
                stream.cancel()
        # Before its welcome nobody knows that it is the coordinator who says so.
        if self.connected:
            self.ended = ended.code
        if self.connected and ended.code in FINAL:
            self.final = escaped(ended.reason or ended.code)
        return _ENDS.get(ended.code) or escaped(ended.reason or ended.code)

    async def _explained(self, error: grpc.aio.AioRpcError, proxy: Proxy | None) -> str:
        # gRPC's own words are the same for a dozen reasons.
        told = f"{error.code().name}: {escaped((error.details() or '')[:300])}"
        config, last = self.config, time.monotonic() - self._said[1]
        if self.connected or not config.explain:
            return told
        if last < _SAY_AGAIN_S:
            return self._said[0]
        explain = partial(why_unreachable, config.address, proxy, config.home, config.passphrase)
        return await self._loop.run_in_executor(None, explain)

    def welcomed(self, taken: Taken) -> None:
        """Take note that the coordinator has let this site in.

        Args:
            taken: what this site has taken and answered in the coordinator's run.
        """
        self.connected = True
        self._backoff.opened(time.monotonic())
        logger.info(
            "connected to the coordinator at %s, for run %s", self.config.address, taken.run
        )
        self._said = ("", float("-inf"))

    def known(self, run: str, epoch: int, start: str) -> Taken | None:
        """Return what is under way with a start of a coordinator; ``None``: nothing."""
        taken = self._taken
        same = taken is not None and (taken.run, taken.epoch, taken.start) == (run, epoch, start)
        return taken if same else None

    def taken(self, run: str, epoch: int, start: str) -> Taken:
        """Return what is under way with a start of a coordinator, the only one from now on.

        Raises:
            RunFolderError: when the replies can't be read that this site has to it.
        """
        known = self.known(run, epoch, start)
        if known is not None:
            return known
        if self._taken is not None and self._taken.mail is not None:
            self._taken.mail.forget()
        inbox = self.config.inbox
        # Of a process before this one, too.
        self._taken = Taken(run=run, epoch=epoch, start=start)
        for stamp in inbox.unacknowledged(run):
            self._taken.replies[stamp.seq] = departure_of(stamp.seq, inbox.reply(stamp))
        return self._taken

    def aside(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Do what may wait for the disk, after what else does: pings are answered meanwhile.

        Args:
            work: to do, in another thread.
        """
        return self._loop.run_in_executor(self._aside, work)

    def acknowledge(self, taken: Taken, seq: int) -> None:
        """Let go of a reply that the coordinator has.

        Args:
            taken: what it belongs to.
            seq: number of its order.
        """
        inbox = self.config.inbox
        done = self.aside(partial(inbox.acknowledge, taken.run, taken.epoch, seq))
        done.add_done_callback(partial(_noticed, seq))

    def _send(self, stamp: Stamp, reply: Departure) -> None:
        taken = self.known(stamp.run, stamp.epoch, stamp.start)
        if taken is None or stamp.seq in taken.replies:
            return
        taken.replies[stamp.seq] = reply
        if self._call is not None and self._call.taken is taken:
            self._call.connection.post(reply, 0)

    def _say(self, reason: str) -> None:
        said, when = self._said
        if self._stopping.is_set() or (said == reason and time.monotonic() - when < _SAY_AGAIN_S):
            return
        self._said = reason, time.monotonic()
        logger.warning("not connected to the coordinator at %s: %s", self.config.address, reason)

    async def _end(self, reason: str) -> None:
        self._stopping.set()
        call = self._call
        if call is not None:
            await call.leave(STOPPING, reason)


def _noticed(seq: int, done: "asyncio.Future[None]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        # It is in the way of nothing, and sent again after the next greeting.
        logger.error("the reply to order %d can't be let go of: %s", seq, error)
