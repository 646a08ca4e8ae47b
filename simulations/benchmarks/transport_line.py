"""A line on loopback that can be cut: it forwards TCP connections to a port."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, Self, TypeVar

__all__ = ["Line"]

T = TypeVar("T")

_PIECE = 1 << 16
_WAIT_S = 10.0


class Line:
    """A line to a port, in a thread of its own.

    Args:
        to: the port.

    Attributes:
        port: where it listens; the same after a cut.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.port = 0
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT_S)
        self._loop.close()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._wait(self._cut())

    def mend(self) -> None:
        """Take connections again."""
        self._wait(self._listen())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._carried, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _carried(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._open.add(task)
        writers = [writer]
        try:
            with suppress(OSError, asyncio.CancelledError):
                there, onward = await asyncio.open_connection("127.0.0.1", self._to)
                writers.append(onward)
                await asyncio.gather(_copied(reader, onward), _copied(there, writer))
        finally:
            self._open.discard(task)
            for each in writers:
                each.transport.abort()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    raise ConnectionError("one end has ended the connection")
