"""Ledgers of a run that nobody has played, written line by line as a run writes them."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fedmodel import _hazmat
from fedmodel.identity.keys import SigningKey
from fedmodel.ledger import merkle
from fedmodel.ledger.tree_head import TreeHead

__all__ = ["TIME", "Written", "key_of"]

TIME = "2026-01-01T00:00:00Z"


def key_of(party: str) -> SigningKey:
    """Return the key that is made for a party."""
    return SigningKey(hashlib.sha256(party.encode()).digest())


class Written:
    """A ledger's lines.

    Args:
        party: whose it is.
        about: its dataset, or its run.
        encode: writes its entries.
    """

    def __init__(self, party: str, about: str, encode: Callable[[Any], bytes]) -> None:
        self.party = party
        self.key = key_of(party)
        self.name = f"{_hazmat.fingerprint(self.key.public)}/{about}"
        self.lines: list[bytes] = []
        self._encode = encode
        self._tree = merkle.Tree()
        self._last = "0" * 64

    def append(self, entry: Any) -> None:
        """Write an entry: numbered and chained."""
        number = len(self.lines)
        nonce = hashlib.sha256(f"{self.party} {number}".encode()).hexdigest()[:32]
        line = self._encode(replace(entry, seq=number, prev=self._last, nonce=nonce, time=TIME))
        self._last = hashlib.sha256(line).hexdigest()
        self._tree.append(merkle.leaf_hash(line))
        self.lines.append(line)

    @property
    def root(self) -> str:
        """Merkle root over the lines, hex."""
        return self._tree.root().hex()

    @property
    def text(self) -> bytes:
        """What the file has."""
        return b"".join(line + b"\n" for line in self.lines)

    def head(self) -> TreeHead:
        """Return the signed tree head."""
        head = TreeHead(
            ledger=self.name,
            key=self.key.public.hex(),
            size=len(self.lines),
            root=self.root,
            last=self._last,
            time=TIME,
        )
        return head.signed(self.key)
