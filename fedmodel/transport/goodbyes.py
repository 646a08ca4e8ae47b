"""Codes of orderly ends, and of refusals: what the other end should make of them."""

from typing import Final

__all__ = [
    "AGAIN",
    "ENDED",
    "FINAL",
    "LOST",
    "MALFORMED",
    "NOT_NOW",
    "REFUSED",
    "REPLACED",
    "STOPPING",
]

AGAIN: Final = "again"  # the same process has another connection
STOPPING: Final = "stopping"  # the process ends; it may come again
ENDED: Final = "ended"  # the run is over
REPLACED: Final = "replaced"  # another process of the same site has come
REFUSED: Final = "refused"  # who is at the other end isn't believed, or isn't let in
MALFORMED: Final = "malformed"  # what came isn't what the protocol says
NOT_NOW: Final = "not-now"  # what came can't be kept now; come again later
LOST: Final = "lost"  # there was no orderly end: this end says so to itself, nobody sends it

# Coming again at once, unchanged, wouldn't help: somebody must look at it first.
FINAL: Final = frozenset([REPLACED])
