"""Proxies on loopback that do what networks do: delay, cut, fall silent, ask for a login, look in.

Each runs in a thread of its own with an event loop; a test turns its knobs from outside.
"""

import asyncio
import base64
import socket
import ssl
import struct
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from threading import Thread
from typing import Any, Literal, Self, TypeAlias, TypeVar

Way: TypeAlias = Literal["up", "down"]  # up: to the server
T = TypeVar("T")

_PIECE = 1 << 16
_QUEUE = 64  # pieces under way in one direction of a connection
_WAIT = 60.0  # s for anything that a test waits for
_LAST = 5.0  # s that the other end of a cut connection has to end


class _UpCutError(Exception):
    """A cut that a test wants, of what goes to the server."""


class _DownCutError(Exception):
    """A cut that a test wants, of what comes from the server."""


def _end(writer: asyncio.StreamWriter) -> None:
    if writer.can_write_eof():
        writer.write_eof()
    else:  # TLS ends both ways at once
        writer.close()


class Forwarder:
    """A forwarder of TCP connections to a port on loopback.

    Args:
        to: the port.
        inside: a server's TLS context, by which it ends TLS itself and looks inside; what it sees
            goes on to the port by TLS, without a certificate.

    Attributes:
        port: where it listens.
        delay: s that each piece takes longer, in each direction.
        rate: bytes per second and direction of a connection; ``None``: as fast as it goes.
        passed: bytes that went through, by direction.
        accepted: connections so far.
    """

    def __init__(self, to: int, inside: ssl.SSLContext | None = None) -> None:
        self._to, self._inside = to, inside
        self.port = 0
        self.delay = 0.0
        self.rate: int | None = None
        self.passed: dict[Way, int] = {"up": 0, "down": 0}
        self.accepted = 0
        self._cuts: dict[Way, int] = {}
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait(self._listen())
        return self

    def __exit__(self, *raised: object) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT)
        self._loop.close()

    # -- knobs -----------------------------------------------------------------------------------

    def pause(self) -> None:
        """Let nothing through, and tell nobody: what a dead line looks like from its ends."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Let things through again, what was held first."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def cut_after(self, count: int, way: Way = "up") -> None:
        """Cut the connection in which so many more bytes have passed, once.

        It is reset at the end that sends; the other one gets what has passed, and then the end.

        Args:
            count: bytes from now on that still pass, exactly.
            way: their direction.
        """
        self._cuts[way] = self.passed[way] + count

    def cut(self) -> None:
        """Reset all connections now."""
        self._wait(self._cut_all())

    def lead_to(self, to: int) -> None:
        """Lead new connections to another port."""
        self._to = to

    def stop_listening(self) -> None:
        """Refuse new connections: the port is closed. Those that are open stay."""
        self._wait(self._stop_listening())

    def listen_again(self) -> None:
        """Take new connections again, at the same port."""
        self._wait(self._listen())

    # -- what goes on in the loop ----------------------------------------------------------------

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _cut_all(self) -> None:
        for task in [*self._open]:
            self._reset(task)
            task.cancel()
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._stop_listening()
        tasks = [*self._open]
        await self._cut_all()
        await asyncio.gather(*tasks, return_exceptions=True)
        # TLS says goodbye before it closes, and the loop may be gone by then; what was cut amid a
        # handshake nobody holds.
        left: Any = self._loop
        for transport in [*left._transports.values()]:
            transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)

    def _reset(self, task: asyncio.Task[None], but: asyncio.StreamWriter | None = None) -> None:
        for writer in self._open.get(task, []):
            if writer is but:
                continue
            held: socket.socket | None = writer.get_extra_info("socket")
            with suppress(OSError, AttributeError):
                if held is not None:
                    linger = struct.pack("ii", 1, 0)  # RST rather than FIN
                    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        if task is None:
            return
        self._open[task] = [writer]
        with suppress(asyncio.CancelledError):
            try:
                await self._serve(reader, writer)
            except* (OSError, EOFError):
                self._reset(task)
        for each in self._open.pop(task, []):
            each.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join(reader, writer, self._to)

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int
    ) -> None:
        """Carry bytes between a client and a port until both ends have ended."""
        onward: ssl.SSLContext | None = None
        if self._inside is not None:
            await writer.start_tls(self._inside)
            onward = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            onward.check_hostname, onward.verify_mode = False, ssl.CERT_NONE
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port, ssl=onward)
        if (task := asyncio.current_task()) is not None:
            self._open[task].append(to_server)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, to_server, "up"))
                group.create_task(self._carry(from_server, writer, "down"))
        except* _UpCutError:
            await self._end_after_cut(from_server, to_server)
        except* _DownCutError:
            await self._end_after_cut(reader, writer)

    async def _end_after_cut(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """End a connection at the end that got what has passed, so that it gets all of it."""
        if (task := asyncio.current_task()) is not None:
            self._reset(task, but=writer)
        _end(writer)
        # What isn't read when a socket is closed turns the end into a reset, which overtakes.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST):
                while await reader.read(_PIECE):
                    pass

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)

        async def read() -> None:
            data = b"?"
            while data:
                data = await reader.read(_PIECE)
                await queue.put((self._loop.time() + self.delay, data))

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - self._loop.time())
                await self._flowing.wait()
                if not data:
                    break
                await self._pass(data, writer, way)
        _end(writer)

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter, way: Way) -> None:
        last = self._cuts.get(way)
        if last is not None and self.passed[way] + len(data) >= last:
            data = data[: last - self.passed[way]]
            del self._cuts[way]
        else:
            last = None
        writer.write(data)
        await writer.drain()
        self.passed[way] += len(data)
        if last is not None:
            raise _UpCutError if way == "up" else _DownCutError
        if self.rate:
            await asyncio.sleep(len(data) / self.rate)


class ConnectProxy(Forwarder):
    """An HTTP proxy that takes ``CONNECT`` (RFC 9110, 9.3.6).

    Args:
        routes: ``host:port`` as a client asks for it → port on loopback.
        login: ``user:password`` that it asks for; ``None``: it asks nobody.
        status: that it answers to a good request; other than 200: it refuses.
        inside: as in :class:`Forwarder`.

    Attributes:
        asked: targets that were asked for, in order.
    """

    def __init__(
        self,
        routes: Mapping[str, int],
        login: str | None = None,
        status: int = 200,
        inside: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(0, inside)
        self._routes, self._login, self._status = dict(routes), login, status
        self.asked: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:])}
        self.asked.append(target)
        status = self._judge(method, target, fields.get("proxy-authorization"))
        extra = 'Proxy-Authenticate: Basic realm="hospital"\r\n' if status == 407 else ""
        writer.write(f"HTTP/1.1 {status} As it is\r\n{extra}\r\n".encode())
        await writer.drain()
        if status == 200:
            await self._join(reader, writer, self._routes[target])

    def _judge(self, method: str, target: str, login: str | None) -> int:
        if method != "CONNECT":
            return 405
        if self._login is not None:
            wanted = "Basic " + base64.b64encode(self._login.encode()).decode()
            if login != wanted:
                return 407
        return self._status if target in self._routes else 502
