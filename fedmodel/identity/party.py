"""A party, by its own folder: what it is known by, and whether a roster lists it so."""

from dataclasses import dataclass
from typing import Literal

from fedmodel import config
from fedmodel._hazmat import fingerprint
from fedmodel.errors import PurposeError, RevokedError
from fedmodel.identity.request import Owner
from fedmodel.identity.signed_roster import SignedRoster

__all__ = ["PartyFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyFile:
    """Who a party is, by its own folder.

    Args:
        schema: of the file.
        owner: what it is known by.
        key: its public Ed25519 key, hex.
    """

    schema: Literal["fedmodel.party/1"] = "fedmodel.party/1"
    owner: Owner
    key: str

    def __post_init__(self) -> None:
        config.require_hex("the party's key", self.key, 64)

    @property
    def identity(self) -> str:
        """Fingerprint of its key."""
        return fingerprint(bytes.fromhex(self.key))

    def check_listed(self, roster: SignedRoster) -> None:
        """Check that a roster lists this party as it is.

        Raises:
            RevokedError: when its key was taken back.
            PurposeError: when it has another name in TLS, or another coordinator.
            ConfigError: when no site is called so, or it has another key under that name.
        """
        if self.owner.role == "site":
            own = roster.own(self.owner.name, self.key)
            if own.tls != self.owner.tls:
                raise PurposeError(
                    f"the roster has the TLS name {own.tls} for {own.name!r}, and its own folder "
                    f"{self.owner.tls}; ask the consortium to sign this party's newest request"
                )
            return
        told = (roster.coordinator, roster.coordinator_tls, roster.seal)
        if told != (self.key, self.owner.tls, self.owner.seal):
            if any(each.key == self.key for each in roster.revoked):
                raise RevokedError("this coordinator's key was taken back; ask the consortium")
            raise PurposeError(
                f"the roster has another coordinator, {roster.coordinator_name!r} at "
                f"{roster.coordinator_tls}, or other keys of this one; ask the consortium"
            )
