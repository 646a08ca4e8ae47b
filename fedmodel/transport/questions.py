"""Questions that a coordinator's end puts to sites, and what comes of each."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedmodel.transport.payloads import Part

__all__ = ["Answered", "Question"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a site.

    Args:
        member: number in the roster.
        type: of the message.
        group: names the question among those of its type.
        parts: of the payload.
    """

    member: int
    type: str
    group: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a question.

    Args:
        member: that was asked.
        payload: its answer; ``None``: there is none.
        reason: why there is none.
        sent: bytes of the question that went out to it; 0: it wasn't there.
    """

    member: int
    payload: memoryview | None = None
    reason: str = ""
    sent: int = 0
