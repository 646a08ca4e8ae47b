"""Why a coordinator can't be reached: each reason is found, and named."""

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from fedmodel.identity.validity import utc_now
from fedmodel.transport import tls
from fedmodel.transport.diagnosis import why_unreachable
from fedmodel.transport.dialling import handshaken
from fedmodel.transport.proxy import Proxy
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium, foreign_pair
from tests.fedmodel.transport.echo import serving
from tests.fedmodel.transport.proxies import ConnectProxy, Forwarder
from tests.fedmodel.transport.world import wait_until

DAY = timedelta(days=1)
HOST = "fl.invalid:8443"
INSPECTED = "isn't issued by the consortium's authority but by 'CN=Hospital IT Inspection CA'"


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("consortium"), ("north",))


def why(consortium: Consortium, address: str, proxy: str | None = None, wait: float = 30.0) -> str:
    through = None if proxy is None else Proxy.parse(proxy, "coordinator.proxy")
    return why_unreachable(address, through, consortium.sites["north"], wait=wait)


def asked(
    consortium: Consortium,
    credentials: grpc.ServerCredentials | None = None,
    between: Callable[[int], Forwarder] | None = None,
    login: str = "",
) -> str:
    """Return what is found of a coordinator on loopback.

    Args:
        consortium: whose site asks.
        credentials: of the server; ``None``: the coordinator's own.
        between: makes a proxy, of the server's port: a ``ConnectProxy`` is asked for ``HOST``.
        login: that the proxy's URL has, with its ``@``.
    """
    credentials = credentials or tls.server_credentials(consortium.coordinator, None)

    async def run() -> str:
        async with serving(credentials) as port:
            if between is None:
                return await asyncio.to_thread(why, consortium, f"127.0.0.1:{port}")
            with between(port) as proxy:
                place = f"127.0.0.1:{proxy.port}"
                if not isinstance(proxy, ConnectProxy):
                    return await asyncio.to_thread(why, consortium, place)
                return await asyncio.to_thread(why, consortium, HOST, f"http://{login}{place}")

    return asyncio.run(run())


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Yield the address of a server on loopback that answers in a way of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link, suppress(OSError):
                    answer(link)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def context_of(folder: Path, pair: tuple[bytes, ...]) -> ssl.SSLContext:
    """Return the TLS context of a server with a key and a certificate, both PEM."""
    (folder / "pair").write_bytes(b"".join(pair[:2]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair")
    return context


def test_nothing_is_wrong(consortium: Consortium) -> None:
    assert "answers now, and takes this site's certificate" in asked(consortium)


def test_nothing_is_wrong_through_a_proxy(consortium: Consortium) -> None:
    found = asked(
        consortium, None, lambda port: ConnectProxy({HOST: port}, login="u:p@w"), "u:p%40w@"
    )
    assert "answers now, and takes this site's certificate" in found


# -- the way there -------------------------------------------------------------------------------


def test_a_name_that_isnt_found(consortium: Consortium) -> None:
    assert why(consortium, HOST).startswith("the name fl.invalid isn't found in DNS")
    found = why(consortium, HOST, "http://user:secret@proxy.invalid:3128")
    assert found.startswith("the name proxy.invalid isn't found in DNS")
    assert "secret" not in found
    assert "can't be a name in DNS" in why(consortium, f"{'a' * 80}.example:1")


def test_a_closed_port(consortium: Consortium) -> None:
    port = closed_port()
    found = why(consortium, f"127.0.0.1:{port}")
    assert found.startswith(f"nothing listens at 127.0.0.1 port {port} (connection refused): the c")


def test_a_proxy_that_is_down(consortium: Consortium) -> None:
    port = closed_port()
    found = why(consortium, HOST, f"http://u:secret@127.0.0.1:{port}")
    assert f"(connection refused): the proxy http://127.0.0.1:{port} isn't running" in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("login", "told"),
    [("", "wants a login (407) and none is given"), ("u:secret@", "of user 'u'; check user and")],
    ids=["none", "another"],
)
def test_a_login_that_a_proxy_wants(consortium: Consortium, login: str, told: str) -> None:
    found = asked(consortium, None, lambda port: ConnectProxy({HOST: port}, login="a:b"), login)
    assert told in found
    assert "secret" not in found


@pytest.mark.parametrize(
    ("status", "told"),
    [(403, "refuses to connect to fl.invalid:8443 (403 As it is)"), (504, "can't reach fl.invali")],
)
def test_a_proxy_that_refuses(consortium: Consortium, status: int, told: str) -> None:
    assert told in asked(consortium, None, lambda p: ConnectProxy({HOST: p}, status=status))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            b"HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\n"
            b"Proxy-Authenticate: NTLM x\r\n\r\n",
            "wants a login (407) by Negotiate, NTLM; only Basic is supported",
        ),
        (b"HTTP/1.1 407 No\r\n\r\n", "by nothing that it names"),
        (b"SSH-2.0-OpenSSH_9.9\x1b[2J\r\n\r\n", "isn't an HTTP proxy that takes CONNECT: it answ"),
        (b"", "isn't an HTTP proxy that takes CONNECT: it answers ''"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000, "answers with more than 16384 bytes"),
    ],
    ids=["ntlm", "no kind", "ssh", "empty", "long"],
)
def test_what_proxies_answer(consortium: Consortium, answer: bytes, told: str) -> None:
    def say(link: socket.socket) -> None:
        link.recv(1 << 12)
        link.sendall(answer)

    with answering(say) as place:
        found = why(consortium, HOST, f"http://{place}")
    assert told in found
    assert found.isprintable()


@pytest.mark.long
def test_a_firewall_that_swallows(consortium: Consortium) -> None:
    held = threading.Event()

    def hold(link: socket.socket) -> None:
        held.wait(60)

    with answering(hold) as place:
        found = why(consortium, place, wait=0.3)
        through = why(consortium, HOST, f"http://{place}", wait=0.3)
        held.set()
    assert "hasn't answered to TLS in 0.3 s" in found
    assert "hasn't answered to CONNECT fl.invalid:8443" in through


@pytest.mark.long
def test_a_proxy_that_never_comes_to_an_end(consortium: Consortium) -> None:
    def drip(link: socket.socket) -> None:
        for _ in range(600):
            link.sendall(b"H")
            time.sleep(0.05)

    with answering(drip) as place:
        found = why(consortium, HOST, f"http://{place}", wait=0.5)
    assert "hasn't answered to CONNECT fl.invalid:8443 (timed out)" in found


# -- TLS -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_whoever_looks_into_tls_is_named(consortium: Consortium, tmp_path: Path) -> None:
    inside = context_of(tmp_path, foreign_pair("coordinator"))
    for between in (
        lambda port: Forwarder(port, inside),
        lambda port: ConnectProxy({HOST: port}, inside=inside),
    ):
        found = asked(consortium, None, between)
        assert INSPECTED in found
        assert "have the coordinator's host exempted" in found


def test_whoever_looks_into_tls_with_an_older_version(
    consortium: Consortium, tmp_path: Path
) -> None:
    inside = context_of(tmp_path, foreign_pair("coordinator"))
    inside.maximum_version = ssl.TLSVersion.TLSv1_2
    found = asked(consortium, None, lambda port: Forwarder(port, inside))
    assert "takes TLS 1.2 but not 1.3, with a certificate by 'CN=Hospital IT Insp" in found


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("coordinator", utc_now() - 20 * DAY, TLS_NAME), "has expired, on "),
        (("coordinator", utc_now() + DAY, TLS_NAME), "is good from "),
        (("coordinator", None, "other.example"), "but not the coordinator's"),
        (("site", None, TLS_NAME), "but not the coordinator's"),
    ],
    ids=["expired", "not yet valid", "another name", "a site's"],
)
def test_a_certificate_that_isnt_good(
    consortium: Consortium, pair: tuple[str, object, str], told: str
) -> None:
    root = consortium.authority.encode()
    made = consortium.pair(*pair)  # type: ignore[arg-type]
    assert told in asked(consortium, grpc.ssl_server_credentials([made], root, True))


def test_a_site_that_the_coordinator_refuses(consortium: Consortium) -> None:
    *_, other = foreign_pair("coordinator")
    pair = consortium.pair("coordinator", name=TLS_NAME)
    found = asked(consortium, grpc.ssl_server_credentials([pair], other, True))
    assert "refuses this site's certificate" in found


@pytest.mark.long
def test_a_site_whose_own_certificate_is_no_good(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, ("north",))
    (consortium.sites["north"].folder / "certificate.pem").unlink()
    assert "has no certificate yet" in why(consortium, HOST)


@pytest.mark.parametrize(
    ("answer", "told"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "doesn't speak TLS"), (b"", "closes it before TLS")],
    ids=["web", "closed"],
)
def test_what_isnt_tls(consortium: Consortium, answer: bytes, told: str) -> None:
    def say(link: socket.socket) -> None:
        link.recv(1 << 14)
        link.sendall(answer)

    with answering(say) as place:
        assert told in why(consortium, place)


@pytest.mark.long
def test_tls_without_http_2(consortium: Consortium, tmp_path: Path) -> None:
    context = context_of(tmp_path, consortium.pair("coordinator", name=TLS_NAME))

    def hold(link: socket.socket) -> None:
        with context.wrap_socket(link, server_side=True) as secure:
            while secure.recv(1 << 10):
                pass

    with answering(hold) as place:
        assert "not HTTP/2" in why(consortium, place, wait=0.5)


def test_a_connection_that_was_reset_before_tls_is_named_and_left_open_nowhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()  # a reset, not an end
        wait_until(lambda: _is_reset(link))
        with link, pytest.raises(ConnectionResetError, match="closed before TLS began"):
            handshaken(ssl.create_default_context(), link, "localhost")
        assert link.fileno() == -1


def _is_reset(link: socket.socket) -> bool:
    try:
        link.getpeername()
    except OSError:
        return True
    return False
