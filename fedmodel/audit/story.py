"""Story of a run as the coordinator's own ledger tells it: what was asked, and what came of it.

A thing is written before it is done, so what may follow what is fixed: whatever was asked has a
result, or a crash after it (another start), or the end of a run that failed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    CoordinatorEntry,
    EndEntry,
    EvaluationEntry,
    Given,
    JoiningEntry,
    ResultEntry,
    RoundEntry,
    StartEntry,
    UnmaskEntry,
)

__all__ = ["Asking", "Finished", "Gave", "Opened", "Story"]


@dataclass(slots=True)
class Opened:
    """An attempt at a secure sum.

    Args:
        entry: that opens it.
        unmasked: entries that say that it is unmasked; more than one is a fault.
    """

    entry: AttemptEntry
    unmasked: list[UnmaskEntry] = field(default_factory=list)


@dataclass(slots=True)
class Asking:
    """What sites were asked for once.

    Args:
        entry: that says so.
        start: of the coordinator, in which it was asked.
        joining: in which it was asked.
        attempts: at a secure sum.
        result: what came of it; ``None`` where nothing could.
    """

    entry: RoundEntry
    start: StartEntry
    joining: JoiningEntry
    attempts: list[Opened] = field(default_factory=list)
    result: ResultEntry | EvaluationEntry | None = None


class Gave(NamedTuple):
    """What a site has given, or heard, and where its ledger stood then.

    Args:
        entry: that says so.
        given: the site.
        kind: ``train``, ``evaluate``; empty: it has heard of the end.
        round: of the run; of an evaluation, and of the end, 0.
    """

    entry: ResultEntry | EvaluationEntry | EndEntry
    given: Given
    kind: Literal["train", "evaluate", ""]
    round: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a round, and as which nodes sites were known then.

    Args:
        entry: that says so.
        nodes: of the grid → number of the site.
        asking: what it is the answer to; ``None``: of an earlier start, or nobody was asked.
    """

    entry: ResultEntry
    nodes: Mapping[str, int]
    asking: Asking | None


class _StoryError(Exception):
    """What can't be."""


class Story:
    """What a coordinator's ledger tells, as far as it makes sense.

    Attributes:
        begins: the last round that was finished before the ledger began.
        last: the last finished round.
        askings: in order.
        finished: round → what came of it at last.
        unfinished: what came of rounds that were asked again, or ended the run.
        given: what sites have given, in order.
        sums: round → those of it that were unmasked.
        evaluation: what came of the last evaluation.
        end: where the run has ended.
        back: starts that went back by more than the round that was being finished.
        fault: the entry that can't stand where it does, and why.
    """

    def __init__(self) -> None:
        self.begins = self.last = 0
        self.askings: list[Asking] = []
        self.finished: dict[int, Finished] = {}
        self.unfinished: list[ResultEntry] = []
        self.given: list[Gave] = []
        self.sums: dict[int, list[UnmaskEntry]] = {}
        self.evaluation: EvaluationEntry | None = None
        self.end: EndEntry | None = None
        self.back: list[StartEntry] = []
        self.fault: tuple[CoordinatorEntry, str] | None = None
        self._furthest = 0  # the last round that was finished, whatever starts went back
        self._start: StartEntry | None = None
        self._joining: JoiningEntry | None = None
        self._nodes: Mapping[str, int] = {}
        self._open: Asking | None = None
        self._fresh = False  # whether nothing was asked since the start, or the last joining
        self._stopped = False

    @classmethod
    def of(cls, entries: Iterable[CoordinatorEntry]) -> "Story":
        """Return what entries tell, in their order, to the first that makes no sense."""
        made = cls()
        for entry in entries:
            try:
                made._take(entry)
            except _StoryError as error:
                made.fault = entry, str(error)
                break
        return made

    @property
    def opened(self) -> list[Opened]:
        """All attempts at secure sums, in order."""
        return [attempt for asking in self.askings for attempt in asking.attempts]

    @property
    def unanswered(self) -> Asking | None:
        """What was asked last, and has no result."""
        return self._open

    # -- entries ---------------------------------------------------------------------------------

    def _take(self, entry: CoordinatorEntry) -> None:
        if entry.type in ("run", "torn"):
            return
        if self._start is None and entry.type != "start":
            _no("it comes before the coordinator's first start")
        if self.end is not None and entry.type != "start":
            _no("it comes after the end of the run")
        getattr(self, f"_take_{entry.type}")(entry)

    def _take_start(self, entry: StartEntry) -> None:
        if self._start is None:
            self.begins = self._furthest = entry.round
        elif entry.round > self.last:
            _no(
                f"it goes on after round {entry.round}, and the last that is finished here is "
                f"{self.last}"
            )
        elif entry.round < self._furthest - 1:
            self.back.append(entry)
            self._furthest = entry.round
        self.finished = {n: each for n, each in self.finished.items() if n <= entry.round}
        self.last = entry.round
        self._start, self._open, self._fresh, self._stopped = entry, None, True, False
        self.end = None

    def _take_joining(self, entry: JoiningEntry) -> None:
        self._require_answered()
        self._joining, self._nodes, self._fresh = entry, entry.nodes, True

    def _take_round(self, entry: RoundEntry) -> None:
        self._require_answered()
        start, joining = self._start, self._joining
        if start is None or joining is None:
            _no("nobody had joined")
        expected = self.last + 1 if entry.kind == "train" else self.last
        if entry.round != expected:
            _no(f"it is of round {entry.round} where round {expected} belongs")
        if entry.kind == "train" and self._stopped:
            _no("the round before says that no further one follows")
        if others := sorted(set(entry.members) - set(self._nodes.values())):
            _no(f"sites {others[:5]} are asked, and haven't joined")
        self._open, self._fresh = Asking(entry, start, joining), False
        self.askings.append(self._open)

    def _take_attempt(self, entry: AttemptEntry) -> None:
        asking = self._asked(entry.round, "train")
        if entry.attempt != (expected := len(asking.attempts) + 1):
            _no(f"it is attempt {entry.attempt} where attempt {expected} belongs")
        asking.attempts.append(Opened(entry))

    def _take_unmask(self, entry: UnmaskEntry) -> None:
        asking = self._asked(entry.round, "train")
        if not asking.attempts or asking.attempts[-1].entry.attempt != entry.attempt:
            _no(f"attempt {entry.attempt} isn't the one that was opened last")
        asking.attempts[-1].unmasked.append(entry)
        self.sums.setdefault(entry.round, []).append(entry)

    def _take_result(self, entry: ResultEntry) -> None:
        if entry.round != self.last + 1:
            _no(f"it is of round {entry.round} where round {self.last + 1} belongs")
        asking, members = self._open, _members(entry.given)
        if asking is not None:
            self._asked(entry.round, "train").result = entry
            asked = set(asking.entry.members)
        else:
            # Nobody was asked; or it had been, and is finished by what was kept.
            earlier = [a for a in self.askings if _is_of(a, entry.round)] if self._fresh else []
            asked = {member for each in earlier for member in each.entry.members}
        _require_known(members, asked)
        _require_known((each.member for each in entry.failed), self._nodes.values())
        if not entry.finished and (entry.given or entry.absent or entry.mean):
            _no("it isn't finished, and has a mean")
        if bool(entry.mean) != bool(entry.given or entry.absent):
            _no("it has a mean of nobody's updates, or none of somebody's")
        self._open, self._fresh = None, False
        if not entry.finished:
            self.unfinished.append(entry)
            return
        self.given += [Gave(entry, each, "train", entry.round) for each in entry.given]
        self.finished[entry.round] = Finished(entry, self._nodes, asking)
        self.last, self._stopped = entry.round, entry.stopped
        self._furthest = max(self._furthest, entry.round)

    def _take_evaluation(self, entry: EvaluationEntry) -> None:
        asking = self._asked(entry.round, "evaluate")
        _require_known(_members(entry.given), asking.entry.members)
        asking.result = self.evaluation = entry
        self.given += [Gave(entry, each, "evaluate") for each in entry.given]
        self._open = None

    def _take_end(self, entry: EndEntry) -> None:
        if not entry.failed:
            self._require_answered()
        if entry.round != self.last:
            _no(f"it ends after round {entry.round}, and the last that is finished is {self.last}")
        _members(entry.told)
        self.given += [Gave(entry, each, "") for each in entry.told]
        self.end = entry

    def _asked(self, round_: int, kind: str) -> Asking:
        asking = self._open
        if asking is None or (asking.entry.kind, asking.entry.round) != (kind, round_):
            _no(f"nobody was asked to {kind} in round {round_}")
        return asking

    def _require_answered(self) -> None:
        if self._open is not None:
            entry = self._open.entry
            _no(
                f"sites were asked to {entry.kind} in round {entry.round}, and what came of it "
                "isn't told"
            )


def _is_of(asking: Asking, round_: int) -> bool:
    return (asking.entry.kind, asking.entry.round) == ("train", round_)


def _no(reason: str) -> NoReturn:
    raise _StoryError(reason)


def _members(given: Sequence[Given]) -> list[int]:
    members = [each.member for each in given]
    if sorted(set(members)) != members:
        _no("it names a site twice, or out of order")
    return members


def _require_known(members: Iterable[int], known: Iterable[int]) -> None:
    if others := sorted({*members} - {*known}):
        _no(f"it names sites {others[:5]}, which weren't asked")
