"""Seconds of ways that take turns, and of parties whose work comes in legs."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import numpy as np

from fedmodel.seeds import Seed
from fedmodel.update import Vector

__all__ = ["Seconds", "Watch", "alternating", "median_cpu", "power", "ratio", "timed", "update"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seconds:
    """CPU seconds of the process, and wall seconds."""

    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)


def timed(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, Seconds]:
    """Return a function's result and its seconds, those of threads that it starts included."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args, **kwargs)
    return result, Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def alternating(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[Seconds]]:
    """Return each way's seconds in each turn, after a turn that doesn't count."""
    found: dict[str, list[Seconds]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            seconds = timed(ways[name])[1]
            if turn:
                found[name].append(seconds)
    return found


def ratio(one: Sequence[Seconds], other: Sequence[Seconds]) -> float:
    """Return the median over the turns of one way's CPU seconds over the other's."""
    return statistics.median(x.cpu / y.cpu for x, y in zip(one, other, strict=True))


class Watch:
    """Adds up the seconds of one party, by leg."""

    def __init__(self) -> None:
        self.legs: dict[str, Seconds] = {}

    def __call__(self, leg: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function and note its seconds."""
        result, seconds = timed(function, *args, **kwargs)
        self.legs[leg] = self.legs.get(leg, Seconds()) + seconds
        return result

    def total(self, *legs: str) -> Seconds:
        """Return the seconds of some legs together, of all if none is named."""
        return sum((self.legs.get(leg, Seconds()) for leg in legs or self.legs), Seconds())


def median_cpu(seconds: Iterable[Seconds]) -> float:
    """Return the median of CPU seconds, in milliseconds."""
    return 1e3 * statistics.median(s.cpu for s in seconds)


def power(count: int) -> str:
    """Return a round number in short.

    >>> power(100_000)
    '1e5'
    """
    return f"{count:.0e}".replace("e+0", "e")


def update(count: int) -> Vector:
    """Return an update whose coordinates are of the usual size."""
    return Seed(1).numpy().standard_normal(count, np.float32) * np.float32(0.01)
