"""gRPC at the coordinator: one port, one method, streams of raw bytes."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from fedmodel.errors import ConfigError, FedmodelError
from fedmodel.transport.hub import Hub
from fedmodel.transport.options import Option
from fedmodel.transport.session import Session, Stream
from fedmodel.transport.tls import address, peer_certificate

__all__ = ["METHOD", "Server"]

METHOD = "/fedmodel.Link/Stream"

logger = logging.getLogger(__name__)

_STRANGERS = 256  # streams in all that haven't greeted
_OF_ONE = 4  # of one certificate
_STOPPING_S = 2.0


class Server:
    """The port at which a hub takes sites in.

    Args:
        hub: whose.
        credentials: of TLS.
        options: of gRPC.
    """

    def __init__(
        self, hub: Hub, credentials: grpc.ServerCredentials, options: Sequence[Option]
    ) -> None:
        self._hub = hub
        self._credentials = credentials
        self._options = options
        self._server: Any = None
        self._greeting: Counter[str] = Counter()
        self.port = 0

    def start(self, listen: str) -> None:
        """Listen; the hub's thread must run.

        Args:
            listen: host and port; port 0 takes any that is free.

        Raises:
            ConfigError: when that can't be listened at.
        """
        started = asyncio.run_coroutine_threadsafe(self._start(listen), self._hub.loop)
        started.result()

    def stop(self) -> None:
        """Listen no more, and end what is left of streams."""
        stopped = asyncio.run_coroutine_threadsafe(self._server.stop(_STOPPING_S), self._hub.loop)
        stopped.result()

    async def _start(self, listen: str) -> None:
        handler = grpc.method_handlers_generic_handler(
            METHOD.split("/")[1],
            {METHOD.split("/")[2]: grpc.stream_stream_rpc_method_handler(self._stream)},
        )
        self._server = grpc.aio.server(options=list(self._options))
        self._server.add_generic_rpc_handlers((handler,))
        try:
            self.port = self._server.add_secure_port(listen, self._credentials)
        except RuntimeError as error:
            raise ConfigError(
                f"can't listen at {listen}: another process does, or this machine has no such "
                "address; choose another listen=HOST:PORT"
            ) from error
        await self._server.start()

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one stream; whoever opens it has a certificate of the consortium's."""
        try:
            certificate = peer_certificate(context)
        except FedmodelError as error:
            logger.warning("link-refused: %s: %s", address(context), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no certificate that can be read")
        who = certificate.sha256
        if self._greeting[who] >= _OF_ONE or self._greeting.total() >= _STRANGERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many at once; come later")

        async def read() -> bytes:
            data = await context.read()
            return data if isinstance(data, bytes) else b""  # grpc.aio.EOF

        task = asyncio.current_task()
        stream = Stream(
            read=read,
            write=context.write,
            cut=lambda: None if task is None else task.cancel(),
            certificate=certificate,
            address=address(context),
        )
        self._greeting[who] += 1
        await Session(self._hub, stream, lambda: self._greeted(who)).run()

    def _greeted(self, who: str) -> None:
        self._greeting[who] -= 1
        if not self._greeting[who]:
            del self._greeting[who]
