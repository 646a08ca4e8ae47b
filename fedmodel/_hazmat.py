"""The one module that touches cryptographic primitives; the rest uses these recipes."""

import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedmodel.errors import ProtocolError
from fedmodel.seeds import Entropy

__all__ = ["Keystream", "ed25519", "ed25519_verify", "fingerprint", "keystream"]

_TILE = 1 << 20
_ZEROS = memoryview(bytes(_TILE))  # what is encrypted; untouched pages, so it costs no memory


class Keystream:
    """Random bytes: AES-256-CTR (NIST SP 800-38A, 6.5) under a fresh key.

    Much faster than asking the operating system for every byte, and as hard to predict as AES is
    to break. The key belongs to this stream and is dropped with it; no byte is given out twice.

    Args:
        entropy: where the key comes from.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, entropy: Entropy) -> None:
        cipher = Cipher(algorithms.AES256(entropy.bytes(32)), modes.CTR(entropy.bytes(16)))
        self._encryptor = cipher.encryptor()

    def fill(self, out: memoryview) -> None:
        """Overwrite a contiguous buffer of bytes with the next ones of the stream."""
        for start in range(0, len(out), _TILE):
            part = out[start : start + _TILE]
            self._encryptor.update_into(_ZEROS[: len(part)], part)


def keystream(entropy: Entropy, count: int) -> bytearray:
    """Return ``count`` random bytes, all that is used of their :class:`Keystream`."""
    out = bytearray(count)
    Keystream(entropy).fill(memoryview(out))
    return out


def ed25519(seed: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """Return the public key of an Ed25519 seed and what signs with it (RFC 8032, 5.1.5 and 5.1.6).

    Args:
        seed: the private key: 32 random bytes.
    """
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.public_key().public_bytes_raw(), key.sign


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature (RFC 8032, 5.1.7).

    Raises:
        ProtocolError: when it isn't this key's over this message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(
            "the signature doesn't verify: the signed text was changed, or another key signed it"
        ) from error


def fingerprint(public: bytes) -> str:
    """Return a short name of a public key: 128 bits, in hex, of its SHA-256."""
    return hashlib.sha256(b"fedmodel.key/1\0" + public).hexdigest()[:32]
