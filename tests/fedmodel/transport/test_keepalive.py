"""Signs of life: a dead peer is noticed, a slow one isn't taken for dead, strangers don't last."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from fedmodel.transport import options, tls
from fedmodel.transport.options import channel_options, server_options
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium
from tests.fedmodel.transport.echo import METHOD, ask, serving, site_credentials
from tests.fedmodel.transport.proxies import Forwarder

# s; without grpc.http2.ping_timeout_ms it would take a minute more than agreed
PATIENCE = {1: 65.0, 3: 45.0}


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("consortium"), ("north",))


def channel(consortium: Consortium, port: int) -> grpc.aio.Channel:
    credentials = site_credentials(consortium.sites["north"], None)
    options = channel_options(None, TLS_NAME)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


@asynccontextmanager
async def peer(*given: str | Path) -> AsyncIterator[tuple[int, str]]:
    """Run one end as a process; yield its number and the first line that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fedmodel.transport.peer", *map(str, given)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 120)
        yield process.pid, line.decode().strip()
    finally:
        process.kill()
        await process.wait()


async def site_notices(consortium: Consortium, patience: float) -> grpc.StatusCode:
    """Return how a stream ends whose coordinator is stopped."""
    async with (
        peer("serve", consortium.coordinator.folder) as (number, port),
        channel(consortium, int(port)) as link,
    ):
        call = link.stream_stream(METHOD)()
        await call.write(b"hello")
        assert await call.read() != grpc.aio.EOF
        os.kill(number, signal.SIGSTOP)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(call.read(), patience)
        code = raised.value.code()
        assert isinstance(code, grpc.StatusCode)
        return code


async def coordinator_notices(consortium: Consortium, patience: float) -> bool:
    """Return whether the coordinator's end of a stream ends, once its site is stopped."""
    ended = asyncio.Event()

    async def handle(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                yield request
        finally:
            ended.set()

    credentials = tls.server_credentials(consortium.coordinator, None)
    async with (
        serving(credentials, behaviour=handle) as port,
        peer("dial", consortium.sites["north"].folder, str(port)) as (number, answer),
    ):
        assert answer == "b'hello'"
        assert not ended.is_set()
        os.kill(number, signal.SIGSTOP)
        await asyncio.wait_for(ended.wait(), patience)
    return ended.is_set()


@pytest.mark.slow
@pytest.mark.parametrize("part", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_stopped_peer_is_noticed_at_both_ends(
    consortium: Consortium, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a third of the times that are agreed, and in the longest tests with all of them."""
    for name in ("_SITE_PINGS", "_COORDINATOR_PINGS", "_ANSWER"):
        monkeypatch.setattr(options, name, getattr(options, name) // part)

    async def both() -> None:
        patience = PATIENCE[part]
        code, ended = await asyncio.gather(
            site_notices(consortium, patience), coordinator_notices(consortium, patience)
        )
        assert code == grpc.StatusCode.UNAVAILABLE
        assert ended

    asyncio.run(both())


@pytest.mark.slow
@pytest.mark.soak
def test_a_slow_line_isnt_taken_for_a_dead_one(consortium: Consortium) -> None:
    # 2 Mbit/s, with megabytes under way in the sockets of this machine.
    chunk = bytes(4 << 20)

    async def send(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            for _ in range(3):
                yield chunk

    async def run() -> None:
        credentials = tls.server_credentials(consortium.coordinator, None)
        async with serving(credentials, behaviour=send) as port:
            with Forwarder(port) as line:
                line.rate = 250_000
                async with channel(consortium, line.port) as link:
                    call = link.stream_stream(METHOD)(timeout=500)
                    await call.write(b"?")
                    for _ in range(3):
                        assert await call.read() == chunk

    asyncio.run(run())


@pytest.mark.long
def test_a_site_gets_in_beside_silent_strangers(consortium: Consortium) -> None:
    async def run() -> bytes:
        async with serving(tls.server_credentials(consortium.coordinator, None)) as port:
            dialled = (asyncio.open_connection("127.0.0.1", port) for _ in range(300))
            strangers = await asyncio.gather(*dialled)
            async with channel(consortium, port) as link:
                answer = await ask(link)
            for _, writer in strangers:
                writer.close()
            return answer

    assert asyncio.run(run()).endswith(b"hello")


@pytest.mark.slow
def test_a_silent_stranger_is_shown_out(consortium: Consortium) -> None:
    async def run() -> bytes:
        async with serving(tls.server_credentials(consortium.coordinator, None)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            got = await asyncio.wait_for(reader.read(1), 60)  # by default it would take 120 s
            writer.close()
            return got

    assert asyncio.run(run()) == b""


@pytest.mark.long
def test_a_connection_has_an_age(consortium: Consortium) -> None:
    # So an end of a certificate, or a revocation, bites without a restart.
    options = server_options(timedelta(milliseconds=300), timedelta(milliseconds=100))

    async def run() -> bytes:
        credentials = tls.server_credentials(consortium.coordinator, None)
        async with serving(credentials, options) as port, channel(consortium, port) as link:
            call = link.stream_stream(METHOD)(timeout=300)
            await call.write(b"hello")
            assert await call.read() != grpc.aio.EOF
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
            return await ask(link)  # it dials anew

    assert asyncio.run(run()).endswith(b"hello")
