"""Virtual time, and a network that duplicates, delays, loses and cuts, all from one seed."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Killed(BaseException):
    """The process that was at work has ended here."""


class Clock:
    """Things to do, in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, time: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(time, self.now), next(self._count), do))

    def after(self, delay: float, do: Callable[[], None]) -> None:
        self.at(self.now + delay, do)

    def run(self, until: float, done: Callable[[], bool], most: int = 200_000) -> None:
        """Do what is to be done until a time, or until all is done that should be."""
        for _ in range(most):
            if done() or not self._heap or self._heap[0][0] > until:
                return
            self.now, _, do = heapq.heappop(self._heap)
            do()
        raise AssertionError(f"more than {most} events by {self.now}")


class End(Protocol):
    """A process at one end of a stream."""

    alive: bool

    def receive(self, stream: "Stream", message: Any) -> None: ...

    def closed(self, stream: "Stream") -> None: ...


@dataclass
class Faults:
    """How bad the network is, until it heals.

    Args:
        rng: draws all of it.
        duplicated: chance that a message comes once more, later.
        lost: chance that one is lost although its stream goes on.
        slow: seconds that a message may take at most; the median is far below.
        notice: seconds until an end notices a cut, at most.
        dies: chance that a process ends at any of the points between two steps.
    """

    rng: random.Random
    duplicated: float = 0.05
    lost: float = 0.002
    slow: float = 5.0
    notice: float = 45.0
    dies: float = 0.01

    def delay(self) -> float:
        return 0.01 + self.slow * self.rng.random() ** 6

    def hit(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    def heal(self) -> None:
        """Let nothing fail from now on."""
        self.duplicated = self.lost = self.dies = 0.0
        self.slow = 0.1


class Stream:
    """A connection. Each way keeps the order, but for what comes twice.

    What is under way when it is cut may be lost, or still come, long after; each end notices later.
    """

    def __init__(self, clock: Clock, faults: Faults, ends: tuple[End, End], member: int) -> None:
        self.member = member
        self.cut_off = False
        self._clock, self._faults, self._ends = clock, faults, ends
        self._last = {True: 0.0, False: 0.0}
        self._drops = {True: False, False: False}

    def send(self, message: Any, *, up: bool) -> None:
        """Send to the coordinator (up), or to the site."""
        if self.cut_off or self._faults.hit(self._faults.lost):
            return
        self._last[up] = max(self._last[up], self._clock.now + self._faults.delay())
        self._clock.at(self._last[up], lambda: self._deliver(message, up))
        if self._faults.hit(self._faults.duplicated):
            late = self._last[up] + 20 * self._faults.rng.random() ** 2
            self._clock.at(late, lambda: self._deliver(message, up))

    def _deliver(self, message: Any, up: bool) -> None:
        if not self._drops[up] and self._ends[up].alive:
            self._ends[up].receive(self, message)

    def cut(self) -> None:
        if self.cut_off:
            return
        self.cut_off = True
        for up in (True, False):
            self._drops[up] = self._faults.hit(0.5)
            notice = self._faults.notice * self._faults.rng.random() ** 3
            self._clock.after(notice, lambda up=up: self._close(up))  # type: ignore[misc]

    def _close(self, up: bool) -> None:
        if self._ends[up].alive:
            self._ends[up].closed(self)
