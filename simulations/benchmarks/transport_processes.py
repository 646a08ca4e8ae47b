"""Processes of the network's benchmark: started and ended by id, told what to do, and measured."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

__all__ = ["Actor", "Peaks", "Processes", "cpu_of", "memory_of", "waited"]

_ENDING_S = 15.0
_SAMPLE_S = 0.05


class Actor:
    """A process that does what it is told over a Unix socket, from outside.

    Args:
        path: of the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(1)
        self._lines: Any = None

    def accept(self, seconds: float) -> None:
        """Wait until it has connected.

        Raises:
            TimeoutError: when it doesn't.
        """
        self._listening.settimeout(seconds)
        connection, _ = self._listening.accept()
        connection.settimeout(None)
        self._lines = connection.makefile("rw")
        self._connection = connection

    def tell(self, name: str, *arguments: object, seconds: float = 1000.0) -> Any:
        """Have it do something; return what it returns.

        Raises:
            TimeoutError: when that takes too long.
            ConnectionError: when it has ended.
        """
        self._connection.settimeout(seconds)
        print(json.dumps([name, *arguments]), file=self._lines, flush=True)
        line = self._lines.readline()
        if not line:
            raise ConnectionError(f"the process that was told '{name}' has ended; see its log")
        return json.loads(line)

    def close(self) -> None:
        """Let it end."""
        if self._lines is not None:
            self._lines.close()
            self._connection.close()
        self._listening.close()


class Processes:
    """Processes of one network; leaving it ends them and all that they have started.

    Args:
        folder: for their logs.
        env: of them, beside what this process has.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = {**os.environ, **env}
        self._found: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: Sequence[str]) -> int:
        """Start one; return its id.

        Args:
            name: of its log.
            command: program and arguments.
        """
        with open(self._folder / f"{name}.log", "wb") as log:
            made = subprocess.Popen(
                command, env=self._env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self._found.append(made)
        return made.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        everyone: dict[int, psutil.Process] = {}
        for root in self._found:
            with suppress(psutil.NoSuchProcess):
                found = psutil.Process(root.pid)
                everyone |= {p.pid: p for p in [found, *found.children(recursive=True)]}
        # psutil compares the time of start, too: an id that is another's by now isn't touched.
        for process in everyone.values():
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(list(everyone.values()), timeout=_ENDING_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=_ENDING_S)
        for root in self._found:
            root.wait(_ENDING_S)


def _trees(roots: Sequence[int]) -> Iterator[psutil.Process]:
    for root in roots:
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(root)
            yield found
            yield from found.children(recursive=True)


def cpu_of(roots: Sequence[int]) -> float:
    """Return user plus system seconds of processes and all below them, dead or alive.

    Args:
        roots: their ids.
    """
    total = 0.0
    for process in _trees(roots):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_of(root: int) -> tuple[int, int]:
    """Return bytes of a process and those below it: resident, and of these in no file.

    Args:
        root: its id.
    """
    resident = private = 0
    for process in _trees([root]):
        with suppress(OSError, psutil.NoSuchProcess):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            fields = {key: value for key, _, value in (line.partition(":") for line in lines)}
            resident += 1024 * int(fields.get("VmRSS", "0 kB").split()[0])
            private += 1024 * int(fields.get("RssAnon", "0 kB").split()[0])
    return resident, private


class Peaks:
    """The most memory that processes had since this began, sampled beside them.

    Args:
        roots: ids of the processes; each is taken with those below it.
    """

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = roots
        self._start = [memory_of(root) for root in roots]
        self._most = list(self._start)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            for i, root in enumerate(self._roots):
                found = memory_of(root)
                self._most[i] = (max(self._most[i][0], found[0]), max(self._most[i][1], found[1]))

    def beyond_start(self) -> list[tuple[int, int]]:
        """Return bytes above the start, by process: resident, and of these in no file."""
        return [
            (most[0] - start[0], most[1] - start[1])
            for most, start in zip(self._most, self._start, strict=True)
        ]

    @classmethod
    @contextmanager
    def of(cls, roots: Sequence[int]) -> Iterator[Self]:
        """Watch some processes for a while."""
        made = cls(roots)
        made._thread.start()
        try:
            yield made
        finally:
            made._over.set()
            made._thread.join()


def waited(what: Any, seconds: float, why: str) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: when it doesn't come about.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(why)
        time.sleep(0.1)
