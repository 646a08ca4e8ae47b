"""Names of parties: for people, and in TLS."""

import ipaddress
import re

from fedmodel.errors import ConfigError

__all__ = ["grouped", "require_name", "require_tls_name", "same_fingerprint"]

_LONGEST = 200  # characters of a name for people
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_HOST = 253
_GROUP = 4


def require_name(what: str, name: str) -> None:
    """Check a name for people.

    Raises:
        ConfigError: for one that can't be shown: it could look like another, or upset a terminal.
    """
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or name != name.strip():
        raise ConfigError(
            f"{what} must be 1 to {_LONGEST} printable characters without spaces around them, "
            f"got {name[:80]!r:.80}"
        )


def require_tls_name(what: str, name: str) -> None:
    """Check a name in TLS: a DNS name in small letters (RFC 1123, 2.1), or an IP address.

    Raises:
        ConfigError: for anything else, or an address that isn't in its one usual spelling.
    """
    try:
        if str(ipaddress.ip_address(name)) == name:
            return
    except ValueError:
        labels = name.split(".")
        # All digits at the end is an address that isn't one.
        if (
            len(name) <= _LONGEST_HOST
            and all(map(_LABEL.fullmatch, labels))
            and not labels[-1].isdigit()
        ):
            return
    raise ConfigError(
        f"{what} must be a DNS name in small letters (fl.example.org) or an IP address, got "
        f"{name[:80]!r:.80}"
    )


def grouped(fingerprint: str) -> str:
    """Return a fingerprint as it is read out: in groups of four digits.

    >>> grouped("0123456789abcdef")
    '0123-4567-89ab-cdef'
    """
    parts = (fingerprint[i : i + _GROUP] for i in range(0, len(fingerprint), _GROUP))
    return "-".join(parts)


def same_fingerprint(read: str, fingerprint: str) -> bool:
    """Return whether what somebody has read out or typed is this fingerprint, whole.

    >>> same_fingerprint("0123 4567 89AB-CDEF", "0123456789abcdef")
    True
    >>> same_fingerprint("0123", "0123456789abcdef")
    False
    """
    return re.sub(r"[\s:-]", "", read).lower() == fingerprint
