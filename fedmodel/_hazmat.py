"""The one module that touches cryptographic primitives; the rest uses these recipes."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedmodel.seeds import Entropy

__all__ = ["keystream"]

_TILE = 1 << 20  # one MiB at a time: the plaintext of zeros stays in the cache


def keystream(entropy: Entropy, count: int) -> bytearray:
    """Return ``count`` random bytes: AES-256-CTR (NIST SP 800-38A, 6.5) under a fresh OS key.

    Much faster than asking the operating system for every byte, and as hard to predict as AES is
    to break. The key is drawn for this call and dropped with it, so no stream is ever used twice.
    """
    cipher = Cipher(algorithms.AES256(entropy.bytes(32)), modes.CTR(entropy.bytes(16)))
    stream, out, zeros = cipher.encryptor(), bytearray(count), bytes(min(count, _TILE))
    view = memoryview(out)
    for start in range(0, count, _TILE):
        size = min(_TILE, count - start)
        stream.update_into(memoryview(zeros)[:size], view[start : start + size])
    return out
