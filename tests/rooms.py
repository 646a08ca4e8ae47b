"""What is alive in a process at each tenth round: objects, bytes, and resident pages."""

import ctypes
import gc
import json
import logging
import os
import re
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = ["Room", "grown", "rooms_in", "watch_rooms"]

_EVERY = 10  # rounds between two looks
_LOOKS, _PAUSE_S, _VAIN = 50, 0.02, 2
_MARK = "ROOM "
_LINES = {
    "clients.app": re.compile(r"trained in round (\d+) "),
    "server.display": re.compile(r"^round (\d+)/"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What is alive.

    Args:
        objects: that could hold others.
        bytes: that Python has taken since it began to count.
        resident: bytes of pages in memory, once what is free was given back.
    """

    objects: int
    bytes: int
    resident: int

    @classmethod
    def now(cls) -> "Room":
        """Look at this process."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        taken, _ = tracemalloc.get_traced_memory()
        size = os.sysconf("SC_PAGE_SIZE")
        return cls(objects=len(gc.get_objects()), bytes=taken, resident=pages * size)

    @classmethod
    def at_rest(cls) -> "Room":
        """Look until two looks have found no less: what was under way then is over."""
        least, vain = cls.now(), 0
        for _ in range(_LOOKS):
            time.sleep(_PAUSE_S)
            room = cls.now()
            vain = 0 if room.objects < least.objects or room.bytes < least.bytes else vain + 1
            if vain == _VAIN:
                break
            least = cls(
                objects=min(least.objects, room.objects),
                bytes=min(least.bytes, room.bytes),
                resident=min(least.resident, room.resident),
            )
        return least


def grown(rooms: Sequence[Room], rounds: int = _EVERY) -> dict[str, float]:
    """Return by how much each grows in a round: from the least of the first half to the second's.

    What is under way as one looks is counted at random, some dozens of objects; the least of
    several looks is what stays.

    Args:
        rooms: one after the other.
        rounds: between two of them.
    """
    found, half = {}, len(rooms) // 2
    for field in fields(Room):
        values = [getattr(room, field.name) for room in rooms]
        rise = min(values[len(rooms) - half :]) - min(values[:half])
        found[field.name] = rise / (rounds * (len(rooms) - half))
    return found


class _Looker(logging.Handler):
    """Looks when a line says that a round is over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Look at each tenth."""
        found = _LINES[record.name].search(record.getMessage())
        if found and int(found[1]) % _EVERY == 0:
            print(_MARK + json.dumps(asdict(Room.now())), file=sys.stderr, flush=True)


def watch_rooms() -> None:
    """Say from now on what is alive in this process, on stderr, as it trains or coordinates."""
    tracemalloc.start(1)
    for name in _LINES:
        logging.getLogger(name).addHandler(_Looker())


def rooms_in(said: str) -> list[Room]:
    """Return what a process has said of it."""
    lines = [line.removeprefix(_MARK) for line in said.splitlines() if line.startswith(_MARK)]
    return [Room(**json.loads(line)) for line in lines]
