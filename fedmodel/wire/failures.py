"""Reasons of a site for no answer ↔ Flower errors: a kind, and a reason without a row's facts."""

from dataclasses import dataclass

from flwr.app import Error, Message

from fedmodel.errors import (
    BudgetError,
    ConfigError,
    FedmodelError,
    ModelError,
    ProtocolError,
    RangeError,
    RefusedError,
)

__all__ = ["Failure", "decode_error", "encode_error"]

_UNEXPECTED = 200
# Kinds of refusal a coordinator may learn, and whether the message may travel with them.
_KINDS: tuple[tuple[int, type[FedmodelError], bool], ...] = (
    (201, BudgetError, True),
    (202, RefusedError, True),
    (203, ProtocolError, True),
    (204, ConfigError, True),
    (205, ModelError, False),  # tells about files at the site
    (206, RangeError, True),
    (207, FedmodelError, False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a site gave no answer: a kind that is safe to show, and whether its budget is spent."""

    reason: str
    budget: bool = False


def encode_error(error: Exception, reply_to: Message) -> Message:
    """Return the reply that says why there is no update, without facts about rows."""
    for code, kind, tell in _KINDS:
        if isinstance(error, kind):
            reason = str(error) if tell else f"{type(error).__name__}: see the site's own log"
            return Message(Error(code, reason), reply_to=reply_to)
    reason = f"unexpected {type(error).__name__}: see the site's own log"
    return Message(Error(_UNEXPECTED, reason), reply_to=reply_to)


def decode_error(error: Error) -> Failure:
    """Return why a site gave no update."""
    reason = (error.reason or f"error {error.code}")[:400].replace("\n", " ")
    return Failure(reason=reason, budget=error.code == _KINDS[0][0])
