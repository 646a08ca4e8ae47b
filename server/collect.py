"""Collection of a question's answers: what each node gave, and why others gave nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fedmodel import wire
from fedmodel.errors import ProtocolError
from fedmodel.mechanisms.counts import Counts
from fedmodel.update import Update
from fedmodel.wire import Content
from server.answers import Answer, Check, nothing

__all__ = ["Collected", "collect_counts", "read_all", "read_each"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Collected:
    """What came back in a round.

    Args:
        mean: weighted mean of the updates, ``None`` if there was none.
        givers: the nodes whose updates are in it.
        absent: so many more sites' updates are in it: of a sum that was recovered, those of sites
            that haven't joined again.
        sha256s: node id → SHA-256 (hex) of what it gave, as its own ledger has it; of none where
            this coordinator keeps no ledger.
        asked: so many sites had been asked for a sum that was recovered; 0: that isn't known.
        failures: node id → why a site gave none, or failed to do all that it was asked for.
        reason: why there is no mean although sites gave updates.
        blamed: node id → in what it is wrong; or in what it is in dispute with another site, of
            which two one is wrong.
        step: what one unit stands for where the sites' numbers were rounded for a sum.
    """

    mean: Update | None = None
    givers: tuple[int, ...] = ()
    failures: dict[int, wire.Failure] = field(default_factory=dict)
    reason: str | None = None
    blamed: dict[int, str] = field(default_factory=dict)
    step: float | None = None
    absent: int = 0
    asked: int = 0
    sha256s: Mapping[int, str] = field(default_factory=dict)

    @property
    def updates(self) -> int:
        """How many sites' updates are in the mean."""
        return len(self.givers) + self.absent

    @property
    def budgets_spent(self) -> bool:
        """Whether no site failed for any other reason than a spent budget."""
        return bool(self.failures) and all(f.budget for f in self.failures.values())


def collect_counts(
    answers: Iterable[Answer], asked: Iterable[int], size: int, check: Check = nothing
) -> tuple[dict[int, Counts], dict[int, wire.Failure]]:
    """Return the noised counts of the nodes that gave some, and why the others didn't.

    Args:
        answers: what came back.
        asked: the nodes that were asked.
        size: how many counts each must have.
        check: what else an answer must pass.
    """

    def read(node: int, content: Content) -> Counts:
        return wire.decode_counts(content, size)

    return read_all(answers, asked, read, check, "counts")


def read_all(
    answers: Iterable[Answer],
    asked: Iterable[int],
    read: Callable[[int, Content], T],
    check: Check,
    what: str,
) -> tuple[dict[int, T], dict[int, wire.Failure]]:
    """Read every node's answer (see :func:`read_each`), and keep all that was read.

    Returns:
        Node id → what was read, in rising order, and node id → why there is nothing.
    """
    found: dict[int, T] = {}
    failures: dict[int, wire.Failure] = {}
    for node, got in read_each(answers, asked, read, check, what):
        if isinstance(got, wire.Failure):
            failures[node] = got
        else:
            found[node] = got
    return found, failures


def read_each(
    answers: Iterable[Answer],
    asked: Iterable[int],
    read: Callable[[int, Content], T],
    check: Check,
    what: str,
) -> Iterator[tuple[int, T | wire.Failure]]:
    """Read every node's answer, in the order of node ids: arrival makes no difference.

    Each is let go of once it is read: an answer may be a model in size, and lie in a file that is
    mapped into memory until then. So that nothing else holds them, give an iterator of them.

    Args:
        answers: what came back.
        asked: the nodes that were asked; the missing ones count as failures.
        read: makes something of a node's answer; it raises ProtocolError.
        check: what else an answer must pass.
        what: what it is, for messages.

    Yields:
        Node id, and what was read, or why there is nothing. A malformed or repeated answer is a
        failure of its sender.
    """
    expected = set(asked)
    found_of: dict[int, Answer] = {}
    repeated: set[int] = set()
    for answer in answers:
        if answer.node in found_of:
            repeated.add(answer.node)
        if answer.node in expected:
            found_of[answer.node] = answer
    answer = None  # type: ignore[assignment]  # else the last would be held to the end
    for node in sorted(expected):
        if node not in found_of:
            yield node, wire.Failure(reason="no answer in time")
        elif node in repeated:
            # Taking one of them would make the result depend on which came first.
            yield node, wire.Failure(reason="answered more than once")
        else:
            yield node, _read(found_of.pop(node), read, check, what)


def _read(
    answer: Answer, read: Callable[[int, Content], T], check: Check, what: str
) -> T | wire.Failure:
    if answer.content is None:
        return answer.failure or wire.Failure(reason="no answer")
    try:
        check(answer.node, answer.content)
        return read(answer.node, answer.content)
    except ProtocolError as error:
        return wire.Failure(reason=f"malformed {what}: {error}", wrong=True)
