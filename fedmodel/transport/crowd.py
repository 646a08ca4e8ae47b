"""Crowd at a port: connections that nobody was let in on are closed before they fill it.

gRPC takes so many connections and no more, whoever has them: one party that holds them all, with a
certificate or without, would keep everybody else out. It doesn't say whose they are before they ask
for something, nor close one. So this finds them among the process's files. While they are many, the
oldest go first: a site needs a second or two from its dialling to its welcome.
"""

import asyncio
import ipaddress
import logging
import os
import random
import socket
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Container
from contextlib import suppress

from fedmodel.transport.notes import Notes

__all__ = ["Crowd", "place_of"]

logger = logging.getLogger(__name__)

_FILES = "/dev/fd"  # of this process, on Linux and macOS alike
_LOOK_S = 1.0
_LOOK_AGAIN_S = 0.25  # after some were closed
_NOTHING_BELOW = 8  # of the connections that there may be, one in so many is no crowd


class Crowd:
    """The connections at one port.

    Args:
        port: that is listened at.
        most: connections that gRPC takes.
        kept: returns the places (:func:`place_of`) whose connections aren't closed.
        notes: where it is noted.
    """

    def __init__(
        self, port: int, most: int, kept: Callable[[], Container[str]], notes: Notes
    ) -> None:
        self._port = port
        self._most = most
        self._kept = kept
        self._notes = notes
        self._since: dict[str, float] = {}

    async def watch(self) -> None:
        """Look at them again and again, until cancelled."""
        while True:
            try:
                closed = self.thin(time.monotonic())
            except OSError as error:
                logger.warning(
                    "the connections at the port can't be counted, so one party could hold all of "
                    "them: %s",
                    error,
                )
                return
            await asyncio.sleep(_LOOK_AGAIN_S if closed else _LOOK_S)

    def thin(self, now: float) -> int:
        """Close the oldest of those that aren't kept, where they are many; return how many.

        Args:
            now: the time, in seconds of a clock that doesn't go back.

        Raises:
            OSError: when the process's files can't be listed.
        """
        if _open() < self._most // _NOTHING_BELOW:
            self._since.clear()
            return 0
        found = _connections(self._port)
        try:
            kept = self._kept()
            loose = [place for place in found if place not in kept]
            over = self._over(loose, self._most - len(found) + len(loose), now)
            for place in over:
                _end(found[place])
        finally:
            for each in found.values():
                each.close()
        if over:
            self._note(over, len(loose))
        return len(over)

    def _over(self, loose: list[str], room: int, now: float) -> list[str]:
        """Return which of the connections that aren't kept there is no room for."""
        self._since = {place: self._since.get(place, now) for place in loose}
        if len(loose) <= room // 2:
            return []
        # Of those that came since the last look it isn't known which was the first.
        random.shuffle(loose)
        loose.sort(key=lambda place: self._since[place])
        return loose[: len(loose) - room // 4]

    def _note(self, over: list[str], among: int) -> None:
        hosts = Counter(place.rpartition(":")[0] for place in over)
        (host, count) = hosts.most_common(1)[0]
        self._notes.add(
            "link-crowded",
            "connections that nobody was let in on",
            next(place for place in over if place.startswith(f"{host}:")),
            f"{len(over)} of {among} were closed, {count} of them from there; there may be "
            f"{self._most} in all",
        )


def _open() -> int:
    """Return how many files this process has open.

    Linux tells since 6.2, as the size of the folder. To list them takes thirty times as long.
    """
    told = os.stat(_FILES).st_size if sys.platform == "linux" else 0
    return told or len(os.listdir(_FILES))


def place_of(address: str) -> str:
    """Return an address and port as they are compared here.

    Args:
        address: as gRPC has it: ``192.0.2.1:443``, ``[2001:db8::1]:443``.
    """
    host, _, port = address.rpartition(":")
    return _place(host.strip("[]"), port)


def _place(host: str, port: object) -> str:
    """Return an address in one of its spellings: IPv4 may come as IPv6."""
    found = ipaddress.ip_address(host.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return f"{mapped or found}:{port}"


def _connections(port: int) -> dict[str, socket.socket]:
    """Return the connections that have come to a port: from where → a copy of its file.

    gRPC may close its one at any time, and another file may take its number: what was found out of
    a copy holds for the copy.
    """
    found: dict[str, socket.socket] = {}
    for name in os.listdir(_FILES):
        with suppress(OSError):  # it has ended, or is no connection
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
            place = _come_to(port, copy)
            if place is None or place in found:  # a copy may have the number of what was listed
                copy.close()
            else:
                found[place] = copy
    return found


def _come_to(port: int, connection: socket.socket) -> str | None:
    """Return from where a connection has come to a port; ``None``: it hasn't, or has ended."""
    try:
        internet = connection.family in (socket.AF_INET, socket.AF_INET6)
        if internet and connection.getsockname()[1] == port:
            host, from_port = connection.getpeername()[:2]
            return _place(host, from_port)
    except OSError:
        return None
    return None


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        logger.debug("a connection has ended by itself: %s", error)
