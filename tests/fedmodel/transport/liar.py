"""A coordinator that lies: it has the port and the certificate, and says what it likes to sites."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeAlias

import grpc

from fedmodel.transport.options import server_options
from fedmodel.transport.server import METHOD
from fedmodel.transport.tls import server_credentials
from tests.fedmodel.transport.consortium import Consortium

Talk: TypeAlias = Callable[["Ear"], Awaitable[None]]
_WAIT = 20.0


class Ear:
    """A site's stream, as the liar has it."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def say(self, *frames: bytes) -> None:
        for frame in frames:
            await self._context.write(frame)

    async def hear(self) -> bytes:
        """Return the next frame; empty: there is none."""
        data = await self._context.read()
        return data if isinstance(data, bytes) else b""


class Liar:
    """The port.

    Args:
        consortium: whose coordinator's certificate it has.
        talk: what it says to each site that comes; its stream ends with it.
    """

    def __init__(self, consortium: Consortium, talk: Talk) -> None:
        self.talk = talk
        self.port = 0
        self.came = 0
        self._credentials = server_credentials(consortium.coordinator, None)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result(_WAIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_WAIT)
        self._loop.close()

    async def _start(self) -> None:
        service, method = METHOD.strip("/").split("/")
        handler = grpc.stream_stream_rpc_method_handler(self._stream)
        self._server = grpc.aio.server(options=list(server_options()))
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        self.port = self._server.add_secure_port("127.0.0.1:0", self._credentials)
        await self._server.start()

    async def _stream(self, requests: object, context: Any) -> None:
        self.came += 1
        await self.talk(Ear(context))
