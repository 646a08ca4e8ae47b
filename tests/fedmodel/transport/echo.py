"""A server that answers each message with itself, and who sent it, over the credentials of ours."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc

from fedmodel.identity.home import PartyHome
from fedmodel.transport import tls
from fedmodel.transport.options import Option, server_options

Behaviour: TypeAlias = Callable[
    [AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]
]
METHOD = "/fedmodel.test/Echo"


async def _echo(
    requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
) -> AsyncIterator[bytes]:
    said = f"{tls.peer_certificate(context).sha256} {tls.address(context)} "
    async for request in requests:
        yield said.encode() + request


def site_credentials(home: PartyHome, passphrase: bytes | None) -> grpc.ChannelCredentials:
    """Return a site's credentials, of its files as they are now."""
    return tls.credentials_of(tls.read_material(home, passphrase, "site"))


@asynccontextmanager
async def serving(
    credentials: grpc.ServerCredentials,
    options: tuple[Option, ...] | None = None,
    behaviour: Behaviour = _echo,
) -> AsyncIterator[int]:
    """Serve on loopback; yield the port."""
    server = grpc.aio.server(options=server_options() if options is None else options)
    handler = grpc.stream_stream_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("fedmodel.test", {"Echo": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def ask(channel: grpc.aio.Channel, message: bytes = b"hello", wait: float = 30.0) -> bytes:
    """Send a message and return what is answered."""
    call = channel.stream_stream(METHOD)(timeout=wait)
    await call.write(message)
    answer = await call.read()
    if answer is grpc.aio.EOF:
        raise grpc.aio.AioRpcError(await call.code(), None, None, await call.details())
    await call.done_writing()
    return bytes(answer)
