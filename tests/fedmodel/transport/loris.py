"""Connections that take their time: TCP, TLS and HTTP/2 by hand, as far as each is to go."""

import socket
import ssl
import struct
from contextlib import suppress
from pathlib import Path
from typing import Self

from fedmodel.transport.server import METHOD
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium
from tests.fedmodel.transport.intruder import Papers

_WAIT = 20.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _DATA = 4, 1, 0


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame of HTTP/2 (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: str) -> bytes:
    """Return a header field that isn't indexed (RFC 7541, 6.2.2)."""
    return name + bytes([len(value)]) + value.encode()


# Of the static table: 0x83 is ":method: POST", 0x87 ":scheme: https".
_REQUEST = b"".join(
    (
        b"\x83\x87",
        _literal(b"\x04", METHOD),
        _literal(b"\x01", TLS_NAME),
        _literal(b"\x0f\x10", "application/grpc"),
        _literal(b"\x00\x02te", "trailers"),
    )
)


class Loris:
    """A connection.

    Args:
        port: on loopback.
    """

    def __init__(self, port: int) -> None:
        self.link: socket.socket = socket.create_connection(("127.0.0.1", port), _WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def say(self, data: bytes) -> None:
        """Send some bytes, if the other end still takes them."""
        with suppress(OSError):
            self.link.sendall(data)

    def greet_tls(self, consortium: Consortium, papers: Papers, folder: Path) -> None:
        """Shake hands as TLS has it."""
        (folder / "papers").write_bytes((papers.key or b"") + (papers.certificate or b""))
        context = ssl.create_default_context(cadata=consortium.authority)
        context.load_cert_chain(folder / "papers")
        context.set_alpn_protocols(["h2"])
        self.link = context.wrap_socket(self.link, server_hostname=TLS_NAME)

    def greet_http(self) -> None:
        """Say what HTTP/2 begins with."""
        self.say(_PREFACE + _frame(_SETTINGS, 0, 0, b""))

    def begin(self, size: int, data: bytes) -> None:
        """Begin a stream, and a message in it of so many bytes, with the first of them."""
        self.say(_frame(_HEADERS, 4, 1, _REQUEST))
        self.go_on(struct.pack(">BI", 0, size) + data)

    def go_on(self, data: bytes) -> None:
        """Send more of the message."""
        self.say(_frame(_DATA, 0, 1, data))

    def is_closed(self) -> bool:
        """Read what has come, and return whether the other end has closed the connection."""
        self.link.settimeout(0.001)
        try:
            while self.link.recv(1 << 16):
                pass
        except (TimeoutError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        return True
