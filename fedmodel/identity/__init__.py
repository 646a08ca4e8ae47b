"""Identity of a party: its signing key, the roster of all, and what they seal to one another."""

from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.roster import Member, Roster

__all__ = ["Member", "Roster", "SigningKey", "kept_secret"]
