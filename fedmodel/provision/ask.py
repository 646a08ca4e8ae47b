"""What is asked of ``provision``, and which of it goes with which role."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from fedmodel import config
from fedmodel._text import one_form
from fedmodel.errors import ConfigError

__all__ = ["Ask", "Role"]

Role: TypeAlias = Literal["site", "coordinator", "consortium", "demo"]

_PARTY = {"role", "home", "name", "tls", "passphrase", "roster", "certificate", "confirm", "renew"}
_KEYS: dict[str, set[str]] = {
    "site": _PARTY | {"preset"},
    "coordinator": _PARTY,
    "consortium": {"role", "home", "name", "passphrase", "request", "confirm", "renew", "revoke"}
    | {"why", "days"},
    "demo": {"role", "home", "sites", "preset"},
}
_RENEWALS = {"site": "tls", "coordinator": "tls", "consortium": "roster"}
_MOST_DAYS, _MOST_SITES = 397, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        role: whose part this is.
        home: folder of the party's keys.
        name: for people.
        tls: name in TLS.
        passphrase: where one is read; never one itself.
        roster: file to take over.
        certificate: likewise.
        request: file of a party's request.
        confirm: a fingerprint as its owner has read it out.
        renew: what is to be renewed.
        revoke: name of whose key is taken back.
        why: of a revocation.
        preset: of a site's rules; ``None``: ``strict``, and ``trial`` for a demo's.
        days: that what is issued is good for.
        sites: of a demo.
    """

    role: Role
    home: str
    name: str | None = None
    tls: str | None = None
    passphrase: str | None = None
    roster: str | None = None
    certificate: str | None = None
    request: str | None = None
    confirm: str | None = None
    renew: Literal["tls", "roster"] | None = None
    revoke: str | None = None
    why: str | None = None
    preset: Literal["strict", "trial"] | None = None
    days: int = 90
    sites: int = 3

    def __post_init__(self) -> None:
        if self.renew is not None and _RENEWALS.get(self.role) != self.renew:
            raise ConfigError(
                f"renew={self.renew} isn't for role={self.role}; a site and a coordinator renew "
                "tls, a consortium renews roster"
            )
        if not 1 <= self.days <= _MOST_DAYS:
            raise ConfigError(f"days must be 1 to {_MOST_DAYS}, got {self.days}")
        if not 1 <= self.sites <= _MOST_SITES:
            raise ConfigError(f"sites must be 1 to {_MOST_SITES}, got {self.sites}")
        if self.confirm is not None and self.request is None and self.roster is None:
            raise ConfigError(
                "confirm= goes with request=PATH (the request's fingerprint) or roster=PATH (the "
                "consortium's)"
            )
        if self.why is not None and self.revoke is None:
            raise ConfigError("why= goes with revoke=NAME")
        if Path(self.home).name in ("", ".."):
            raise ConfigError(f"home={self.home} doesn't name a folder of its own; home=PATH/NAME")
        if self.request is not None and self.revoke is not None:
            raise ConfigError("request= and revoke= are two changes; make one after the other")

    @classmethod
    def of(cls, mapping: dict[str, object], given: Collection[str]) -> "Ask":
        """Return what a command line asks.

        Args:
            mapping: the composed configuration.
            given: the keys that stood on the command line.

        Raises:
            ConfigError: for a missing or wrong value, or a key that isn't for its role.
        """
        role = mapping.get("role")
        if role is None:
            raise ConfigError(
                "provision needs role=site, role=coordinator, role=consortium or role=demo; see "
                "fedmodel provision --help"
            )
        if mapping.get("home") is None:
            raise ConfigError(f"provision role={role} needs home=<a folder for its keys>")
        if isinstance(name := mapping.get("name"), str):
            mapping = mapping | {"name": one_form(name)}
        ask = config.build(cls, mapping)
        for key in given:
            if key not in _KEYS[ask.role]:
                known = ", ".join(sorted(_KEYS[ask.role]))
                raise ConfigError(f"{key} isn't for role={ask.role}, which takes {known}")
        return ask

    @property
    def folder(self) -> Path:
        """The folder, with the home directory put in."""
        return Path(self.home).expanduser()

    def file(self, name: str) -> Path:
        """Return the path that stands for a file."""
        return Path(str(getattr(self, name))).expanduser()
