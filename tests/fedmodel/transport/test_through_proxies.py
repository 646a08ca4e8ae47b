"""gRPC through proxies on loopback: each is used rightly or named, and none is passed by."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest

from fedmodel.transport import tls
from fedmodel.transport.options import channel_options
from fedmodel.transport.proxy import route_to
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium
from tests.fedmodel.transport.echo import ask, serving, site_credentials
from tests.fedmodel.transport.proxies import ConnectProxy, Forwarder

LOGIN = "http://us%5Cer%20n:p%40ss%3Aword@127.0.0.1:{port}"  # us\er n, p@ss:word
HOST = f"{TLS_NAME}:8443"


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("consortium"), ("north",))


def talk(
    consortium: Consortium,
    address: str,
    proxy: Callable[[int], ConnectProxy],
    url: str = "http://127.0.0.1:{port}",
    messages: int = 1,
) -> tuple[list[str], str]:
    """Return what a proxy was asked for, and what came of talking through it.

    Args:
        consortium: whose coordinator serves.
        address: that is dialled, with ``{port}`` for the server's.
        proxy: makes one, of the server's port.
        url: of the proxy, with ``{port}`` for its own.
        messages: how many.
    """

    async def run() -> tuple[list[str], str]:
        async with serving(tls.server_credentials(consortium.coordinator, None)) as port:
            with proxy(port) as between:
                target = address.format(port=port)
                route = route_to(target, url.format(port=between.port), {})
                link = grpc.aio.secure_channel(
                    target,
                    site_credentials(consortium.sites["north"], None),
                    options=channel_options(route.url, TLS_NAME),
                )
                async with link:
                    try:
                        said = [await ask(link) for _ in range(messages)][-1].split()[-1].decode()
                    except grpc.aio.AioRpcError as error:
                        said = f"{error.code()} {error.details()}"
                return between.asked, said

    return asyncio.run(run())


def test_connect(consortium: Consortium) -> None:
    asked, said = talk(consortium, HOST, lambda port: ConnectProxy({HOST: port}))
    assert (asked, said) == ([HOST], "hello")


def test_connect_with_a_login(consortium: Consortium) -> None:
    def proxy(port: int) -> ConnectProxy:
        return ConnectProxy({HOST: port}, login="us\\er n:p@ss:word")

    assert talk(consortium, HOST, proxy, LOGIN) == ([HOST], "hello")
    asked, said = talk(consortium, HOST, proxy)
    assert set(asked) == {HOST}
    assert "HTTP proxy returned response code 407" in said


@pytest.mark.parametrize("rules", ["127.0.0.1", "*", "127.0.0.0/8"])
def test_a_proxy_isnt_passed_by_where_no_proxy_has_the_host(
    consortium: Consortium, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC would do so, though it is told which proxy to use.
    monkeypatch.setenv("no_proxy", rules)
    monkeypatch.setenv("NO_PROXY", rules)
    address = "127.0.0.1:{port}"
    asked, said = talk(consortium, address, lambda port: ConnectProxy({f"127.0.0.1:{port}": port}))
    assert said == "hello"
    assert len(asked) == 1


def test_grpc_reads_no_proxy_from_the_environment(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def run() -> bytes:
        async with serving(tls.server_credentials(consortium.coordinator, None)) as port:
            credentials = site_credentials(consortium.sites["north"], None)
            options = channel_options(None, TLS_NAME)
            target = f"127.0.0.1:{port}"
            async with grpc.aio.secure_channel(target, credentials, options=options) as link:
                return await ask(link)

    assert asyncio.run(run()).endswith(b"hello")


@pytest.mark.parametrize("status", [403, 502])
def test_a_proxy_that_refuses_isnt_passed_by(consortium: Consortium, status: int) -> None:
    address = "127.0.0.1:{port}"
    asked, said = talk(
        consortium, address, lambda port: ConnectProxy({f"127.0.0.1:{port}": port}, status=status)
    )
    assert asked
    assert f"HTTP proxy returned response code {status}" in said


def test_a_proxy_that_is_down_isnt_passed_by(consortium: Consortium) -> None:
    asked, said = talk(
        consortium, "127.0.0.1:{port}", lambda _: ConnectProxy({}), "http://127.0.0.1:1"
    )
    assert not asked
    assert "StatusCode.UNAVAILABLE" in said


def test_no_password_is_on_stderr(
    consortium: Consortium, capfd: pytest.CaptureFixture[str]
) -> None:
    talk(consortium, HOST, lambda port: ConnectProxy({HOST: port}, login="a:b"), LOGIN)
    talk(consortium, HOST, lambda _: ConnectProxy({}), LOGIN.format(port=1))
    shown = "".join(capfd.readouterr())
    assert "p%40ss" not in shown
    assert "p@ss" not in shown


# -- the loopback proxies themselves -------------------------------------------------------------


@contextmanager
def sink() -> Iterator[tuple[int, list[bytes]]]:
    """A server that keeps what each connection has sent, until its end."""
    came: list[bytes] = []

    class Sink(ConnectProxy):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            place = len(came)
            came.append(b"")
            while data := await reader.read(1 << 16):
                came[place] += data
                writer.write(data)
                await writer.drain()

    with Sink({}) as server:
        yield server.port, came


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes to a port and return what came back, up to the end or a reset."""

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        with suppress(OSError):  # the cut may have come already
            writer.write_eof()
        got = b""
        with suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                got += piece
        writer.close()
        return got

    return asyncio.run(run())


@pytest.mark.long
def test_a_forwarder_carries_everything_slowly_or_not() -> None:
    data = bytes(range(256)) * 4000
    with ExitStack() as stack:
        port, came = stack.enter_context(sink())
        forwarder = stack.enter_context(Forwarder(port))
        assert exchange(forwarder.port, data) == data
        forwarder.delay, forwarder.rate = 0.01, 1 << 24
        assert exchange(forwarder.port, data) == data
        assert came == [data, data]
        assert forwarder.passed == {"up": 2 * len(data), "down": 2 * len(data)}
        assert forwarder.accepted == 2


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 65_535, 65_536, 65_537, 300_000])
def test_a_cut_is_exact_to_the_byte(count: int) -> None:
    data = bytes(range(256)) * 4000
    with ExitStack() as stack:
        port, came = stack.enter_context(sink())
        forwarder = stack.enter_context(Forwarder(port))
        exchange(forwarder.port, b"before")
        forwarder.cut_after(count)
        exchange(forwarder.port, data)
        assert forwarder.passed["up"] == count + len(b"before")
        forwarder.cut_after(count, "down")
        assert exchange(forwarder.port, data) == data[:count]
        assert exchange(forwarder.port, data) == data
        assert came[1] == data[:count]


def test_a_forwarder_that_is_paused_or_closed() -> None:
    with ExitStack() as stack:
        port, _ = stack.enter_context(sink())
        forwarder = stack.enter_context(Forwarder(port))
        forwarder.pause()

        async def wait() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", forwarder.port)
            writer.write(b"held")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
            forwarder.resume()
            got = await asyncio.wait_for(reader.readexactly(4), 30)
            forwarder.cut()
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(1), 30) == b""
            writer.close()
            return got

        assert asyncio.run(wait()) == b"held"
        forwarder.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            exchange(forwarder.port, b"")
        forwarder.listen_again()
        assert exchange(forwarder.port, b"again") == b"again"
