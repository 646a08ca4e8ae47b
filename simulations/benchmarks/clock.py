"""Wall and CPU seconds of a process together with all processes below it."""

import contextlib
import resource
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Clock", "Cost", "cpu_seconds", "time_call"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one round, and those of them inside the local training function."""

    wall: float
    cpu: float
    training_wall: float
    training_cpu: float


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


def time_call(function: Callable[[], T]) -> tuple[T, float, float]:
    """Return a function's result, and the wall and CPU seconds of this thread in it."""
    wall, cpu = time.perf_counter(), time.thread_time()
    result = function()
    return result, time.perf_counter() - wall, time.thread_time() - cpu


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
        self._training = [0.0, 0.0]

    def trained(self, wall: float, cpu: float) -> None:
        """Add seconds that the training function took, wherever it ran."""
        self._training[0] += wall
        self._training[1] += cpu

    def timed(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the training function with its seconds added at each call."""

        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            result, wall, cpu = time_call(lambda: function(*args, **kwargs))
            self.trained(wall, cpu)
            return result

        return wrapped

    def round_ended(self, number: int) -> None:
        """Note the time, if the clock starts or stops after this round."""
        if number in self._rounds:
            self._marks[number] = Cost(time.perf_counter(), self._cpu(), *self._training)

    def cost(self) -> Cost:
        """Return the mean cost of a measured round."""
        first, last = self._rounds
        pairs = zip(astuple(self._marks[first]), astuple(self._marks[last]), strict=True)
        return Cost(*((stop - start) / (last - first) for start, stop in pairs))
