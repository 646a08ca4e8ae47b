"""Updates sealed for the coordinator, for sites that trust it but not what lies between.

A relay, a proxy or a backup sees neither an update nor a key that opens it, and can't pass one off
as another site's or another round's: HPKE (RFC 9180, base mode) to the coordinator's X25519 key
hides it, and the site's signature (Ed25519, RFC 8032) says whose it is, which base mode doesn't.
That isn't secure aggregation: the coordinator reads each update. Nor are the envelopes numbered
within a round: who opens them takes one from each site.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError

__all__ = ["OVERHEAD", "Context", "open_", "seal"]

_VERSION = b"fedmodel.seal/1\n"
_DOMAIN = b"fedmodel.seal/1\0"  # what is signed as an envelope can't be taken for anything else
_SIGNATURE = 64
OVERHEAD = len(_VERSION) + _SIGNATURE + 32 + 16  # bytes: also HPKE's key and tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What an envelope is for. Both ends state it; it doesn't travel.

    Args:
        session: names the joining, 256 random bits, hex.
        job: SHA-256 of the job, hex.
        roster: SHA-256 of the roster, hex.
        member: number of the site in the roster, from 1.
        round: of the run, from 1.
        purpose: of the plaintext.
    """

    session: str
    job: str
    roster: str
    member: int
    round: int
    purpose: str = "update"

    def __post_init__(self) -> None:
        for name in ("session", "job", "roster"):
            config.require_hex(name, getattr(self, name), 64)
        for name in ("member", "round"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.purpose:
            raise ConfigError("purpose must say what is sealed, got an empty text")


def seal(plaintext: bytes, *, to: bytes, sign: Callable[[bytes], bytes], context: Context) -> bytes:
    """Return an envelope: the version line, the signature (64 bytes), and HPKE's output.

    Args:
        plaintext: what is hidden; its length isn't.
        to: the coordinator's public X25519 key, 32 bytes.
        sign: the site's identity (:meth:`fedmodel.identity.SigningKey.sign`).
        context: what it is for.

    Raises:
        ProtocolError: when ``to`` isn't a usable key.
    """
    hidden = _hazmat.hpke_seal(to, plaintext, config.canonical(context))
    return b"".join((_VERSION, sign(_signed(hidden, context)), hidden))


def open_(sealed: bytes | memoryview, *, private: bytes, sender: bytes, context: Context) -> bytes:
    """Return what :func:`seal` hid, once its signature has verified.

    Args:
        sealed: the envelope; any bytes, or a view of them, of which nothing large is copied.
        private: the coordinator's X25519 key, 32 bytes.
        sender: public Ed25519 key of the member that the context names, 32 bytes.
        context: what it must be for.

    Raises:
        ProtocolError: when it is of another version, cut short or changed, by another site, for
            another coordinator or for another context.
    """
    if sealed[: len(_VERSION)] != _VERSION:
        got = bytes(sealed[: len(_VERSION)])
        raise ProtocolError(
            f"expected a sealed update of version {_VERSION.decode().strip()}, got {got!r}; the "
            "parties need versions of fedmodel that go together"
        )
    start = len(_VERSION) + _SIGNATURE
    signature, hidden = bytes(sealed[len(_VERSION) : start]), memoryview(sealed)[start:]
    _hazmat.ed25519_verify(sender, _signed(hidden, context), signature)
    return _hazmat.hpke_open(private, hidden, config.canonical(context))


def _signed(hidden: bytes | memoryview, context: Context) -> bytes:
    # A hash, for what has verified is remembered. Canonical JSON has no zero byte.
    return _DOMAIN + config.canonical(context) + b"\0" + hashlib.sha256(hidden).digest()
