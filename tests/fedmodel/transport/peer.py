"""One end of a stream as a process of its own, to be stopped: ``python -m … serve|dial FOLDER``."""

import asyncio
import sys
from pathlib import Path

import grpc

from fedmodel.identity.home import PartyHome
from fedmodel.transport import tls
from fedmodel.transport.options import channel_options
from tests.fedmodel.transport.consortium import TLS_NAME
from tests.fedmodel.transport.echo import METHOD, serving, site_credentials


async def serve(home: PartyHome) -> None:
    """Serve; print the port."""
    async with serving(tls.server_credentials(home, None)) as port:
        print(port, flush=True)
        await asyncio.sleep(600)


async def dial(home: PartyHome, port: str) -> None:
    """Open a stream, send a message on it; print the answer."""
    options = channel_options(None, TLS_NAME)
    credentials = site_credentials(home, None)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as link:
        call = link.stream_stream(METHOD)()
        await call.write(b"hello")
        print(await call.read(), flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    folder = PartyHome(Path(sys.argv[2]))
    asyncio.run(serve(folder) if sys.argv[1] == "serve" else dial(folder, sys.argv[3]))
