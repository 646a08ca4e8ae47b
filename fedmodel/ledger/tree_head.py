"""A signed head: what a site's ledger was at some time, for others to remember.

A head says how many entries there were and the Merkle root over them (RFC 6962, as a signed tree
head there). Whoever keeps one can later tell that a ledger was rolled back or rewritten, and learns
from it nothing that an entry says: each carries 128 random bits, so that no content can be guessed
and compared. What a head does tell is how many entries there are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.ledger import merkle

__all__ = ["LARGEST", "Signer", "Standing", "TreeHead"]

_CONTEXT = b"fedmodel.head/1\0"  # what is signed as a head can't be taken for anything else
LARGEST = 4096  # bytes of a head as text


class Signer(Protocol):
    """A private key, as far as a ledger needs one."""

    @property
    def public(self) -> bytes:
        """The public half: 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature over a message: 64 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """A ledger's state, signed by its site.

    Args:
        schema: of the head.
        ledger: which one: its key's fingerprint and its dataset.
        key: the site's public Ed25519 key (RFC 8032), hex.
        size: number of entries.
        root: Merkle root over them, hex.
        last: SHA-256 of the last line, hex; of none, 64 zeros.
        time: when it was signed, by the site's clock, UTC.
        signature: over all of the above, hex.
    """

    schema: Literal["fedmodel.head/1"] = "fedmodel.head/1"
    ledger: str
    key: str
    size: int
    root: str
    last: str
    time: str
    signature: str = "0" * 128

    def __post_init__(self) -> None:
        for name, digits in (("key", 64), ("root", 64), ("last", 64), ("signature", 128)):
            config.require_hex(name, getattr(self, name), digits)
        config.require_time(self.time)
        if self.size < 0:
            raise ConfigError(f"size must not be negative, got {self.size}")

    def signed(self, signer: Signer) -> "TreeHead":
        """Return the head with the signature of its key."""
        return replace(self, signature=signer.sign(self._message()).hex())

    def verify(self, key: str | None = None) -> None:
        """Check the signature.

        Args:
            key: public key (hex) that must have signed; without one, whichever the head names.

        Raises:
            ProtocolError: when it isn't that key's signature over this head.
        """
        if key not in (None, self.key):
            raise ProtocolError(
                f"the head is signed by key {self.key[:16]}…, expected {str(key)[:16]}…"
            )
        signature = bytes.fromhex(self.signature)
        _hazmat.ed25519_verify(bytes.fromhex(self.key), self._message(), signature)

    def check_follows(self, older: "TreeHead", proof: Sequence[str]) -> None:
        """Check that the ledger has only grown since an older head of it.

        Args:
            older: that was verified before.
            proof: of :meth:`fedmodel.ledger.Ledger.prove`, hex.

        Raises:
            ProtocolError: when it hasn't, or the proof doesn't show that it has.
        """
        if (self.ledger, self.key) != (older.ledger, older.key):
            raise ProtocolError("the two heads are of different ledgers")
        if self.size < older.size:
            raise ProtocolError(
                f"the ledger had {older.size} entries and now has {self.size}: it was rolled back"
            )
        try:
            for node in proof:
                config.require_hex("a hash of the proof", node, 64)
        except ConfigError as error:
            raise ProtocolError(str(error)) from error
        roots = bytes.fromhex(older.root), bytes.fromhex(self.root)
        nodes = [bytes.fromhex(node) for node in proof]
        merkle.check_consistency(older.size, self.size, *roots, nodes)

    def _message(self) -> bytes:
        fields = config.to_mapping(self)
        del fields["signature"]
        return _CONTEXT + config.canonical(fields)

    def to_json(self) -> bytes:
        """Return the head as canonical JSON (RFC 8785)."""
        return config.canonical(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> "TreeHead":
        """Return the verified head in a text.

        Raises:
            ProtocolError: when it isn't one, or its signature doesn't verify.
        """
        if len(text) > LARGEST:
            raise ProtocolError(f"a head has at most {LARGEST} bytes, got {len(text)}")
        try:
            mapping: Any = json.loads(text)
            head = config.build(cls, mapping, "head")
            head.verify()  # what has no canonical form can't be signed, and shows only now
        except (ValueError, RecursionError, ConfigError) as error:
            raise ProtocolError(f"not a ledger head of this version: {error!s:.300}") from error
        return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a ledger stands: its head, and the proof that it extends an older one (hex)."""

    head: TreeHead
    proof: tuple[str, ...] = ()
