"""Connections to a coordinator by plain sockets, through a proxy or not; what fails is named."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from fedmodel.transport.proxy import Proxy, split_address

__all__ = ["ReasonError", "connected", "handshaken"]

_HEAD = 1 << 14  # bytes of a proxy's answer


class ReasonError(Exception):
    """Why a coordinator can't be reached, found."""


def handshaken(context: ssl.SSLContext, link: socket.socket, server_name: str) -> ssl.SSLSocket:
    """Return TLS over a connection.

    Args:
        context: of TLS.
        link: the connection; it is the returned one's from then on.
        server_name: that the other end's certificate must be for.

    Raises:
        ConnectionError: when the other end has closed it already.
        OSError: when the handshake fails.
    """
    try:
        link.getpeername()
    except OSError as error:
        # Python's TLS would leave such a socket open, or return it as if there were TLS on it.
        raise ConnectionResetError(error.errno, "it was closed before TLS began") from None
    return context.wrap_socket(link, server_hostname=server_name)


@contextmanager
def connected(address: str, proxy: Proxy | None, wait: float) -> Iterator[socket.socket]:
    """Yield a connection to an address.

    Args:
        address: host and port.
        proxy: that it goes through, by ``CONNECT``; ``None``: none.
        wait: s for each step.

    Raises:
        ReasonError: when there is none.
    """
    host, port = split_address(address)
    what = f"the coordinator at {address}"
    if proxy is not None:
        host, port, what = proxy.host, proxy.port, f"the proxy {proxy}"
    try:
        link = socket.create_connection((host, port), wait)
    except socket.gaierror as error:
        raise ReasonError(
            f"the name {host} isn't found in DNS ({error.strerror}); check how it is written, and "
            "this machine's DNS"
            + ("" if proxy else ". Where only a proxy knows it, set coordinator.proxy")
        ) from None
    except UnicodeError:
        raise ReasonError(f"{host!r} can't be a name in DNS; check how it is written") from None
    except ConnectionRefusedError:
        raise ReasonError(
            f"nothing listens at {host} port {port} (connection refused): {what} isn't running, "
            "has another port, or a firewall refuses"
        ) from None
    except TimeoutError:
        raise ReasonError(
            f"{what} hasn't answered in {wait:g} s: a firewall drops what is sent there, or its "
            "machine is down"
        ) from None
    except OSError as error:
        raise ReasonError(f"{what} can't be reached: {error.strerror or error}") from None
    with link:
        link.settimeout(wait)
        if proxy is not None:
            _ask_proxy(link, address, proxy)
        yield link


def _ask_proxy(link: socket.socket, address: str, proxy: Proxy) -> None:
    asked = f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"
    if proxy.authorization is not None:
        asked += f"Proxy-Authorization: {proxy.authorization}\r\n"
    try:
        link.sendall(f"{asked}\r\n".encode())
        head = _head(link)
    except OSError as error:
        raise ReasonError(
            f"the proxy {proxy} hasn't answered to CONNECT {address} ({error.strerror or error})"
        ) from None
    if len(head) >= _HEAD:
        raise ReasonError(
            f"the proxy {proxy} answers with more than {_HEAD} bytes to CONNECT {address}; check "
            "its port"
        )
    line, *fields = head.decode("latin-1").split("\r\n")
    version, _, rest = line.partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        raise ReasonError(
            f"{proxy} isn't an HTTP proxy that takes CONNECT: it answers {line[:60]!r}; check its "
            "port"
        )
    if status == "407":
        raise ReasonError(_login_wanted(proxy, fields))
    if not status.startswith("2"):
        raise ReasonError(_refused(address, proxy, status, reason))


def _head(link: socket.socket) -> bytes:
    """Return what a proxy answers, up to the empty line and no byte more."""
    head = b""
    last = monotonic() + (link.gettimeout() or 0)
    while not head.endswith(b"\r\n\r\n") and len(head) < _HEAD:
        if monotonic() > last:  # each byte comes in time, and the whole never
            raise TimeoutError("timed out")
        piece = link.recv(1)
        if not piece:
            break
        head += piece
    return head


def _login_wanted(proxy: Proxy, fields: list[str]) -> str:
    named = [field.partition(":") for field in fields]
    offered = [text.split()[0] for name, _, text in named if _is_offer(name) and text.strip()]
    kinds = ", ".join(kind[:20] for kind in offered[:5]) or "nothing that it names"
    if "basic" not in [kind.lower() for kind in offered]:
        return (
            f"the proxy {proxy} wants a login (407) by {kinds}; only Basic is supported. Have this "
            "machine or the coordinator's host let through without one"
        )
    if proxy.user is None:
        return (
            f"the proxy {proxy} wants a login (407) and none is given; write it into the URL, "
            "http://USER:PASSWORD@HOST:PORT, percent-encoded (@ is %40)"
        )
    return (
        f"the proxy {proxy} doesn't take the login that is given (407), of user {proxy.user!r}; "
        "check user and password, and that they are percent-encoded (@ is %40)"
    )


def _is_offer(name: str) -> bool:
    return name.strip().lower() == "proxy-authenticate"


def _refused(address: str, proxy: Proxy, status: str, reason: str) -> str:
    said = f"{status[:3]} {reason[:60]}".strip()
    if status in ("502", "503", "504"):
        return (
            f"the proxy {proxy} can't reach {address} itself ({said}): it doesn't find the name, "
            "the coordinator isn't running, or a firewall lies behind it"
        )
    return (
        f"the proxy {proxy} refuses to connect to {address} ({said}); have its people allow "
        "CONNECT to that host and port"
    )
