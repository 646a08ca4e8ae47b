"""A toy federation over the exactly-once layer: what is on its disks, and who watches it.

A round's update of a site is paid for once for each model, and kept, as a real site's noised update
is. The watch sees all and tells nobody.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmodel.errors import RunFolderError
from fedmodel.transport.inbox import Inbox, Noted, Part
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.outbox import Outbox
from fedmodel.transport.stamps import Stamp
from tests.fedmodel.transport.virtual import Faults, Killed

RUN = "toy-0123abcd"
FIRST = "the first model"


class ViolationError(AssertionError):
    """Something happened that must not happen, whatever fails."""


@dataclass(frozen=True)
class Kinds:
    """Which classes take part: the real ones, or one of them with a planted bug."""

    inbox: type[Inbox] = Inbox
    outbox: type[Outbox] = Outbox
    tells_first: bool = False  # a reply is sent before it is on disk
    acts_first: bool = False  # an order is acted on before it is noted
    acts_again: bool = False  # an order that came before is acted on again
    redraws: bool = False  # a site keeps no update, and pays again
    same_epoch: bool = False  # a coordinator's starts aren't counted


@dataclass(frozen=True)
class Order:
    """An order on its way. ``by`` is which process has given it: only the watch looks at that."""

    stamp: Stamp
    member: int
    kind: str
    round: int
    model: str
    by: int = field(compare=False, default=0)


def sha(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def order(outbox: Outbox, member: int, seq: int, what: tuple[str, int, str], by: int) -> Order:
    digest = sha(outbox.start, outbox.before(member), seq, member, *what)
    return Order(Stamp(outbox.run, outbox.epoch, outbox.start, seq, digest), member, *what, by)


def core(member: int, round_: int, model: str) -> str:
    """What an update is without noise."""
    return sha("update", member, round_, model)[:16]


def step(model: str, round_: int, cores: dict[int, str]) -> str:
    return sha(model, round_, sorted(cores.items()))


def without_faults(members: int, rounds: int) -> str:
    """The final model when nothing fails."""
    model = FIRST
    for round_ in range(rounds):
        model = step(model, round_, {m: core(m, round_, model) for m in range(members)})
    return model


@dataclass
class SiteDisk:
    """What a site has on disk; it outlives its processes."""

    noted: dict[str, Noted] = field(default_factory=dict)
    replies: dict[Stamp, bytes] = field(default_factory=dict)
    ledger: list[tuple[int, str]] = field(default_factory=list)
    updates: dict[tuple[int, str], bytes] = field(default_factory=dict)
    draws: int = 0
    full: bool = False


@dataclass
class CoordinatorDisk:
    """What a coordinator has on disk."""

    epoch: int = 0
    round: int = 0
    model: str = FIRST
    rounds: list[tuple[str, dict[int, bytes]]] = field(default_factory=list)

    def copy(self) -> "CoordinatorDisk":
        return replace(self, rounds=list(self.rounds))


class Mortal:
    """An inbox's store on a site's disk, whose process may end before and after any step."""

    def __init__(self, disk: SiteDisk, faults: Faults) -> None:
        self._disk, self._faults = disk, faults

    def _step(self) -> None:
        if self._faults.hit(self._faults.dies):
            raise Killed

    @contextmanager
    def locked(self, run: str) -> Iterator[None]:
        yield

    def read(self, run: str) -> Noted:
        return self._disk.noted.get(run, Noted())

    def note(self, run: str, noted: Noted) -> None:
        self._room()
        self._disk.noted[run] = noted
        self._step()
        self._sweep(run, noted)

    def keep(self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = "") -> None:
        self._room()
        self._disk.replies[stamp] = b"".join(parts)
        self._step()

    def has(self, stamp: Stamp) -> bool:
        return stamp in self._disk.replies

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        return (memoryview(self._disk.replies[stamp]),)

    def drop(self, stamp: Stamp) -> None:
        self._step()
        self._disk.replies.pop(stamp, None)

    def _sweep(self, run: str, noted: Noted) -> None:
        open_ = noted.stamps(run)
        for stamp in [s for s in self._disk.replies if s.run == run and s not in open_]:
            self._step()
            del self._disk.replies[stamp]

    def _room(self) -> None:
        self._step()
        if self._disk.full:
            raise RunFolderError("can't write: No space left on device")


class OnFiles(Mortal):
    """The same in files: what is in memory says what they must have."""

    def __init__(self, disk: SiteDisk, faults: Faults, folder: Path) -> None:
        super().__init__(disk, faults)
        self._files = InboxStore(folder.joinpath)

    def read(self, run: str) -> Noted:
        found = self._files.read(run)
        if found != super().read(run):
            raise ViolationError("a file has another note")
        return found

    def note(self, run: str, noted: Noted) -> None:
        self._room()
        with self._files.locked(run):
            self._files.note(run, noted)
        self._disk.noted[run] = noted
        self._step()
        self._sweep(run, noted)

    def keep(self, stamp: Stamp, parts: Sequence[Part], first: int = 0, sha256: str = "") -> None:
        self._room()
        self._files.keep(stamp, parts, first, sha256)
        self._disk.replies[stamp] = b"".join(parts)
        self._step()

    def has(self, stamp: Stamp) -> bool:
        found = self._files.has(stamp)
        if found != super().has(stamp):
            raise ViolationError("other files have replies")
        return found

    def reply(self, stamp: Stamp) -> tuple[memoryview, ...]:
        return self._files.reply(stamp)

    def drop(self, stamp: Stamp) -> None:
        super().drop(stamp)
        with self._files.locked(stamp.run):
            self._files.drop(stamp)


class Watch:
    """Who sees all that happens, and holds it against what must hold."""

    def __init__(self, members: int) -> None:
        self.acts: list[list[Order]] = [[] for _ in range(members)]
        self.made: dict[tuple[int, str], bytes] = {}  # what acting on an order led to
        self.given: dict[int, list[str]] = {}  # process of a coordinator → digests of its orders
        self._left: dict[tuple[int, int, str], bytes] = {}  # updates that have left a site
        self._counted: set[tuple[int, int, str]] = set()
        self._over: set[tuple[int, int, str]] = set()
        self._acted: set[tuple[int, Stamp]] = set()
        self._obeyed: dict[int, tuple[int, str]] = {}
        self.happened: dict[str, int] = {}

    def saw(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            raise ViolationError(what)

    def verdict(self, member: int, stamp: Stamp, known: bool, verdict: str) -> None:
        self.saw(verdict)
        before = (member, stamp) in self._acted or known
        self.require(before or verdict == "DO", f"{verdict} of an order that never came")

    def acting(self, member: int, now: Order, noted: Noted) -> None:
        before = self.acts[member]
        stamp = now.stamp
        self.require(now.member == member, "acted on another's order")
        self.require((member, stamp) not in self._acted, "acted on an order twice")
        self._acted.add((member, stamp))
        later = (noted.epoch, noted.start) != (stamp.epoch, stamp.start)
        open_ = later or any(o.digest == stamp.digest for o in noted.open)
        self.require(open_, "acted on an order that isn't noted")
        before.append(now)

    def obeying(self, member: int, stamp: Stamp) -> None:
        last = self._obeyed.get(member, (0, ""))
        self.require(stamp.epoch >= last[0], "obeyed an old coordinator")
        same = stamp.epoch > last[0] or stamp.start == last[1]
        self.require(same, "obeyed two coordinators of one epoch")
        self._obeyed[member] = (stamp.epoch, stamp.start)

    def telling(self, member: int, stamp: Stamp, body: bytes, disk: SiteDisk) -> None:
        self.require(disk.replies.get(stamp) == body, "told what isn't on disk")
        self.require(self.made.get((member, stamp.digest)) == body, "told another order's reply")

    def leaving(self, member: int, of: Order, body: bytes) -> None:
        if body.startswith(b"update"):
            key = (member, of.round, of.model)
            self.require(self._left.setdefault(key, body) == body, "drew noise of a round twice")

    def counting(self, by: int, member: int, stamp: Stamp, body: bytes) -> None:
        key = (by, member, stamp.digest)
        self.require(key not in self._counted, "counted a reply twice")
        self.require(key not in self._over, "counted a reply after its order was given up")
        self.require(self.made.get(key[1:]) == body, "counted what the site didn't make")
        self._counted.add(key)

    def giving_up(self, by: int, member: int, digest: str) -> None:
        self.require((by, member, digest) not in self._counted, "gave up what was counted")
        self._over.add((by, member, digest))

    def check_one_history(self) -> None:
        """Check that what each site has done is one coordinator's, whoever was copied when."""
        for acts in self.acts:
            epochs: dict[int, set[str]] = {}
            for each in acts:
                epochs.setdefault(each.stamp.epoch, set()).add(each.stamp.digest)
            for epoch, digests in epochs.items():
                one = any(digests <= set(given) for given in self.given.values())
                self.require(one, f"obeyed two coordinators in epoch {epoch}")
