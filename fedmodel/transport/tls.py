"""TLS between a site and its coordinator: 1.3 only, both ends certified, keys in memory only.

A party's folder has the key and the certificate, its roster the authority that certifies the other
end. gRPC tells nobody why it refuses a connection: :mod:`fedmodel.transport.diagnosis` finds out.
"""

import logging
import os
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any
from urllib.parse import unquote

import grpc

from fedmodel._suites import NAME, SUITES
from fedmodel.errors import ConfigError, FedmodelError, IdentityError
from fedmodel.identity.certificates import (
    Certificate,
    Purpose,
    certified_key,
    check_certificate,
    read_certificate,
    tls_key_pem,
)
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now

__all__ = [
    "CurrentMaterial",
    "Material",
    "address",
    "credentials_in_use",
    "credentials_of",
    "peer_certificate",
    "read_material",
    "require_suites",
    "server_credentials",
]

logger = logging.getLogger(__name__)

_FILES = ("tls-key", "certificate.pem", "roster.json", "trust.json", "party.json")
_RENEWED = "renewal/certificate.pem"  # it takes the places of the others as soon as it is there
_AGAIN = 60.0  # s after which files that were no good are tried again: a clock may have been set


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What one end of TLS needs.

    Args:
        key: the private key, PEM; it exists in memory only.
        certificate: for it.
        authority: certificate of who certifies the other end, PEM.
        server_name: the coordinator's name in TLS.
    """

    key: bytes = field(repr=False)
    certificate: Certificate
    authority: bytes
    server_name: str


def read_material(home: PartyHome, passphrase: bytes | None, purpose: Purpose) -> Material:
    """Return what a party's folder has for TLS, once it can be relied on.

    Args:
        home: of the party.
        passphrase: that its keys are sealed under.
        purpose: that its certificate must be for.

    Raises:
        ConfigError: when there is no certificate or roster yet, or others may read the key.
        LedgerError: when a file can't be read.
        IdentityError: when the certificate isn't for this key (only P-256 keys are taken: an RSA
            key at the server would let TLS 1.2 in again), party, purpose or time; or the passphrase
            doesn't open the key.
    """
    party, roster = home.read(), home.current_roster()
    try:
        found = home.certificate()
        if found is None:
            raise ConfigError(
                f"{home.folder} has no certificate yet; take over the consortium's: fedmodel "
                f"provision role={purpose} home={home.folder} certificate=PATH"
            )
        check_certificate(
            found.pem,
            roster.authority,
            purpose=purpose,
            subject=party.identity,
            name=party.owner.tls,
            now=utc_now(),
        )
        seed = home.secret("tls-key", passphrase)
        if certified_key(seed) != found.key:
            raise IdentityError(
                "the certificate is for another TLS key than this folder's; take over the one that "
                "belongs to its request"
            )
    except IdentityError as error:
        raise type(error)(f"{home.folder}: {error}") from error
    return Material(
        key=tls_key_pem(seed),
        certificate=found,
        authority=roster.authority.encode(),
        server_name=roster.coordinator_tls,
    )


class CurrentMaterial:
    """A party's key and certificate as its folder has them now: read anew when a file has changed.

    Files that are no good change nothing: what was good stays in use, and the log says so once.

    Args:
        home: of the party.
        passphrase: that its keys are sealed under.
        purpose: that its certificate must be for.

    Raises:
        FedmodelError: when the folder's files are no good at the start (:func:`read_material`).
    """

    def __init__(self, home: PartyHome, passphrase: bytes | None, purpose: Purpose) -> None:
        self._home, self._passphrase, self._purpose = home, passphrase, purpose
        self._lock = Lock()
        self._seen = self._stamps()
        self._material = read_material(home, passphrase, purpose)
        self._told, self._again = "", float("inf")

    def read(self) -> Material:
        """Return what is in use now."""
        with self._lock:
            seen = self._stamps()
            if seen != self._seen or monotonic() >= self._again:
                self._read_anew(seen)
            return self._material

    def _read_anew(self, seen: tuple[tuple[int, ...], ...]) -> None:
        try:
            self._material = read_material(self._home, self._passphrase, self._purpose)
        except FedmodelError as error:
            self._again = monotonic() + _AGAIN
            if seen != self._seen and str(error) != self._told:
                self._told = str(error)
                logger.warning("the certificate in use stays, the new files are no good: %s", error)
        else:
            self._told, self._again = "", float("inf")
            logger.info("the certificate of %s was read anew", self._home.folder)
        self._seen = seen

    def _stamps(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self._stamp(name) for name in (*_FILES, _RENEWED))

    def _stamp(self, name: str) -> tuple[int, ...]:
        try:
            found = os.stat(self._home.folder / name)
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns


def server_credentials(home: PartyHome, passphrase: bytes | None) -> grpc.ServerCredentials:
    """Return a coordinator's credentials (see :func:`credentials_in_use`).

    Args:
        home: of the coordinator.
        passphrase: that its keys are sealed under.

    Raises:
        FedmodelError: when its files are no good (:func:`read_material`).
        ConfigError: when gRPC was loaded with other cipher suites.
    """
    return credentials_in_use(CurrentMaterial(home, passphrase, "coordinator"))


def credentials_in_use(current: CurrentMaterial) -> grpc.ServerCredentials:
    """Return a coordinator's credentials. A certificate that is renewed is taken without a restart.

    Args:
        current: the coordinator's key and certificate.

    Raises:
        ConfigError: when gRPC was loaded with other cipher suites.
    """
    require_suites()
    first = current.read()
    in_use = [first]

    def fetch() -> Any:  # asked at every handshake, by a thread of gRPC's
        found = current.read()
        if found is in_use[0]:
            return None
        in_use[0] = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first), fetch, require_client_authentication=True
    )


def credentials_of(material: Material) -> grpc.ChannelCredentials:
    """Return the credentials of a channel.

    Args:
        material: of the site.

    Raises:
        ConfigError: when gRPC was loaded with other cipher suites.
    """
    require_suites()
    pem = material.certificate.pem.encode()
    return grpc.ssl_channel_credentials(material.authority, material.key, pem)


def require_suites() -> None:
    """Check that gRPC was loaded with the suites that leave only TLS 1.3.

    Raises:
        ConfigError: when it was loaded before fedmodel, or the environment names others.
    """
    found = os.environ.get(NAME)
    if found != SUITES:
        raise ConfigError(
            f"gRPC was loaded with other cipher suites than TLS 1.3 only needs ({NAME} is "
            f"{'not set' if found is None else repr(found)[:80]}, expected {SUITES}); start with "
            "that variable unset, and import fedmodel before grpc"
        )


def peer_certificate(context: grpc.aio.ServicerContext) -> Certificate:
    """Return the certificate that the other end of a call has shown; TLS has checked it.

    Args:
        context: of the call, at the server.

    Raises:
        IdentityError: when there is none, or it isn't for a P-256 key.
    """
    found = context.auth_context().get("x509_pem_cert") or [b""]
    return read_certificate(found[0].decode("latin-1"))


def address(context: grpc.aio.ServicerContext) -> str:
    """Return where a call comes from: an IP address and a port.

    Args:
        context: of the call, at the server.
    """
    return unquote(context.peer()).partition(":")[2]


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate.pem.encode())], root_certificates=material.authority
    )
