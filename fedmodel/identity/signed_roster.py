"""The signed roster: its second version, by which parties in different houses know each other.

The consortium's key signs it. It has a number that only grows, a time, the parties' names in TLS
and the authority that certifies them, and whose keys were taken back. A value of it is always one
whose signature has verified by the key that it names; whether that is the consortium's own is what
:meth:`SignedRoster.check` and :mod:`fedmodel.identity.trust` ask.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from fedmodel import _files, _hazmat, config
from fedmodel.errors import ConfigError, IdentityError, ProtocolError, RevokedError, SignerError
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.names import grouped, require_name, require_tls_name
from fedmodel.identity.roster import LARGEST, Member, Roster
from fedmodel.identity.validity import as_time, check_valid

__all__ = ["Revoked", "SignedMember", "SignedRoster", "load_roster", "read_roster"]

_DOMAIN = b"fedmodel.roster/2\0"  # what is signed as a roster can't be taken for anything else
_UNSIGNED = "0" * 128
_LONGEST_PEM = 1 << 12
_LAST = 1 << 53  # of what canonical JSON can say


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMember(Member):
    """A site of the consortium.

    Args:
        name: of the site, for people.
        key: its public Ed25519 key (RFC 8032), hex.
        tls: its name in TLS.
    """

    tls: str

    def __post_init__(self) -> None:
        Member.__post_init__(self)
        require_tls_name(f"the TLS name of {self.name!r}", self.tls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """A key that was taken back. It is never on a roster again.

    Args:
        name: of whom it was.
        key: the public Ed25519 key, hex.
        version: of the first roster without it.
    """

    name: str
    key: str
    version: int

    def __post_init__(self) -> None:
        require_name("a revoked party's name", self.name)
        config.require_hex(f"the revoked key of {self.name!r}", self.key, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRoster(Roster):
    """All parties of a consortium, by its own word. A member's number is good in this roster only.

    Args:
        format: of the roster.
        name: of the consortium.
        version: 1, 2, 3, …
        issued: when, UTC.
        expires: when it ends, UTC.
        consortium: public Ed25519 key that signs it, hex.
        authority: certificate of who certifies the parties' TLS keys, PEM.
        coordinator: public Ed25519 key of the coordinator, hex.
        coordinator_name: the coordinator's, for people.
        coordinator_tls: its name in TLS: what the sites dial.
        seal: public X25519 key (RFC 7748) of the coordinator that updates are sealed to, hex.
        members: the sites, one or more.
        revoked: keys that were taken back, of sites and coordinators.
        signature: over all of the above, hex.

    Raises:
        ConfigError: when a key, a name or a time isn't one, or two parties share one, or a key on
            it was revoked.
    """

    FORMAT: ClassVar[str] = "fedmodel.roster/2"

    format: Literal["fedmodel.roster/1", "fedmodel.roster/2"] = "fedmodel.roster/2"
    version: int
    issued: str
    expires: str
    consortium: str
    authority: str
    coordinator_name: str
    coordinator_tls: str
    members: tuple[SignedMember, ...]
    revoked: tuple[Revoked, ...] = ()
    signature: str = _UNSIGNED

    def __post_init__(self) -> None:
        Roster.__post_init__(self)
        if not 1 <= self.version < _LAST:
            raise ConfigError(f"a roster's version must be 1 or more, got {self.version!s:.20}")
        if as_time(self.issued) >= as_time(self.expires):
            raise ConfigError(f"a roster issued at {self.issued} can't end at {self.expires}")
        config.require_hex("the consortium's key", self.consortium, 64)
        config.require_hex("the roster's signature", self.signature, 128)
        if len(self.authority) > _LONGEST_PEM:
            raise ConfigError(f"the authority's certificate is longer than {_LONGEST_PEM}")
        require_name("the coordinator's name", self.coordinator_name)
        require_tls_name("the coordinator's TLS name", self.coordinator_tls)
        self._check_tls_names()
        self._check_keys()

    def _check_tls_names(self) -> None:
        owners = {self.coordinator_tls: "the coordinator"}
        for member in self.members:
            if member.tls in owners:
                raise ConfigError(
                    f"{member.name!r} has the TLS name of {owners[member.tls]}, {member.tls}; "
                    "expected every party's own"
                )
            owners[member.tls] = repr(member.name)

    def _check_keys(self) -> None:
        taken = [each.key for each in self.revoked]
        if len(set(taken)) != len(taken):
            raise ConfigError("a key is revoked twice; once is enough")
        present = {self.coordinator, *(member.key for member in self.members)}
        if self.consortium in present:
            raise ConfigError("a party has the consortium's own key; expected every party's own")
        if back := present & {*taken}:
            raise ConfigError(f"key {min(back)[:16]}… was revoked and can't be on a roster again")

    def _message(self) -> bytes:
        return _DOMAIN + config.canonical(replace(self, signature=_UNSIGNED))

    def signed(self, signer: SigningKey) -> Self:
        """Return the roster with the consortium's signature.

        Raises:
            ConfigError: when it names another consortium's key.
        """
        if signer.public.hex() != self.consortium:
            raise ConfigError("a roster is signed by the consortium that it names, and no other")
        return replace(self, signature=signer.sign(self._message()).hex())

    def check(self, consortium: str, now: datetime) -> None:
        """Check that the roster is the consortium's, and good now.

        Args:
            consortium: its public key (hex), known from elsewhere.
            now: the time.

        Raises:
            SignerError: when another key has signed it.
            ExpiredError: when its time is over, or hasn't begun.
        """
        if self.consortium != consortium:
            raise SignerError(
                f"the roster is signed by consortium {_shown(self.consortium)}, expected "
                f"{_shown(consortium)}; take the one that your consortium has handed out"
            )
        self.check_time(now)

    @property
    def edition(self) -> int:
        """Its version."""
        return self.version

    def check_time(self, now: datetime) -> None:
        """Check that the roster is good now.

        Args:
            now: the time.

        Raises:
            ExpiredError: when its time is over, or hasn't begun.
        """
        what = f"version {self.version} of the roster of {self.name!r}"
        check_valid(what, as_time(self.issued), as_time(self.expires), now)

    def own(self, name: str, key: str) -> SignedMember:
        """Return the member that a site is.

        Args:
            name: of the site.
            key: its public key, hex.

        Raises:
            RevokedError: when its key was taken back.
            ConfigError: when nobody is called so, or it has another key under that name.
        """
        for each in self.revoked:
            if each.key == key:
                raise RevokedError(
                    f"this site's key was taken back in version {each.version} of the roster of "
                    f"{self.name!r}; ask the consortium"
                )
        member = self.members[self.number_of(name) - 1]
        if member.key != key:
            raise ConfigError(
                f"the roster has another key under the name {name!r} than this site's own; ask the "
                "consortium to enter the right one"
            )
        return member

    def changes_since(self, before: Roster) -> list[str]:
        """Return what a person would want to know of a new version: who is new, gone or other.

        Args:
            before: the roster that was in use.
        """
        then = {member.name: member for member in before.members}
        now = {member.name: member for member in self.members}
        told = [f"new: {name!r}" for name in now if name not in then]
        told += [f"no longer listed: {name!r}" for name in then if name not in now]
        told += [
            f"another identity key: {name!r}"
            for name, member in now.items()
            if name in then and then[name].key != member.key
        ]
        if self.coordinator != before.coordinator:
            told.append(f"another coordinator: {self.coordinator_name!r} at {self.coordinator_tls}")
        elif self.seal != before.seal:
            told.append("another key of the coordinator that updates are sealed to")
        known = {each.key for each in before.revoked} if isinstance(before, SignedRoster) else set()
        told += [f"revoked: {each.name!r}" for each in self.revoked if each.key not in known]
        return told

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the roster in a text, once its signature has verified by the key it names.

        Raises:
            ConfigError: when it isn't one.
            IdentityError: when the signature isn't that key's over this roster.
        """
        roster = super(SignedRoster, cls).from_json(text)
        try:
            signature = bytes.fromhex(roster.signature)
            _hazmat.ed25519_verify(bytes.fromhex(roster.consortium), roster._message(), signature)
        except ProtocolError as error:
            raise IdentityError(
                "the roster's signature doesn't verify: it was changed since it was signed, or "
                "isn't the consortium's; use the file as it was handed out"
            ) from error
        return roster


def _shown(key: str) -> str:
    return grouped(_hazmat.fingerprint(bytes.fromhex(key)))


def read_roster(text: bytes) -> Roster:
    """Return the roster in a text, of either version: of the second, once it has verified.

    Raises:
        ConfigError: when it isn't one.
        IdentityError: when its signature doesn't verify.
    """
    return _class_of(text).from_json(text)


def load_roster(path: Path) -> Roster:
    """Return the roster in a file, of either version.

    Raises:
        ConfigError: naming the file, when it can't be read or isn't one.
        IdentityError: likewise, when its signature doesn't verify.
    """
    try:
        return read_roster(_files.read(path, LARGEST))
    except OSError as error:
        raise ConfigError(f"can't read the roster {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except IdentityError as error:
        raise IdentityError(f"{path}: {error}") from error


def _class_of(text: bytes) -> type[Roster]:
    if len(text) > LARGEST:
        return Roster  # which says so
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return Roster
    named = isinstance(found, dict) and found.get("format") == SignedRoster.FORMAT
    return SignedRoster if named else Roster
