"""The roster: who belongs to a consortium, and by which keys. A site trusts what its copy says.

This is its first version, which nobody signs; see :mod:`fedmodel.identity.signed_roster`.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Self

from fedmodel import _files, config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.identity.names import require_name

__all__ = ["LARGEST", "Member", "Roster"]

LARGEST = 1 << 22  # bytes of a roster as text: some ten thousand members


class _Newest:
    """The hash of the roster that was asked for it last: a simulation's sites all ask for one."""

    def __init__(self) -> None:
        self._known: tuple[object, str] = (None, "")

    def sha256(self, roster: "Roster") -> str:
        """Return it."""
        known = self._known
        if known[0] is not roster:
            self._known = known = (roster, config.digest(roster))
        return known[1]


_newest = _Newest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A site of the consortium.

    Args:
        name: of the site, for people.
        key: its public Ed25519 key (RFC 8032), hex.
    """

    name: str
    key: str

    def __post_init__(self) -> None:
        require_name("a member's name", self.name)
        config.require_hex(f"the key of {self.name!r}", self.key, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All parties of a consortium. A member's number is its place in the roster, from 1.

    The order counts: another order is another roster, with another :attr:`sha256`.

    Args:
        format: of the roster; the second one is a :class:`~.signed_roster.SignedRoster`'s.
        name: of the consortium.
        coordinator: public Ed25519 key (RFC 8032), hex.
        seal: public X25519 key (RFC 7748) of the coordinator that updates are sealed to, hex.
        members: the sites, one or more.

    Raises:
        ConfigError: when a key or a name isn't one, or two parties share it.
    """

    FORMAT: ClassVar[str] = "fedmodel.roster/1"

    format: Literal["fedmodel.roster/1", "fedmodel.roster/2"] = "fedmodel.roster/1"
    name: str = "simulation"
    coordinator: str
    seal: str
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if self.format != self.FORMAT:
            raise ConfigError(f"expected a roster of format {self.FORMAT}, got {self.format}")
        require_name("the roster's name", self.name)
        config.require_hex("the coordinator's key", self.coordinator, 64)
        config.require_hex("the coordinator's seal key", self.seal, 64)
        if not self.members:
            raise ConfigError("a roster has at least 1 member, got none; add the sites")
        names: set[str] = set()
        owners = {self.coordinator: "the coordinator"}
        for member in self.members:
            if member.name in names:
                raise ConfigError(
                    f"two members are called {member.name!r}; give each a name of its own"
                )
            names.add(member.name)
            if member.key in owners:
                raise ConfigError(
                    f"{member.name!r} has the same key as {owners[member.key]}; expected every "
                    "party's own, ask both for theirs"
                )
            owners[member.key] = repr(member.name)

    @property
    def edition(self) -> int:
        """Its version, which grows with each that the consortium issues; 0: it has none."""
        return 0

    def check_time(self, now: datetime) -> None:
        """Check that the roster is good now. One of the first version has no end.

        Args:
            now: the time.

        Raises:
            ExpiredError: when its time is over, or hasn't begun.
        """

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the roster's canonical JSON: its name in the protocol."""
        return _newest.sha256(self)

    @property
    def keys(self) -> dict[int, bytes]:
        """Each member's number and public Ed25519 key, 32 bytes."""
        return {n: bytes.fromhex(member.key) for n, member in enumerate(self.members, start=1)}

    def number_of(self, name: str) -> int:
        """Return the number of the member of a name.

        Raises:
            ConfigError: when nobody is called so.
        """
        names = [member.name for member in self.members]
        if name not in names:
            raise ConfigError(
                f"the roster of {self.name!r} has no member {name!r}{config.suggest(name, names)}; "
                "use a name in it, or ask the consortium for a roster with this site"
            )
        return names.index(name) + 1

    def member(self, number: int) -> Member:
        """Return the member of a number.

        Raises:
            ProtocolError: when there is none: numbers come from other parties.
        """
        if not 1 <= number <= len(self.members):
            raise ProtocolError(
                f"the roster of {self.name!r} has members 1 to {len(self.members)}, got {number}; "
                "compare the parties' rosters"
            )
        return self.members[number - 1]

    def to_json(self) -> bytes:
        """Return the roster as canonical JSON (RFC 8785)."""
        return config.canonical(self)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the roster in a text. It must be the canonical one: a roster has one text only.

        Raises:
            ConfigError: when it isn't one.
        """
        if len(text) > LARGEST:
            raise ConfigError(f"a roster has at most {LARGEST} bytes, got {len(text)}")
        try:
            roster = config.build(cls, json.loads(text), "roster")
        except (ValueError, RecursionError, ConfigError) as error:
            raise ConfigError(f"not a roster of this version: {error}") from error
        if roster.to_json() != text:
            raise ConfigError(
                "a roster must be canonical JSON (RFC 8785), got one with other spaces, order, "
                "keys or digits; use the file as it was handed out"
            )
        return roster

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the roster in a file.

        Raises:
            ConfigError: naming the file, when it can't be read or isn't one.
        """
        try:
            return cls.from_json(_files.read(path, LARGEST))
        except OSError as error:
            raise ConfigError(f"can't read the roster {path}: {error.strerror}") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
