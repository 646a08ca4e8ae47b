"""Diagnosis of a coordinator that can't be reached: gRPC says "Socket closed", this says why.

Each step that gRPC takes is taken again, by plain sockets and Python's own TLS: the name, the port,
the proxy, TLS 1.3, the coordinator's certificate, and what it says to this site's own.
"""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from fedmodel._escape import escaped
from fedmodel.errors import FedmodelError
from fedmodel.identity.foreign import Foreign, read_foreign
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import as_text, utc_now
from fedmodel.transport.dialling import ReasonError, connected, handshaken
from fedmodel.transport.proxy import Proxy
from fedmodel.transport.tls import Material, read_material
from fedmodel.transport.versions import site_context

__all__ = ["why_unreachable"]

# What opens HTTP/2 (RFC 9113, 3.4): the preface, and settings that set nothing.
_OPENING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_EXPIRED, _NOT_YET, _PURPOSE, _OTHER_NAME = (10,), (9,), (26,), (62, 64)  # X509_V_ERR_…
_INSPECTED = (
    "Most often a proxy or firewall looks into TLS here. "
    "It can't be passed; have the coordinator's host exempted from inspection"
)


def why_unreachable(
    address: str,
    proxy: Proxy | None,
    home: PartyHome,
    passphrase: bytes | None = None,
    wait: float = 10.0,
) -> str:
    """Return why a site can't reach its coordinator, and what to do, in a sentence or two.

    It blocks, for a few times ``wait`` at most; call it from a thread.

    Args:
        address: host and port that are dialled.
        proxy: that the connection goes through.
        home: of the site.
        passphrase: that its keys are sealed under.
        wait: s for each step.
    """
    try:
        material = read_material(home, passphrase, "site")
        _look(address, proxy, material, wait)
    except (FedmodelError, ReasonError) as found:
        return escaped(str(found))
    return (
        f"the coordinator at {address} answers now, and takes this site's certificate; the line "
        "was cut, or it was away for a moment. Dial again"
    )


def _look(address: str, proxy: Proxy | None, material: Material, wait: float) -> None:
    with (
        connected(address, proxy, wait) as link,
        _secured(link, address, proxy, material, wait) as secure,
    ):
        try:
            secure.sendall(_OPENING)
            answered = secure.recv(1)
        except TimeoutError:
            raise ReasonError(
                f"{address} speaks TLS as the coordinator, but not HTTP/2: it hasn't answered in "
                f"{wait:g} s. Ask whoever runs it"
            ) from None
        except OSError:
            answered = b""
    if not answered:
        raise ReasonError(
            f"the coordinator at {address} refuses this site's certificate: that has expired or "
            "isn't valid yet by its clock, or is issued by another authority than its roster names "
            "(compare the versions of both rosters). What it has logged says which"
        )


@contextmanager
def _secured(
    link: socket.socket, address: str, proxy: Proxy | None, material: Material, wait: float
) -> Iterator[ssl.SSLSocket]:
    """Yield TLS over a connection, to whoever has a certificate of the coordinator's."""
    context = site_context(material.authority.decode())
    context.set_alpn_protocols(["h2"])
    shown = _show_own(context, material)
    try:
        secure = handshaken(context, link, material.server_name)
    except ssl.SSLCertVerificationError as error:
        came = _certificate_of(address, proxy, material, wait)
        raise ReasonError(_unlike(address, error, came, material)) from None
    except (ssl.SSLError, ConnectionError) as error:
        older = _foreign(_certificate_of(address, proxy, material, wait, older=True))
        raise ReasonError(_no_tls(address, error, older)) from None
    except TimeoutError:
        raise ReasonError(
            f"{address} takes the connection but hasn't answered to TLS in {wait:g} s: a firewall "
            "swallows TLS 1.3, or whatever listens there isn't the coordinator"
        ) from None
    with secure:
        if not shown:
            raise ReasonError(
                f"TLS 1.3 with the coordinator at {address} goes well; whether it takes this "
                "site's certificate can't be tried on this system. Its own log says so"
            )
        yield secure


def _show_own(context: ssl.SSLContext, material: Material) -> bool:
    """Let a context show the site's certificate; return whether it can.

    Python's TLS reads it from a file, and the key goes into none: this one is in memory, which
    Linux has.
    """
    try:
        handle = os.memfd_create("tls")
    except (AttributeError, OSError):
        return False
    try:
        os.write(handle, material.key + material.certificate.pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _certificate_of(
    address: str, proxy: Proxy | None, material: Material, wait: float, *, older: bool = False
) -> bytes | None:
    """Return the certificate (DER) that comes from an address, whoever has issued it.

    Args:
        address: that is dialled.
        proxy: that the connection goes through.
        material: of the site.
        wait: s for each step.
        older: offer TLS 1.2, which no coordinator takes.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if older:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with (
            connected(address, proxy, wait) as link,
            handshaken(context, link, material.server_name) as secure,
        ):
            return secure.getpeercert(binary_form=True)
    except (OSError, ReasonError):
        return None


def _foreign(came: bytes | None) -> Foreign | None:
    try:
        return None if came is None else read_foreign(came)
    except FedmodelError:
        return None


def _unlike(
    address: str, error: ssl.SSLCertVerificationError, came: bytes | None, material: Material
) -> str:
    """Return what is wrong with the certificate that came."""
    found = _foreign(came)
    if found is None:
        return (
            f"the certificate that came from {address} can't be relied on: {error.verify_message}"
        )
    code, now = error.verify_code, as_text(utc_now())
    if code in _EXPIRED:
        return (
            f"the certificate of {address} has expired, on {as_text(found.end)}, and it is {now} "
            "by this machine's clock; the coordinator must renew it, or set this clock"
        )
    if code in _NOT_YET:
        return (
            f"the certificate of {address} is good from {as_text(found.start)} on, and it is {now} "
            "by this machine's clock; set the clock, or wait"
        )
    if code in (*_PURPOSE, *_OTHER_NAME):
        return (
            f"{address} shows a certificate of the consortium, but not the coordinator's "
            f"({found.subject}: {error.verify_message}; expected one of a server called "
            f"{material.server_name}); check the address, and that the roster is the newest"
        )
    return (
        f"the certificate that came from {address} isn't issued by the consortium's authority but "
        f"by {found.issuer!r}, for {found.subject!r}. {_INSPECTED}"
    )


def _no_tls(address: str, error: OSError, older: Foreign | None) -> str:
    reason = getattr(error, "reason", None) or ""
    if older is not None:
        return (
            f"{address} takes TLS 1.2 but not 1.3, with a certificate by {older.issuer!r} for "
            f"{older.subject!r}: it isn't the coordinator, which takes 1.3 alone. {_INSPECTED}"
        )
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return (
            f"what listens at {address} doesn't speak TLS; check the port, and that no web page "
            "of a network's login is shown to this machine"
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return (
            f"{address} takes the connection and closes it before TLS has begun: a firewall or "
            "proxy refuses TLS 1.3 there, or the coordinator takes no more connections"
        )
    return f"TLS 1.3 with {address} fails: {reason or error.strerror or error}"
