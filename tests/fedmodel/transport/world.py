"""A hub and its sites on loopback, in one process, with a trivial app at each site."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import Certificate
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now
from fedmodel.seeds import Entropy
from fedmodel.transport.call import Received
from fedmodel.transport.hub import Hub, HubConfig
from fedmodel.transport.inbox import Inbox, Verdict
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.link import Link, LinkConfig
from fedmodel.transport.options import server_options
from fedmodel.transport.payloads import (
    COVER,
    Part,
    departure_of,
    kept_parts,
    reply_to,
)
from fedmodel.transport.questions import Answered, Question
from fedmodel.transport.server import Server
from fedmodel.transport.tls import server_credentials
from tests.fedmodel.transport.consortium import Consortium

App = Callable[[Received], Sequence[Part]]


def echo(received: Received) -> Sequence[Part]:
    return [bytes(received.payload)]


def signer_of(home: PartyHome) -> SigningKey:
    return SigningKey(home.secret("key"))


class Coordinator:
    """A coordinator's end, listening.

    Args:
        consortium: whose.
        folder: of the run.
        epoch: of this start.
        grace: seconds that a site may be away.
        clock: tells the time.
        own: returns its certificate; ``None``: that isn't looked at.
    """

    def __init__(
        self,
        consortium: Consortium,
        folder: Path,
        epoch: int = 1,
        grace: float = 5.0,
        most: int = 1 << 30,
        listen: str = "127.0.0.1:0",
        entropy: Entropy | None = None,
        clock: Callable[[], datetime] = utc_now,
        own: Callable[[], Certificate] | None = None,
    ) -> None:
        home = PartyHome(consortium.coordinator.folder, clock)
        folder.mkdir(exist_ok=True)
        self.refusals: list[tuple[str, str, str]] = []
        entropy = entropy or Entropy()
        self.hub = Hub(
            HubConfig(
                run="run-1",
                epoch=epoch,
                start=entropy.bytes(16).hex(),
                roster=home.current_roster(),
                signer=signer_of(home),
                newest=home.current_roster,
                folder=folder,
                most=most,
                grace=grace,
                told=lambda *told: self.refusals.append(told),
                sources="0" * 64,
                clock=clock,
                own=own,
            )
        )
        self.hub.run_beside()
        self.server = Server(self.hub, server_credentials(home, None), server_options())
        self.server.start(listen)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, *, ended: bool = False) -> None:
        if self.hub.loop.is_running():
            self.hub.close_callers(ended=ended)
            self.server.stop()
            self.hub.close()

    def wait_for(self, count: int, seconds: float = 60.0) -> None:
        wait_until(lambda: len(self.hub.present()) >= count, seconds)

    def ask(self, payload: bytes, members: Sequence[int], timeout: float = 60.0) -> list[Answered]:
        return self.hub.ask([question(m, payload) for m in members], timeout)


def question(member: int, payload: bytes, type_: str = "train") -> Question:
    return Question(member=member, type=type_, group="", parts=[payload])


def told(answer: Answered) -> bytes | None:
    """Return what a site has answered."""
    return None if answer.payload is None else bytes(answer.payload)


class Site:
    """A site's process: its link, and a thread that does what comes.

    Args:
        home: folder of its identity.
        address: of the coordinator.
        app: makes a reply of an order.
        explain: look for the reason when there is no connection.
        most: bytes that orders may have in all.
    """

    def __init__(
        self,
        home: PartyHome,
        address: str,
        app: App = echo,
        *,
        explain: bool = True,
        most: int = 1 << 34,
    ) -> None:
        self.done: list[int] = []
        self._app = app
        folder = home.folder / "spool"
        folder.mkdir(exist_ok=True)
        self.inbox = Inbox(InboxStore(lambda run: home.folder / "runs" / run))
        self.link = Link(
            LinkConfig(
                home=home,
                signer=signer_of(home),
                address=address,
                sources="0" * 64,
                folder=folder,
                inbox=self.inbox,
                explain=explain,
                most=most,
            )
        )
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self.link.run_beside()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        self._thread.join(10)

    def _work(self) -> None:
        while (received := self.link.orders.get()) is not None:
            self._do(received)
            del received

    def _do(self, received: Received) -> None:
        sign = self.link.config.signer.sign
        if received.refusal is not None:
            parts: Sequence[Part] = [received.refusal.encode()]
            reply = reply_to(received.order, received.stamp.digest, parts, sign)
            self.link.send(received.stamp, reply)
            return
        verdict = self.inbox.admit(received.stamp)
        if verdict is Verdict.AGAIN:
            reply = departure_of(received.order.seq, self.inbox.reply(received.stamp))
            self.link.send(received.stamp, reply)
        if verdict is not Verdict.DO:
            return
        parts = self._app(received)
        self.done.append(received.order.seq)
        reply = reply_to(received.order, received.stamp.digest, parts, sign)
        kept = kept_parts(reply.header, parts)
        if self.inbox.answered(received.stamp, kept, COVER, reply.sha256):
            self.link.send(received.stamp, reply)


def wait_until(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it hasn't come about in time")
        time.sleep(0.01)
