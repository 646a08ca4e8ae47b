"""Greeting of a connection: each end signs who it is, for this connection and no other.

TLS says that a certificate is the consortium's; whose it is, the roster says. So a site signs, with
its identity, the coordinator's fresh nonce together with the hash of the certificate that the
coordinator sees at its end, and the coordinator signs the site's nonce.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError, UnsignedError
from fedmodel.runs import check_run
from fedmodel.transport.frames import Partial, from_text
from fedmodel.transport.stamps import Standing

__all__ = ["MOST", "Hello", "Welcome", "greeted", "signed_greeting"]

_SIGNATURE = 64
MOST = 64  # letters of which an end may have parts, or answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a site signs.

    Args:
        nonce: the coordinator's, of this connection.
        own: the site's own, 256 random bits, hex.
        certificate: SHA-256 (hex, of the DER form) of the site's certificate.
        roster: SHA-256 (hex) of its roster.
        version: of the roster.
        consortium: public Ed25519 key that the roster is signed by, hex.
        coordinator: public Ed25519 key of the coordinator there, hex.
        member: its number there.
        sources: SHA-256 (hex) of the sources that it runs.
        incarnation: 128 random bits, hex, of its process.
        standing: where it stands in the run that the challenge has named.
        partial: what it has of this start's orders that were under way.
    """

    domain: ClassVar[bytes] = b"fedmodel.link-hello/1\0"
    nonce: str
    own: str
    certificate: str
    roster: str
    version: int
    consortium: str
    coordinator: str
    member: int
    sources: str
    incarnation: str
    standing: Standing
    partial: tuple[Partial, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            *("nonce", "own", "certificate", "roster"),
            *("consortium", "coordinator", "sources"),
        ):
            config.require_hex(name, getattr(self, name), 64)
        config.require_hex("incarnation", self.incarnation, 32)
        if len(self.standing.has) > MOST or len(self.partial) > MOST:
            raise ConfigError(f"a greeting tells of at most {MOST} letters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What a coordinator signs, once it has believed a site.

    Args:
        nonce: the site's own, of this connection.
        certificate: SHA-256 (hex) of the site's certificate, as the coordinator sees it.
        run: that it is about.
        epoch: how often it had started on that run.
        start: 128 random bits, hex, of this start.
        roster: SHA-256 (hex) of the roster that the run goes by; the site may have a newer one.
        version: of that roster.
        member: the site's number there.
        partial: what it has of replies whose connection was cut.
        over: orders that the site has replies to and this end needs none of: it has it, or waits
            no more.
    """

    domain: ClassVar[bytes] = b"fedmodel.link-welcome/1\0"
    nonce: str
    certificate: str
    run: str
    epoch: int
    start: str
    roster: str
    version: int
    member: int
    partial: tuple[Partial, ...] = ()
    over: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        config.require_hex("nonce", self.nonce, 64)
        config.require_hex("certificate", self.certificate, 64)
        config.require_hex("roster", self.roster, 64)
        config.require_hex("start", self.start, 32)
        check_run(self.run)
        for name, number in (("epoch", self.epoch), ("version", self.version)):
            if not 0 < number < 1 << 53:
                raise ConfigError(f"{name} must be from 1 to 2^53")
        if len(self.partial) > MOST or len(self.over) > MOST:
            raise ConfigError(f"a greeting tells of at most {MOST} letters")


G = TypeVar("G", Hello, Welcome)


def signed_greeting(greeting: Hello | Welcome, sign: Callable[[bytes], bytes]) -> tuple[bytes, ...]:
    """Return a greeting as the parts of a frame's body: signature, and text."""
    text = config.canonical(greeting)
    return sign(greeting.domain + text), text


def greeted(kind: type[G], body: bytes | memoryview, key_of: Callable[[G], bytes]) -> G:
    """Return a greeting from outside, once its signature has verified.

    Args:
        kind: that is expected.
        body: of the frame.
        key_of: greeting → public key of whoever must have signed it; it may refuse.

    Raises:
        ProtocolError: when it is malformed.
        UnsignedError: when another key has signed it.
    """
    signature, text = bytes(body[:_SIGNATURE]), bytes(body[_SIGNATURE:])
    found = from_text(kind, text)
    key = key_of(found)
    try:
        _hazmat.ed25519_verify(key, found.domain + text, signature)
    except ProtocolError as error:
        raise UnsignedError(
            f"the {kind.__name__.lower()} isn't signed by the key {_hazmat.fingerprint(key)[:16]}… "
            "of the roster: whoever is at the other end isn't who it says"
        ) from error
    return found
