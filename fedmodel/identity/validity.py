"""Validity: from when to when something is good, and who is warned before it ends."""

from datetime import UTC, datetime, timedelta

from fedmodel import config
from fedmodel.errors import ConfigError, ExpiredError

__all__ = ["SKEW", "WARN_DAYS", "as_text", "as_time", "check_valid", "ending", "utc_now"]

WARN_DAYS = 30
SKEW = timedelta(minutes=5)  # by which two clocks may differ
_FORM = "%Y-%m-%dT%H:%M:%SZ"


def utc_now() -> datetime:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def as_text(time: datetime) -> str:
    """Return a time as files have it: RFC 3339, UTC, to the second.

    >>> as_text(datetime(2026, 1, 31, 12, tzinfo=UTC))
    '2026-01-31T12:00:00Z'
    """
    return time.astimezone(UTC).strftime(_FORM)


def as_time(text: str) -> datetime:
    """Return the time that a file says.

    Raises:
        ConfigError: when it isn't one.
    """
    config.require_time(text)
    try:
        return datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(f"there is no such time as {text}") from error


def check_valid(what: str, start: datetime, end: datetime, now: datetime) -> None:
    """Check that something is good now.

    Args:
        what: it is.
        start: of its time.
        end: likewise.
        now: the time.

    Raises:
        ExpiredError: when it isn't yet, or any more.
    """
    if now + SKEW < start:
        raise ExpiredError(
            f"{what} is good from {as_text(start)} on, and it is {as_text(now)} by this machine's "
            "clock; set the clock, or wait"
        )
    if now >= end:
        raise ExpiredError(
            f"{what} was good until {as_text(end)}, and it is {as_text(now)} by this machine's "
            "clock; get a new one, or set the clock"
        )


def ending(what: str, end: datetime, now: datetime) -> str | None:
    """Return a warning where something ends within 30 days, or has ended; ``None`` otherwise.

    Args:
        what: it is.
        end: of its time.
        now: the time.
    """
    left = end - now
    if left > timedelta(days=WARN_DAYS):
        return None
    if left <= timedelta(0):
        return f"{what} has expired, on {as_text(end)}"
    return f"{what} expires in {left.days} days, on {as_text(end)}"
