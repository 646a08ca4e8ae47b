"""Progress of what is going on: lines that change on a terminal, elsewhere a line for what is slow.

Whoever works sets a few fields; a thread of the display reads them when it draws.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedmodel._escape import escaped
from fedmodel.report.terminal import say
from fedmodel.watch import TRAINING

__all__ = ["Progress", "left"]

logger = logging.getLogger(__name__)

_DRAWN = 2  # times in a second
_WIDTH = 24  # of a bar
_SLOW = 5.0  # seconds after which something is said where there is no terminal


@dataclass(slots=True, eq=False)
class _Stage:
    """What is going on: its name, whose it is, its parts, those done, and when it began."""

    what: str
    party: str
    total: int | None
    began: float
    done: float = 0.0


@dataclass(slots=True)
class _Rounds:
    """Where a run's rounds are, counted with the part of the one that goes on."""

    whole: int
    steps: int = 0  # of the round, by all its sites
    number: int = 0
    taken: int = 0
    since: float = 0.0
    base: int = 0  # rounds that were done then
    first: int = 0

    @property
    def done(self) -> float:
        part = self.taken / self.steps if self.steps else 0.0
        return max(0, self.number - 1) + min(1.0, part)


class Progress:
    """A progress display, and a :class:`~fedmodel.watch.Watch`.

    On a terminal two lines stand below the text: what is going on, and the rounds. Elsewhere what
    can be counted is told in one line once it has taken some seconds, and what can't before it
    begins; each kind of work once.

    Args:
        console: where to.
        clock: seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self.live = console.is_interactive and console.file.isatty() and not console.quiet
        self._stages: list[_Stage] = []
        self._rounds: _Rounds | None = None
        self._told: set[str] = set()
        self._began = clock()
        self._open = ExitStack()

    def __enter__(self) -> "Progress":
        if self.live:
            shared = sys.stderr.isatty()
            handlers = _handlers(sys.stderr) if shared else []
            live = Live(
                console=self._console,
                get_renderable=self._drawn,
                refresh_per_second=_DRAWN,
                transient=True,
                redirect_stderr=shared,
            )
            self._open.enter_context(live)
            for handler in handlers:  # what they write would be drawn over
                self._open.callback(handler.setStream, handler.stream)
                handler.setStream(sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    # -- what is going on ------------------------------------------------------------------------

    def of(self, party: str) -> "_Party":
        """Return what is told of the work of one party of several."""
        return _Party(self, party)

    @contextmanager
    def stage(self, what: str, total: int | None = None, party: str = "") -> Iterator[None]:
        """Within this context something is done."""
        own = _Stage(what, party, total, self._clock())
        self._stages.append(own)
        if total is None:
            self._tell(what, what)
        try:
            yield
        finally:
            self._stages.remove(own)

    def advance(self, count: int = 1) -> None:
        """Count parts that are done."""
        if not self._stages:
            return
        top = self._stages[-1]
        top.done += count
        if top.what == TRAINING:
            if self._rounds is not None:
                self._rounds.taken += count
        elif not self.live and top.what not in self._told:
            spent = self._clock() - top.began
            if top.total and spent > _SLOW:
                share = min(1.0, top.done / top.total)
                self._tell(top.what, f"{top.what}: {share:.0%}, {left(spent, share)}")

    def _tell(self, what: str, text: str) -> None:
        if what in self._told:
            return
        self._told.add(what)
        logger.info("%s", text)
        if not self.live:
            say(self._console, f"{text} …")

    # -- rounds ----------------------------------------------------------------------------------

    def round_started(self, number: int, rounds: int, steps: int) -> None:
        """Begin a round of so many steps by all its sites."""
        now = self._clock()
        if self._rounds is None:
            self._rounds = _Rounds(rounds, since=now, base=number - 1, first=number)
        elif self._rounds.number == self._rounds.first:  # it has work of its own
            self._rounds.since, self._rounds.base = now, number - 1
        self._rounds.number, self._rounds.steps, self._rounds.taken = number, steps, 0

    def round_ended(self) -> None:
        """Count a round as done, whatever steps were taken."""
        if self._rounds is not None:
            self._rounds.taken = self._rounds.steps

    # -- drawing ---------------------------------------------------------------------------------

    def _drawn(self) -> RenderableType:
        """Return the two lines. Another thread calls it while the work goes on."""
        now = self._clock()
        table = Table.grid(padding=(0, 1))
        stage, rounds = next(iter(self._stages[-1:]), None), self._rounds
        if stage is not None:
            named = f"{stage.party}: {stage.what}" if stage.party else stage.what
            table.add_row(*_line(named, stage.done, stage.total, now - stage.began))
        if rounds is not None:
            spent, done = now - rounds.since, rounds.done - rounds.base
            more = left(spent, done / max(1e-9, rounds.whole - rounds.base))
            shown = ProgressBar(rounds.whole, min(rounds.done, rounds.whole), width=_WIDTH)
            number = f"round {rounds.number} of {rounds.whole}"
            table.add_row(number, shown, _spent(now - self._began), more)
        return table if table.row_count else Group()  # an empty table is a blank line


class _Party:
    """What is told of one party's work."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name
        self.advance = progress.advance

    def of(self, party: str) -> "_Party":
        """Return what is told of another party's work."""
        return _Party(self._progress, party)

    def stage(self, what: str, total: int | None = None) -> AbstractContextManager[None]:
        """Within this context the party does something."""
        return self._progress.stage(what, total, self._name)


def left(spent: float, share: float) -> str:
    """Return words for the time that is left.

    Args:
        spent: seconds so far.
        share: of the whole that is done.

    >>> left(30, 0.25), left(1, 0.0)
    ('1:30 left', '')
    """
    if share <= 0.0:
        return ""
    return f"{_spent(spent * (1 - min(1.0, share)) / share)} left"


def _spent(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _line(
    name: str, done: float, total: int | None, spent: float
) -> tuple[Text, ProgressBar, str, str]:
    bar = ProgressBar(total, min(done, total or done), width=_WIDTH, pulse=total is None)
    share = done / total if total else 0.0
    return Text(escaped(name)), bar, _spent(spent), left(spent, share)


def _handlers(stream: TextIO) -> list[logging.StreamHandler[TextIO]]:
    """Return the log's handlers that write to a stream."""
    return [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is stream
    ]
