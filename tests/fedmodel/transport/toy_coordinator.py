"""A process of a toy coordinator: it asks all sites in each round, and counts what they give."""

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fedmodel.errors import ProtocolError, ReplayError
from fedmodel.transport.outbox import Failed, Outbox
from fedmodel.transport.stamps import Stamp, Standing
from tests.fedmodel.transport.toy import RUN, CoordinatorDisk, Order, order, step
from tests.fedmodel.transport.virtual import Killed, Stream

if TYPE_CHECKING:
    from tests.fedmodel.transport.toy_world import World

GRACE = 20.0
LEG = 60.0  # seconds that a leg may take

Answers = dict[int, bytes]


class Coordinator:
    """One process. Its disk outlives it, and may have been copied."""

    def __init__(self, world: "World", disk: CoordinatorDisk, kind: type[Outbox]) -> None:
        disk.epoch = 1 if world.kinds.same_epoch else disk.epoch + 1
        self.alive = True
        self.disk = disk
        self.by = world.new_process()
        start = f"{world.rng.getrandbits(128):032x}"
        self.outbox = kind(RUN, disk.epoch, start, range(world.members), GRACE)
        self.rivals = False  # whether a site has told of another coordinator
        self.finished = False
        self._world = world
        self._streams: dict[int, tuple[Stream, int]] = {}
        self._orders: dict[int, Order] = {}
        self._joined: dict[int, str | None] = {}
        self._leg: tuple[set[int], Answers, Callable[[Answers], None]] | None = None
        self._wake: float | None = None
        world.clock.after(5.0, self._begin)

    def copied(self) -> "Coordinator":
        """Return what a snapshot of its machine is as it wakes up: nobody is connected to it."""
        twin = copy.copy(self)
        twin.outbox, twin.disk = copy.deepcopy(self.outbox), self.disk.copy()
        twin.by = self._world.new_process(self.by)
        twin._streams, twin._orders, twin._joined = {}, dict(self._orders), dict(self._joined)
        twin._leg = twin._wake = None
        self._world.clock.after(5.0, twin._begin)
        return twin

    # -- streams ---------------------------------------------------------------------------------

    def accept(self, stream: Stream) -> None:
        stream.send(("challenge", self.outbox.epoch, self.outbox.start), up=False)

    def receive(self, stream: Stream, message: Any) -> None:
        kind, *rest = message
        try:
            getattr(self, f"_{kind}")(stream, *rest)
        except Killed:
            self._world.kill_coordinator(self)

    def closed(self, stream: Stream) -> None:
        mine = self._streams.get(stream.member)
        if mine is not None and mine[0] is stream:
            del self._streams[stream.member]
            self.outbox.disconnected(stream.member, mine[1], self._world.clock.now)
            self._timer()

    def _refused(self, stream: Stream) -> None:
        self._rival()

    def _rival(self) -> None:
        self._world.watch.saw("rival")
        self.rivals = True
        self._world.told_of_rival(self)

    def _hello(self, stream: Stream, incarnation: str, standing: Standing) -> None:
        member, now = stream.member, self._world.clock.now
        if stream.cut_off:
            return
        try:
            found = self.outbox.connected(member, incarnation, standing, now)
        except ReplayError as error:
            stream.cut()
            if "another process" not in str(error):
                self._rival()
            return
        old = self._streams.get(member)
        self._streams[member] = (stream, found.number)
        if old is not None and old[0] is not stream:
            old[0].cut()
        stream.send(("welcome", self.outbox.epoch, self.outbox.start), up=False)
        self._fail(found.lost)
        for seq in found.again:
            stream.send(("order", self._orders[seq]), up=False)
        self._timer()

    def _reply(self, stream: Stream, stamp: Stamp, body: bytes) -> None:
        member, watch = stream.member, self._world.watch
        try:
            counts = self.outbox.replied(member, stamp)
        except ProtocolError:
            watch.saw("strange reply")
            watch.require(self._world.rivals_ever, "a reply to what was never asked")
            return
        self._world.point()
        if counts:
            watch.counting(self.by, member, stamp, body)
            self._settle(stamp.seq, body)
        else:
            watch.saw("late or twice")
        stream.send(("ack", stamp.epoch, stamp.seq), up=False)

    # -- legs ------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self.alive:
            return
        if self.disk.round == self._world.rounds:
            self.finished = True
            return
        here = sorted(self.outbox.present(self._world.clock.now))
        new = [m for m in here if self._joined.get(m, "") != self.outbox.incarnation(m)]
        asked = {m: self.outbox.incarnation(m) for m in new}

        def joined(answers: Answers) -> None:
            self._joined |= {m: asked[m] for m, body in answers.items() if body == b"joined"}
            self._ask("train", range(self._world.members), self._collected)

        self._ask("join", new, joined)

    def _collected(self, answers: Answers) -> None:
        world, disk = self._world, self.disk
        for member, body in answers.items():
            if body == b"no joining":
                self._joined.pop(member, None)
        updates = {m: body for m, body in answers.items() if body.startswith(b"update")}
        if len(updates) < world.needed:
            world.clock.after(3.0, self._begin)
            return
        world.point()
        disk.rounds.append((disk.model, updates))
        cores = {m: body.split()[1].decode() for m, body in updates.items()}
        disk.model, disk.round = step(disk.model, disk.round, cores), disk.round + 1
        world.point()
        world.clock.after(world.pause, self._begin)

    def _ask(self, kind: str, members: Sequence[int], then: Callable[[Answers], None]) -> None:
        now = self._world.clock.now
        waiting: set[int] = set()
        self._leg = (waiting, {}, then)
        for member in members:
            seq = self.outbox.next_seq()
            what = (kind, self.disk.round, self.disk.model)
            made = self._orders[seq] = order(self.outbox, member, seq, what, self.by)
            self.outbox.post(member, seq, made.stamp.digest, now, now + LEG)
            self._world.watch.given[self.by].append(made.stamp.digest)
            waiting.add(seq)
        for seq in sorted(waiting):
            if (mine := self._streams.get(self._orders[seq].member)) is not None:
                mine[0].send(("order", self._orders[seq]), up=False)
        if not waiting:
            then({})
        self._timer()

    def _settle(self, seq: int, body: bytes | None) -> None:
        if self._leg is None or seq not in self._leg[0]:
            return
        waiting, answers, then = self._leg
        waiting.remove(seq)
        if body is not None:
            answers[self._orders[seq].member] = body
        if not waiting:
            self._leg = None
            then(answers)

    def _fail(self, failed: Sequence[Failed]) -> None:
        for each in failed:
            self._world.watch.saw(each.reason.name)
            digest = self._orders[each.seq].stamp.digest
            self._world.watch.giving_up(self.by, each.member, digest)
            self._settle(each.seq, None)

    def _timer(self) -> None:
        time = self.outbox.next_time()
        if time is not None and (self._wake is None or time < self._wake):
            self._wake = time
            self._world.clock.at(time, lambda: self._tick(time))

    def _tick(self, time: float) -> None:
        if not self.alive or self._wake != time:
            return
        self._wake = None
        try:
            self._fail(self.outbox.due(self._world.clock.now))
        except Killed:
            self._world.kill_coordinator(self)
            return
        self._timer()
