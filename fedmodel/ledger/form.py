"""Form of a kind of ledger: how its entries are written, and what they add up to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from fedmodel.ledger.line import Line, Torn

__all__ = ["Form", "Opened", "Sums"]


class Opened(Protocol):
    """A ledger's first entry: whose it is."""

    @property
    def ledger(self) -> str:
        """Its name to others, which begins with the key's fingerprint."""

    @property
    def key(self) -> str:
        """The public Ed25519 key that signs its tree heads, hex."""


class Sums(Protocol):
    """What a ledger's entries add up to."""

    @property
    def opened(self) -> Opened | None:
        """The first entry, once it is counted."""

    def check(self, entry: Any) -> None:
        """Check that an entry means something after those before it."""

    def count(self, entry: Any) -> None:
        """Take in an entry that was checked."""


E = TypeVar("E", bound=Line)
B = TypeVar("B", bound=Sums)


@dataclass(frozen=True, slots=True)
class Form(Generic[E, B]):
    """How a kind of ledger is written.

    Args:
        encode: returns an entry's line, without its newline.
        decode: the inverse; raises FedmodelError for anything that isn't one.
        torn: returns the entry that keeps what a crash has left of a line.
        book: returns the book of no entries.
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], E]
    torn: Callable[[bytes], Torn]
    book: Callable[[], B]
