"""gRPC at the coordinator: one port, one method, streams of raw bytes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from fedmodel.errors import ConfigError, FedmodelError
from fedmodel.identity.certificates import Certificate
from fedmodel.transport.caller import Caller, Stream
from fedmodel.transport.crowd import Crowd, place_of
from fedmodel.transport.hub import Hub
from fedmodel.transport.notes import Notes
from fedmodel.transport.options import Option, most_connections
from fedmodel.transport.port import require_port
from fedmodel.transport.tls import address, peer_certificate

__all__ = ["METHOD", "Server"]

METHOD = "/fedmodel.Link/Stream"

_STRANGERS = 256  # streams in all that haven't greeted
_OF_ONE = 4  # of one certificate
_OPEN = 16  # of one certificate, greeted or not, ended or not: gRPC keeps what nobody reads
_STOPPING_S = 2.0
_SHOWN = 200  # characters of a method's name


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
        self._open: Counter[str] = Counter()
        self._heard: Counter[str] = Counter()  # places with streams that greet, or are let in
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    def start(self, listen: str) -> None:
        """Listen; the hub's thread must run.

        Args:
            listen: host and port; port 0 takes any that is free.

        Raises:
            UnavailableError: when something else listens there.
            ConfigError: when that can't be listened at otherwise.
        """
        started = asyncio.run_coroutine_threadsafe(self._start(listen), self._hub.loop)
        started.result()

    @property
    def greeting(self) -> int:
        """How many streams haven't greeted yet."""
        return self._greeting.total()

    def stop(self) -> None:
        """Listen no more, and end what is left of streams."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._hub.loop).result()

    def _too_many(self, who: str) -> bool:
        one, all_ = self._greeting[who], self._greeting.total()
        return one >= _OF_ONE or all_ >= _STRANGERS or self._open[who] >= _OPEN

    async def _start(self, listen: str) -> None:
        handler = grpc.method_handlers_generic_handler(
            METHOD.split("/")[1],
            {METHOD.split("/")[2]: grpc.stream_stream_rpc_method_handler(self._stream)},
        )
        self._server = grpc.aio.server(options=list(self._options))
        # In this order they are asked: what is left to the second one is served by nobody.
        self._server.add_generic_rpc_handlers((handler, _Unserved(self._hub.notes)))
        require_port(listen)
        try:
            self.port = self._server.add_secure_port(listen, self._credentials)
        except RuntimeError as error:
            require_port(listen)  # why: it may have been taken since
            raise ConfigError(
                f"can't listen at {listen}; choose another listen=HOST:PORT"
            ) from error
        await self._server.start()
        crowd = Crowd(self.port, most_connections(), self._heard.keys, self._hub.notes)
        self._watch = asyncio.create_task(crowd.watch())

    async def _stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self._server.stop(_STOPPING_S)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one stream; whoever opens it has a certificate of the consortium's."""
        try:
            certificate = peer_certificate(context)
        except FedmodelError as error:
            self._hub.notes.add("link-refused", "?", address(context), str(error))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no certificate that can be read")
        who = certificate.sha256
        if self._too_many(who):
            why = "too many streams at once"
            self._hub.notes.add("link-refused", ", ".join(certificate.names), address(context), why)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many at once; come later")

        stream = _stream_of(context, certificate, lambda: work.cancel())
        place = place_of(stream.address)
        for count, whose in ((self._greeting, who), (self._open, who), (self._heard, place)):
            count[whose] += 1
        context.add_done_callback(lambda _: _less(self._open, who))
        caller = Caller(self._hub, stream, lambda: _less(self._greeting, who))
        # A task of its own: gRPC would tell the other end nothing of one of its own that is cut.
        work = asyncio.create_task(caller.run())
        try:
            await asyncio.wait([work])
        finally:
            work.cancel()  # the other end has gone
            _less(self._heard, place)


class _Unserved(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Notes who asks for methods that there aren't: with a good certificate, so it isn't a scan."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def service(self, details: Any) -> Any:
        """Return what answers, as gRPC calls it."""
        method = str(details.method)

        async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
            try:
                who = ", ".join(peer_certificate(context).names)
            except FedmodelError:
                who = "?"
            why = f"asked for {method[:_SHOWN]}, which isn't served"
            self._notes.add("link-refused", who, address(context), why)
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "nothing of that name is served here"
            )

        return grpc.stream_stream_rpc_method_handler(refuse)


def _stream_of(context: Any, certificate: Certificate, cut: Callable[[], object]) -> Stream:
    async def read() -> bytes:
        try:
            data = await context.read()
        except Exception as error:
            raise ConnectionError(type(error).__name__) from error
        return data if isinstance(data, bytes) else b""  # grpc.aio.EOF

    async def write(data: bytes) -> None:
        try:
            await context.write(data)
        except Exception as error:  # grpc raises half a dozen kinds on a stream that has ended
            raise ConnectionError(type(error).__name__) from error

    return Stream(
        read=read, write=write, cut=cut, certificate=certificate, address=address(context)
    )


def _less(count: Counter[str], who: str) -> None:
    count[who] -= 1
    if not count[who]:
        del count[who]
