"""Reading of many lines of a ledger at once: charges that are alike, each with its outcome.

Most of a long run's ledger is that. What is held against what is the same as for lines taken one by
one; wherever something doesn't hold, none of the lines is taken here, and they go that way, which
alone says what is wrong.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from fedmodel.ledger import OutcomeEntry, SpendEntry, merkle
from fedmodel.ledger.alike import Alike
from fedmodel.ledger.repeated import Decoder

if TYPE_CHECKING:
    from fedmodel.audit.reading import LedgerReading

__all__ = ["Bulk"]

_FEWEST, _MOST = 4, 128  # pairs of lines that are taken at once


class Bulk:
    """Takes in lines of a ledger, many at once.

    Args:
        found: what was read before.
        text: the ledger's bytes, of plain ASCII.
        decoder: of lines; it knows what usually follows.
    """

    def __init__(self, found: "LedgerReading", text: bytes, decoder: Decoder) -> None:
        self._found = found
        self._texts = text.decode("ascii").split("\n")
        self._lengths = list(map(len, self._texts))
        self._decoder = decoder
        self._not_before = 0  # what couldn't be taken at once isn't tried again and again

    def take(self, lines: Sequence[bytes], place: int) -> int:
        """Take in lines from a place on; return how many, 0 where that can't be done at once.

        Args:
            lines: all that are whole.
            place: of the first.
        """
        if place < self._not_before or not self._found.entries:
            return 0
        if self._found.entries[-1].type != "outcome":
            return 0
        shapes = self._decoder.expected()
        if shapes is None or (shapes[0].kind, shapes[1].kind) != (SpendEntry, OutcomeEntry):
            return 0
        end = self._end(place, len(lines))
        if end - place < 2 * _FEWEST or not self._taken(lines[place:end], place, *shapes):
            self._not_before = max(end, place + 1)
            return 0
        return end - place

    def _end(self, place: int, most: int) -> int:
        """Return up to where lines have the lengths of the first two, in turn."""
        lengths = self._lengths
        both = lengths[place : place + 2]
        end, most = place, min(most, place + 2 * _MOST)
        while end + 2 <= most and lengths[end : end + 2] == both:
            end += 2
        return end

    def _taken(self, lines: Sequence[bytes], place: int, one: Alike, two: Alike) -> bool:
        texts, found, sha256 = self._texts[place : place + len(lines)], self._found, hashlib.sha256
        charged, came = one.columns(texts[::2]), two.columns(texts[1::2])
        if charged is None or came is None:
            return False
        hashes = [sha256(line).hexdigest() for line in lines]
        before = (found.last, *hashes[:-1])
        numbers = tuple(map(str, range(len(found.entries), len(found.entries) + len(lines))))
        for shape, columns, first in ((one, charged, 0), (two, came, 1)):
            by_key = dict(zip(shape.keys, columns, strict=True))
            if by_key["prev"] != before[first::2] or by_key["seq"] != numbers[first::2]:
                return False
        spends, outcomes = one.all_filled(charged), two.all_filled(came)
        if not found.book.draw_all(spends, outcomes):
            return False
        found.entries += chain.from_iterable(zip(spends, outcomes, strict=True))
        found.leaves += map(merkle.leaf_hash, lines)
        found.last = hashes[-1]
        return True
