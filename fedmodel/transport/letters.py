"""Letters: orders to a site and its replies, each signed for one place in one run, and no other.

An order names the run, which start of the coordinator it is of, its number there, the site it is
for, and a hash of all that it brings; a reply the order that it answers, and likewise. What an
order is for in the run (its job, round, attempt and joining) its payload says, signed again by the
coordinator (:mod:`fedmodel.wire.signed`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError, UnsignedError
from fedmodel.runs import check_run
from fedmodel.transport.frames import from_text

__all__ = [
    "LARGEST_HEADER",
    "SIGNATURE",
    "Order",
    "Reply",
    "Signed",
    "check_same",
    "sign_header",
    "verified_header",
]

LARGEST_HEADER = 4096  # bytes
SIGNATURE = 64  # bytes of an Ed25519 signature
_LARGEST = 1 << 40  # bytes of a payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Header of what a coordinator asks of a site.

    Args:
        run: names the run that the coordinator's process is about.
        epoch: how often the coordinator had started on that run.
        start: 128 random bits, hex, of that start.
        seq: number of the order in that start, for this site or another.
        member: number in the roster of the site that it is for.
        roster: SHA-256 (hex) of the roster.
        type: of the message (``train``, ``query.join``, …).
        group: names the question among those of its type.
        size: bytes of the payload.
        sha256: of the payload, hex.
        before: SHA-256 (hex) of the header of the order before it, to the same site; empty: of the
            first.
    """

    domain: ClassVar[bytes] = b"fedmodel.order/1\0"
    run: str
    epoch: int
    start: str
    seq: int
    member: int
    roster: str
    type: str
    group: str
    size: int
    sha256: str
    before: str = ""

    def __post_init__(self) -> None:
        check_run(self.run)
        _require_common(self)
        config.require_hex("roster", self.roster, 64)
        if self.before:
            config.require_hex("before", self.before, 64)
        if len(self.type) > 40 or len(self.group) > 100:
            raise ConfigError("a type has at most 40 characters, a group 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Header of what a site answers.

    Args:
        run: of the order.
        epoch: likewise.
        start: likewise.
        seq: likewise.
        member: number in the roster of the site that answers.
        order: SHA-256 (hex) of the order's header.
        size: bytes of the payload.
        sha256: of the payload, hex.
    """

    domain: ClassVar[bytes] = b"fedmodel.answer/1\0"
    run: str
    epoch: int
    start: str
    seq: int
    member: int
    order: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        check_run(self.run)
        _require_common(self)
        config.require_hex("order", self.order, 64)


L = TypeVar("L", Order, Reply)


@dataclass(frozen=True, slots=True)
class Signed:
    """A header as it travels.

    Args:
        text: canonical JSON.
        signature: over it, Ed25519, 64 bytes.
    """

    text: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the header."""
        return config.sha256(self.text)


def sign_header(header: Order | Reply, sign: Callable[[bytes], bytes]) -> Signed:
    """Sign a header.

    Args:
        header: of a letter.
        sign: identity of whoever sends it (:meth:`fedmodel.identity.SigningKey.sign`).
    """
    text = config.canonical(header)
    return Signed(text, sign(header.domain + text))


def verified_header(kind: type[L], text: bytes, signature: bytes, key: bytes) -> L:
    """Return a header from outside, once its signature has verified.

    Args:
        kind: that is expected.
        text: of the header.
        signature: over it.
        key: public Ed25519 key of whoever must have signed it, 32 bytes.

    Raises:
        ProtocolError: when it is malformed.
        UnsignedError: when another key has signed it, or it was changed.
    """
    if len(text) > LARGEST_HEADER:
        raise ProtocolError(f"a header has at most {LARGEST_HEADER} bytes, got {len(text)}")
    try:
        _hazmat.ed25519_verify(key, kind.domain + text, signature)
    except ProtocolError as error:
        raise UnsignedError(
            f"the {kind.__name__.lower()} isn't signed by {_hazmat.fingerprint(key)[:16]}…, "
            "or was changed; nothing is done"
        ) from error
    return from_text(kind, text)


def check_same(what: str, pairs: Sequence[tuple[str, object, object]]) -> None:
    """Check what must agree.

    Args:
        what: it is in.
        pairs: name, expected, got.

    Raises:
        UnsignedError: where they differ.
    """
    for name, expected, got in pairs:
        if expected != got:
            raise UnsignedError(
                f"expected the {what} of {name} {expected!s:.80}, got {got!s:.80}; nothing is done"
            )


def _require_common(header: Order | Reply) -> None:
    config.require_hex("start", header.start, 32)
    config.require_hex("sha256", header.sha256, 64)
    for name, value in (("epoch", header.epoch), ("seq", header.seq), ("member", header.member)):
        if not 0 < value < 1 << 53:
            raise ConfigError(f"{name} must be from 1 to 2^53, got {value:.0e}")
    if not 0 <= header.size <= _LARGEST:
        raise ConfigError(f"a payload has at most {_LARGEST} bytes, got {header.size:.0e}")
