"""Wall and CPU seconds of a process together with all processes below it."""

import contextlib
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Clock", "Cost", "cpu_seconds"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one round."""

    wall: float
    cpu: float


def cpu_seconds() -> float:
    """Return user plus system seconds of this process and all its descendants, dead or alive.

    Of a live descendant the kernel's own counters are read (with those of its children that it
    waited for), so that Ray's worker processes and daemons count while they run.
    """
    import psutil

    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


class Clock:
    """Notes the end of two rounds; the rounds between them are measured.

    Start-up, joining and the first rounds (caches, Ray's workers) stay outside.

    Args:
        warm: the round after which it starts.
        total: the round after which it stops.
        cpu: what gives the CPU seconds so far.
    """

    def __init__(self, warm: int, total: int, cpu: Callable[[], float] = cpu_seconds) -> None:
        self._rounds = (warm, total)
        self._cpu = cpu
        self._marks: dict[int, Cost] = {}

    def round_ended(self, number: int) -> None:
        """Note the time, if the clock starts or stops after this round."""
        if number in self._rounds:
            self._marks[number] = Cost(time.perf_counter(), self._cpu())

    def cost(self) -> Cost:
        """Return the mean cost of a measured round."""
        first, last = self._rounds
        start, stop, rounds = self._marks[first], self._marks[last], last - first
        return Cost((stop.wall - start.wall) / rounds, (stop.cpu - start.cpu) / rounds)
