"""Greeting of a connection: each end signs who it is, for this connection and no other.

TLS says that a certificate is the consortium's; whose it is, the roster says. So a site signs, with
its identity, the coordinator's fresh nonce together with the hash of the certificate that the
coordinator sees at its end, and the coordinator signs the site's nonce.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeVar

from fedmodel import _hazmat, config
from fedmodel.errors import (
    ConfigError,
    OutdatedError,
    ProtocolError,
    PurposeError,
    RefusedError,
    UnsignedError,
)
from fedmodel.identity.certificates import Certificate
from fedmodel.identity.signed_roster import SignedMember, SignedRoster
from fedmodel.identity.validity import check_valid
from fedmodel.runs import check_run
from fedmodel.transport.frames import Partial, from_text
from fedmodel.transport.stamps import Standing

__all__ = ["MOST", "Hello", "Welcome", "check_member", "greeted", "signed_greeting"]

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
    member: int
    sources: str
    incarnation: str
    standing: Standing
    partial: tuple[Partial, ...] = ()

    def __post_init__(self) -> None:
        for name in ("nonce", "own", "certificate", "roster", "sources"):
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
        member: the site's number in the roster.
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
    member: int
    partial: tuple[Partial, ...] = ()
    over: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        config.require_hex("nonce", self.nonce, 64)
        config.require_hex("certificate", self.certificate, 64)
        config.require_hex("start", self.start, 32)
        check_run(self.run)
        if not 0 < self.epoch < 1 << 53:
            raise ConfigError("epoch must be from 1 to 2^53")
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


def check_member(
    hello: Hello,
    nonce: str,
    certificate: Certificate,
    roster: SignedRoster,
    now: datetime,
) -> SignedMember:
    """Return which member of the roster says a greeting, by certificate and roster alike.

    That the member has signed it is checked with its key afterwards.

    Args:
        hello: as it came.
        nonce: that this end has given for this connection.
        certificate: that TLS has checked.
        roster: this end's own, in force.
        now: the time.

    Raises:
        UnsignedError: for another connection's greeting, or another certificate's.
        OutdatedError: when the site has an older roster.
        RefusedError: when it has another one, or isn't on it.
        PurposeError: when certificate and roster don't agree on who it is.
        ExpiredError: when the certificate's time is over.
    """
    if hello.nonce != nonce or hello.certificate != certificate.sha256:
        raise UnsignedError("the greeting is of another connection: somebody repeats or relays it")
    if hello.version < roster.version:
        raise OutdatedError(
            f"the site has version {hello.version} of the roster, and version {roster.version} is "
            "in force; take over the newest: fedmodel provision role=site home=… roster=PATH"
        )
    if hello.roster != roster.sha256:
        raise RefusedError(
            f"the site has version {hello.version} of the roster, this coordinator version "
            f"{roster.version}, and they differ; take over the newest on both sides"
        )
    if not 0 < hello.member <= len(roster.members):
        raise RefusedError("the site names a number that the roster doesn't have")
    member = roster.members[hello.member - 1]
    found = certificate.subject, certificate.names
    if found != (_hazmat.fingerprint(bytes.fromhex(member.key)), (member.tls,)):
        raise PurposeError(
            f"the certificate is for {', '.join(certificate.names):.80}, and the site says it is "
            f"'{member.name}', whose name in TLS is {member.tls}: certificate and roster must agree"
        )
    check_valid(f"the certificate of {member.tls}", certificate.start, certificate.end, now)
    return member
