"""A process of a toy site: it connects, admits, acts, keeps, tells."""

from collections import deque
from typing import TYPE_CHECKING, Any

from fedmodel.errors import ReplayError, RunFolderError
from fedmodel.transport.backoff import Backoff
from fedmodel.transport.inbox import Noted, Verdict
from fedmodel.transport.stamps import Stamp
from tests.conftest import FakeEntropy
from tests.fedmodel.transport.toy import RUN, Order, core
from tests.fedmodel.transport.virtual import Killed, Stream

if TYPE_CHECKING:
    from tests.fedmodel.transport.toy_world import World


HANDSHAKE = 15.0  # seconds until a stream must have been welcomed


class Site:
    """One process. Its disk and its number outlive it."""

    def __init__(self, world: "World", member: int) -> None:
        self.alive = True
        self.member = member
        self.incarnation = f"{world.rng.getrandbits(128):032x}"
        self.inbox = world.kinds.inbox(world.store(member))
        self.stream: Stream | None = None
        self.welcomed = False
        self._world, self._disk = world, world.disks[member]
        self._backoff = Backoff(FakeEntropy(world.rng.getrandbits(30)))
        self._joined = ""
        self._queue: deque[Order] = deque()
        world.clock.after(0.0, self._connect)

    def _connect(self) -> None:
        if not self.alive or self.stream is not None:
            return
        clock = self._world.clock
        self._world.tries.append((clock.now, self.member))
        coordinator = self._world.route(self.member)
        if coordinator is None:
            clock.after(self._backoff.lost(clock.now), self._connect)
            return
        self.welcomed = False
        ends = (self, coordinator)
        stream = self.stream = Stream(clock, self._world.faults, ends, self.member)
        self._world.streams.append((self, coordinator, stream))
        coordinator.accept(stream)
        clock.after(HANDSHAKE, lambda: self._hurry(stream))

    def _hurry(self, stream: Stream) -> None:
        if self.alive and stream is self.stream and not self.welcomed:
            self._give_up_stream(None)

    def closed(self, stream: Stream) -> None:
        if stream is self.stream:
            clock = self._world.clock
            self._world.closings.append((clock.now, self.member))
            self.stream, self.welcomed = None, False
            clock.after(self._backoff.lost(clock.now), self._connect)

    def hint(self) -> None:
        """The network says that it is back."""
        if self.alive and self.stream is None:
            self._world.clock.after(self._backoff.hinted(self._world.clock.now), self._connect)

    def receive(self, stream: Stream, message: Any) -> None:
        kind, *rest = message
        current = stream is self.stream
        if not current and not (self._world.leaky and kind in ("order", "ack")):
            return
        try:
            getattr(self, f"_{kind}")(*rest)
        except Killed:
            self._world.kill_site(self.member)
        except ReplayError:
            self._world.watch.saw("refused")
            if kind != "order":
                self._give_up_stream(("refused",))
        except RunFolderError:
            self._world.watch.saw("full")
            self._give_up_stream(None)

    def _give_up_stream(self, last: Any) -> None:
        stream = self.stream
        if stream is not None:
            if last:
                stream.send(last, up=True)
            self.closed(stream)
            self._world.clock.after(0.5, stream.cut)

    def _challenge(self, epoch: int, start: str) -> None:
        self.inbox.check(RUN, epoch, start)
        if self.stream:
            self.stream.send(("hello", self.incarnation, self.inbox.standing(RUN)), up=True)

    def _welcome(self, epoch: int, start: str) -> None:
        self.inbox.obey(RUN, epoch, start)
        if self.welcomed:
            return
        self._backoff.opened(self._world.clock.now)
        self.welcomed = True
        self._world.watch.saw("welcome")
        self._world.welcomes.append((self._world.clock.now, self.member))
        for stamp in self.inbox.unacknowledged(RUN):
            self._tell(stamp)

    def _ack(self, epoch: int, seq: int) -> None:
        self.inbox.acknowledge(RUN, epoch, seq)

    def _order(self, order: Order) -> None:
        world, stamp = self._world, order.stamp
        if world.kinds.acts_first:
            world.point()
            self._act(order)
        known = order.stamp in self._disk.noted.get(RUN, Noted()).stamps(RUN)
        verdict = self.inbox.admit(stamp)
        world.watch.verdict(self.member, stamp, known, verdict.name)
        if verdict is Verdict.DO or (world.kinds.acts_again and verdict is Verdict.AGAIN):
            world.watch.obeying(self.member, stamp)
            world.point()
            self._queue.append(order)
            if len(self._queue) == 1:
                world.clock.after(world.work(), self._work)
        elif verdict is Verdict.AGAIN:
            self._tell(stamp)

    def _work(self) -> None:
        if not self.alive:
            return
        try:
            order = self._queue[0]
            result = self._act(order)
            self._world.point()
            self._world.clock.after(0.1, lambda: self._keep(order, result))
        except Killed:
            self._world.kill_site(self.member)

    def _act(self, order: Order) -> bytes:
        world, key = self._world, (order.round, order.model)
        world.watch.acting(self.member, order, self._disk.noted.get(RUN, Noted()))
        result = b"no joining"
        if order.kind == "join":
            self._joined, result = order.stamp.start, b"joined"
        elif self._joined == order.stamp.start:
            result = self._update(key)
        world.watch.made[self.member, order.stamp.digest] = result
        return result

    def _update(self, key: tuple[int, str]) -> bytes:
        disk, world = self._disk, self._world
        if key in disk.updates and not world.kinds.redraws:
            return disk.updates[key]
        if key not in disk.ledger or world.kinds.redraws:
            disk.ledger.append(key)
        world.point()
        disk.draws += 1
        made = f"update {core(self.member, *key)} drawn {disk.draws}".encode()
        world.point()
        disk.updates[key] = made
        return made

    def _keep(self, order: Order, result: bytes) -> None:
        if not self.alive:
            return
        world = self._world
        try:
            if world.kinds.tells_first:
                self._send(order.stamp, result)
            world.point()
            kept = self.inbox.answered(order.stamp, [result])
            world.point()
            self._queue.popleft()
            if kept:
                world.watch.leaving(self.member, order, result)
                self._tell(order.stamp)
            if self._queue:
                world.clock.after(world.work(), self._work)
        except Killed:
            world.kill_site(self.member)
        except RunFolderError:
            world.watch.saw("full")
            world.clock.after(1.0, lambda: self._keep(order, result))

    def _tell(self, stamp: Stamp) -> None:
        self._send(stamp, b"".join(self.inbox.reply(stamp)))
        self._world.point()

    def _send(self, stamp: Stamp, body: bytes) -> None:
        if self.stream is not None and self.welcomed:
            self._world.watch.telling(self.member, stamp, body, self._disk)
            self.stream.send(("reply", stamp, body), up=True)
