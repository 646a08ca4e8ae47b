"""State of a run's inbox, as the records of its file tell it one after the other.

A record is a line of canonical JSON; after that of a reply come its first bytes, or all. Each names
its schema and its run. What a note doesn't hold open any more is over, and so is the reply to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.transport.inbox import Noted, Order
from fedmodel.transport.stamps import Stamp, require_start

__all__ = ["Kept", "State", "note_record", "over_record", "reply_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A reply that is kept.

    Args:
        sizes: bytes of its parts.
        data: the first parts, or all of them, one after the other.
        sha256: of the other parts, hex, which are in a file of their own; empty: there are none.
    """

    sizes: tuple[int, ...]
    data: bytes
    sha256: str = ""

    def __post_init__(self) -> None:
        if not (len(self.data) <= self.size if self.sha256 else len(self.data) == self.size):
            raise ConfigError(f"a reply of {self.size} bytes has {len(self.data)} in its record")

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    schema: Literal["fedmodel.inbox/1"] = "fedmodel.inbox/1"
    run: str
    epoch: int
    start: str
    last: Order | None
    open: tuple[Order, ...]

    def __post_init__(self) -> None:
        require_start(self.epoch, self.start)
        seqs = [order.seq for order in self.noted().stamps(self.run)]
        if seqs != sorted(set(seqs)) or (self.open[-1:] or (self.last,)) != (self.last,):
            raise ConfigError("open orders must grow, and end in the last one")

    def noted(self) -> Noted:
        return Noted(epoch=self.epoch, start=self.start, last=self.last, open=self.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    schema: Literal["fedmodel.outbox/1"] = "fedmodel.outbox/1"
    run: str
    seq: int
    order: str
    sizes: tuple[int, ...]
    sha256: str

    def __post_init__(self) -> None:
        if any(size < 0 for size in self.sizes):
            raise ConfigError("sizes of parts must be 0 or more")
        if self.sha256:
            config.require_hex("sha256", self.sha256, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Over:
    schema: Literal["fedmodel.over/1"] = "fedmodel.over/1"
    run: str
    seq: int
    order: str


_Record: TypeAlias = _Note | _Reply | _Over
_KINDS: dict[str, type[_Record]] = {
    "fedmodel.inbox/1": _Note,
    "fedmodel.outbox/1": _Reply,
    "fedmodel.over/1": _Over,
}


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a run.

    Args:
        noted: the last note.
        replies: to its open orders, but for those that are acknowledged.
    """

    noted: Noted = field(default_factory=Noted)
    replies: Mapping[Stamp, Kept] = field(default_factory=dict)

    def after(self, run: str, record: bytes) -> "State":
        """Return what is known once another record has come.

        Args:
            run: that the record must be of.
            record: the next one.

        Raises:
            ConfigError: when it can't be one, or can't come here.
        """
        line, _, data = record.partition(b"\n")
        found = config.parse(_built, line)
        if found.run != run:
            raise ConfigError(f"it is of run {found.run[:80]!r}")
        if data and not isinstance(found, _Reply):
            raise ConfigError("a record has bytes that don't belong there")
        if isinstance(found, _Note):
            noted = found.noted()
            open_ = frozenset(noted.stamps(run))
            return State(noted, {s: kept for s, kept in self.replies.items() if s in open_})
        stamp = Stamp(run, self.noted.epoch, self.noted.start, found.seq, found.order)
        if stamp not in self.noted.stamps(run):
            raise ConfigError(f"order {found.seq} was never accepted, or is over")
        others = {s: kept for s, kept in self.replies.items() if s != stamp}
        if isinstance(found, _Reply):
            kept = Kept(sizes=found.sizes, data=data, sha256=found.sha256)
            return State(self.noted, {**others, stamp: kept})
        if stamp not in self.replies:
            raise ConfigError(f"order {found.seq} has no reply that could be over")
        return State(self.noted, others)

    def records(self, run: str) -> list[bytes]:
        """Return as few records as tell the same.

        Args:
            run: that they are of.
        """
        return [
            note_record(run, self.noted),
            *(reply_record(*each) for each in self.replies.items()),
        ]


def note_record(run: str, noted: Noted) -> bytes:
    """Return the record of a note.

    Args:
        run: that it is of.
        noted: of at least one coordinator.
    """
    made = _Note(run=run, epoch=noted.epoch, start=noted.start, last=noted.last, open=noted.open)
    return config.canonical(made) + b"\n"


def reply_record(stamp: Stamp, kept: Kept) -> bytes:
    """Return the record of a reply.

    Args:
        stamp: of the order that it answers.
        kept: the reply.
    """
    made = _Reply(
        run=stamp.run, seq=stamp.seq, order=stamp.digest, sizes=kept.sizes, sha256=kept.sha256
    )
    return config.canonical(made) + b"\n" + kept.data


def over_record(stamp: Stamp) -> bytes:
    """Return the record that the reply to an order isn't needed any more.

    Args:
        stamp: of the order.
    """
    return config.canonical(_Over(run=stamp.run, seq=stamp.seq, order=stamp.digest)) + b"\n"


def _built(plain: Any) -> _Record:
    schema = plain.get("schema") if isinstance(plain, dict) else None
    kind = _KINDS.get(schema) if isinstance(schema, str) else None
    if kind is None:
        raise ConfigError(f"expected one of the schemas {', '.join(_KINDS)}, got {schema!r:.40}")
    return config.build(kind, plain)
