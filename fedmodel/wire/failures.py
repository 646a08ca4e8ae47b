"""Reasons of a site for no answer ↔ Flower errors: a kind, and a reason without a row's facts."""

import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Error, Message

from fedmodel._escape import escaped
from fedmodel.errors import (
    AccusationError,
    BudgetError,
    ConfigError,
    FedmodelError,
    ModelError,
    NewerRosterError,
    ProtocolError,
    RangeError,
    RefusedError,
    UnapprovedError,
    UnjoinedError,
)

__all__ = ["Failure", "decode_error", "encode_error", "unexpected"]

_UNEXPECTED = 200
_ELSEWHERE = "see the site's own log"
# The name of a rule of the site's policy stands before what it says, where that may travel.
_RULE = re.compile(r"\[([a-z_.]{1,40})\] ")
_ACCUSED = re.compile(r"the shares from site ([1-9]\d{0,4}): ")
_LASTING = {BudgetError.__name__, ConfigError.__name__, ModelError.__name__}
# Kinds of refusal a coordinator may learn, and whether the message may travel with them.
_KINDS: tuple[tuple[int, type[FedmodelError], bool], ...] = (
    (201, BudgetError, True),
    (210, UnapprovedError, True),
    (202, RefusedError, True),
    (208, AccusationError, True),
    (209, UnjoinedError, True),
    (211, NewerRosterError, True),
    (203, ProtocolError, True),
    (204, ConfigError, True),
    (205, ModelError, False),  # tells about files at the site
    (206, RangeError, True),
    (207, FedmodelError, False),
)
# By the error, not by its place: what is put between them changes nothing.
_CODES = {kind: code for code, kind, _ in _KINDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a site gave no answer that can be used.

    Args:
        reason: safe to show: what isn't printable in it is escaped.
        budget: its budget is spent.
        wrong: it has answered, and what it has sent is itself wrong.
        accuses: number in the roster of the site of which it says that.
        kind: of error that the site has named; empty where it named none.
        rule: of the site's policy, where it was told.
    """

    reason: str
    budget: bool = False
    wrong: bool = field(default=False, compare=False)
    accuses: int | None = field(default=None, compare=False)
    kind: str = field(default="", compare=False)
    rule: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", escaped(self.reason))

    @property
    def unjoined(self) -> bool:
        """Whether another process is there than the one that had joined."""
        return self.kind == UnjoinedError.__name__

    @property
    def unapproved(self) -> bool:
        """Whether the site's people haven't approved the run, and may do so."""
        return self.kind == UnapprovedError.__name__

    @property
    def ahead(self) -> bool:
        """Whether the site has a newer roster than the run's, which the coordinator may take."""
        return self.kind == NewerRosterError.__name__

    @property
    def away(self) -> bool:
        """Whether nothing has come of a site that says why: it may be on its way."""
        return not self.kind and not self.wrong

    @property
    def lasting(self) -> bool:
        """Whether the same process of the site would say the same again."""
        return self.rule is not None or self.kind in _LASTING


def encode_error(error: Exception, reply_to: Message, *, candid: bool = False) -> Message:
    """Return the reply that says why there is no update, without facts about rows.

    Args:
        error: what was raised at the site.
        reply_to: what was asked.
        candid: tell what is known of the error all the same; for a simulation, where the site's
            log and the coordinator's are the same person's.
    """
    told = error.told if isinstance(error, FedmodelError) else None
    for code, kind, tell in _KINDS:
        if isinstance(error, kind):
            reason = f"{type(error).__name__}: {_ELSEWHERE}"
            if tell or candid:
                words = error if candid or told is None else told
                reason = f"{_named(error)}{words}"
            return Message(Error(code, reason), reply_to=reply_to)
    reason = unexpected(error) if candid else f"unexpected {type(error).__name__}: {_ELSEWHERE}"
    return Message(Error(_UNEXPECTED, reason), reply_to=reply_to)


def _named(error: Exception) -> str:
    # What was asked and allowed comes after its name, and stays at the site.
    rule = error.rule if isinstance(error, FedmodelError) else None
    return "" if rule is None else f"[{rule.partition(':')[0]}] "


def unexpected(error: Exception) -> str:
    """Return what may be told of an error that nobody foresaw: its kind, and where it happened.

    Its words may quote a row; the place in the code doesn't.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return f"unexpected {type(error).__name__}"
    place = "/".join(Path(frames[-1].filename).parts[-2:])
    return f"unexpected {type(error).__name__} at {place}:{frames[-1].lineno}"


def decode_error(error: Error) -> Failure:
    """Return why a site gave no update."""
    reason = error.reason or f"error {error.code}"
    rule = _RULE.match(reason)
    reason = reason[rule.end() if rule else 0 :][:400].replace("\n", " ")
    accused = _ACCUSED.match(reason) if error.code == _CODES[AccusationError] else None
    kind = {code: kind.__name__ for code, kind, _ in _KINDS}.get(error.code, "")
    return Failure(
        reason=reason,
        kind=kind,
        rule=rule[1] if rule and kind else None,
        budget=error.code == _CODES[BudgetError],
        accuses=int(accused[1]) if accused else None,
    )
