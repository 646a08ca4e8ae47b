"""A party's Ed25519 key (RFC 8032). Its file: :mod:`fedmodel.identity.keyfile`."""

from fedmodel import _hazmat

__all__ = ["SigningKey"]


class SigningKey:
    """A private key. It signs and tells its public half; the seed isn't kept where it prints.

    Args:
        seed: 32 random bytes.
    """

    __slots__ = ("_sign", "public")

    def __init__(self, seed: bytes) -> None:
        self.public, self._sign = _hazmat.ed25519(seed)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature over a message."""
        return self._sign(message)

    @property
    def fingerprint(self) -> str:
        """Short name of the public half."""
        return _hazmat.fingerprint(self.public)

    def __repr__(self) -> str:
        return f"SigningKey({self.fingerprint})"
