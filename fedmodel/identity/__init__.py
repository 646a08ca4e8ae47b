"""Who a party is: its signing key."""

from fedmodel.identity.keys import SigningKey, kept_secret

__all__ = ["SigningKey", "kept_secret"]
