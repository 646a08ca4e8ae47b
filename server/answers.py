"""Answers of the nodes to one question, and what else each must pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from fedmodel.wire import Content, Failure

__all__ = ["Answer", "Check", "nothing"]

# What else a node's answer must pass; it raises ProtocolError.
Check: TypeAlias = Callable[[int, Content], None]


def nothing(node: int, content: Content) -> None:
    """Check nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a node answered.

    Args:
        node: that answered.
        content: of the answer; ``None`` where it failed.
        failure: why; ``None`` where it didn't.
    """

    node: int
    content: Content | None = None
    failure: Failure | None = None
