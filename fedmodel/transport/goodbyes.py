"""Codes of orderly ends, and of refusals: what the other end should make of them."""

from typing import Final

__all__ = ["AGAIN", "ENDED", "FINAL", "MALFORMED", "NOT_NOW", "REFUSED", "REPLACED", "STOPPING"]

AGAIN: Final = "again"  # the same process has another connection
STOPPING: Final = "stopping"  # the process was told to stop; it may come again
ENDED: Final = "ended"  # the run is over
REPLACED: Final = "replaced"  # another process of the same site has come
REFUSED: Final = "refused"  # who is at the other end isn't believed, or isn't let in
MALFORMED: Final = "malformed"  # what came isn't what the protocol says
NOT_NOW: Final = "not-now"  # too many at once; come again later

# Coming again at once, unchanged, wouldn't help: somebody must look at it first.
FINAL: Final = frozenset([REPLACED])
