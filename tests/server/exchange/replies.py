"""Replies of sites as they come over a grid, from right and wrong hands."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from flwr.app import Message, RecordDict

from fedmodel import wire
from server.exchange.channel import Channel

__all__ = ["asked", "channel_of", "refusal", "reply"]


def asked(node: int, kind: str = "train", group: str = "1") -> Message:
    """Return a question that a node was sent."""
    message = Message(RecordDict(), node, kind, group_id=group)
    message.metadata.__dict__["_message_id"] = f"m{node}"
    return message


def reply(node: int, content: RecordDict, kind: str = "train", group: str = "1") -> Message:
    """Return a node's reply to a question."""
    return Message(content, reply_to=asked(node, kind, group))


def refusal(node: int, error: Exception, kind: str = "train", group: str = "1") -> Message:
    """Return a node's reply that says why there is no other."""
    return wire.encode_error(error, asked(node, kind, group))


def channel_of(replies: Iterable[Message]) -> Channel:
    """Return a channel over which come these replies, whatever is asked."""
    grid: Any = SimpleNamespace(send_and_receive=lambda messages, timeout: list(replies))
    return Channel(grid)
