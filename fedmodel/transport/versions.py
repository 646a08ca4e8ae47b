"""Versions of TLS that a server takes: its own test, at its start, that 1.3 is the only one."""

import socket
import ssl
from contextlib import suppress

from fedmodel.errors import RunError
from fedmodel.identity.home import PartyHome
from fedmodel.transport.dialling import handshaken
from fedmodel.transport.proxy import split_address

__all__ = ["check_versions", "site_context"]

_ALERT = b"\x15"  # first byte of a record (RFC 8446, 5.1)
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  nothing is bound here


def check_versions(address: str, home: PartyHome, wait: float = 20.0) -> None:
    """Check that a server takes TLS 1.3, with a certificate of its consortium, and not 1.2.

    gRPC can't say so: the server is asked, by Python's own TLS. It blocks; call it from a thread.

    Args:
        address: host and port that it listens at, of this machine.
        home: of the coordinator.
        wait: s for each step.

    Raises:
        RunError: when 1.2 is taken or 1.3 isn't, or the server doesn't answer.
        FedmodelError: when the home has no roster.
    """
    roster = home.current_roster()
    host, port = split_address(address)
    place = _EVERYWHERE.get(host, host), port
    try:
        taken = _takes_1_2(place, wait)
    except OSError as error:
        raise RunError(f"the server at {address} doesn't answer itself: {error}") from error
    if taken:
        raise RunError(
            f"the server at {address} takes TLS 1.2, expected 1.3 only; nothing is served. Its key "
            "must be a P-256 key, and GRPC_SSL_CIPHER_SUITES what fedmodel sets"
        )
    context = site_context(roster.authority)
    try:
        with (
            socket.create_connection(place, wait) as link,
            handshaken(context, link, roster.coordinator_tls),
        ):
            pass
    except OSError as error:
        raise RunError(
            f"the server at {address} doesn't take TLS 1.3 as {roster.coordinator_tls} of this "
            f"consortium: {error}; nothing is served"
        ) from error


def site_context(authority: str) -> ssl.SSLContext:
    """Return the TLS of a site, as Python has it: 1.3 only, and who it is that answers is checked.

    Args:
        authority: certificate of who certifies the other end, PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _takes_1_2(place: tuple[str, int], wait: float) -> bool:
    """Return whether a server goes on with a client that has TLS 1.2 only.

    A whole handshake would fail in any case, for want of the client's certificate: what tells is
    whether the server's first record belongs to a handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ALL")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    with socket.create_connection(place, wait) as link:
        link.settimeout(wait)
        link.sendall(outgoing.read())
        try:
            answer = link.recv(1)
        except ConnectionResetError:
            answer = b""
    return answer not in (b"", _ALERT)
