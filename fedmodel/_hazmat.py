"""The one module that touches cryptographic primitives; the rest uses these recipes."""

import functools
import hashlib
import threading
import time
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedmodel.errors import ProtocolError
from fedmodel.seeds import Entropy

__all__ = [
    "Keystream",
    "aead_open",
    "aead_seal",
    "ed25519",
    "ed25519_verify",
    "fingerprint",
    "hkdf",
    "hpke_open",
    "hpke_seal",
    "keystream",
    "mask_stream",
    "scrypt",
    "verified",
    "x25519",
    "x25519_public",
]

_TILE = 1 << 20
_ZEROS = memoryview(bytes(_TILE))  # what is encrypted; untouched pages, so it costs no memory
_NONCE = 12
_HPKE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


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


class _Verified:
    """Signatures that have verified, by a hash: a message that was large once isn't kept."""

    __slots__ = ("_lock", "_names")

    MOST = 4096  # of 32 bytes

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: dict[bytes, None] = {}

    def __contains__(self, name: bytes) -> bool:
        return name in self._names

    def add(self, name: bytes) -> None:
        with self._lock:
            while len(self._names) >= self.MOST:
                del self._names[next(iter(self._names))]  # the oldest
            self._names[name] = None

    def clear(self) -> None:
        with self._lock:
            self._names.clear()


verified = _Verified()


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature (RFC 8032, 5.1.7).

    What has verified once is remembered, by its SHA-256: where one process plays a thousand sites,
    each of them checks the same thousand signatures.

    Raises:
        ProtocolError: when it isn't this key's over this message.
    """
    name = hashlib.sha256()
    for part in (public, signature):
        name.update(len(part).to_bytes(8) + part)
    name.update(message)
    if name.digest() in verified:
        return
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(
            "the signature doesn't verify: the signed text was changed, or another key signed it"
        ) from error
    verified.add(name.digest())


def mask_stream(seed: bytes) -> CipherContext:
    """Return the AES-256-CTR stream of a seed, from its first byte on (SP 800-38A, 6.5).

    Two who hold the seed get the same bytes: encrypt zeros with it. The counter starts at 2, so
    that these are also the bytes with which AES-256-GCM encrypts under a nonce of zeros (SP
    800-38D, 7.1): where the processor has wide instructions for that mode, it is more than twice
    as fast, though it works out a tag that nobody asks for. A seed is for one stream only, of less
    than 64 GiB.

    Args:
        seed: 32 bytes, as good as random.
    """
    return _stream(seed, gcm=_gcm_is_faster())


def _stream(seed: bytes, *, gcm: bool) -> CipherContext:
    mode = modes.GCM(bytes(_NONCE)) if gcm else modes.CTR((2).to_bytes(16))
    return Cipher(algorithms.AES256(seed), mode).encryptor()


@functools.cache
def _gcm_is_faster() -> bool:
    """Time both ways to the same bytes, once per process: less than a millisecond."""
    out = bytearray(1 << 17)
    seconds = {}
    for gcm in (True, False):
        stream, found = _stream(bytes(32), gcm=gcm), []
        for _ in range(5):
            start = time.perf_counter()
            stream.update_into(_ZEROS[: len(out)], out)
            found.append(time.perf_counter() - start)
        seconds[gcm] = min(found)
    return seconds[True] < seconds[False]


def x25519_public(private: bytes) -> bytes:
    """Return the public half of an X25519 private key of 32 random bytes (RFC 7748, 6.1)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519(private: bytes, public: bytes) -> bytes:
    """Return the secret that two X25519 keys share (RFC 7748, 6.1). Derive keys from it by HKDF.

    Raises:
        ProtocolError: for a public key of another length, or of low order: the secret would be 0.
    """
    try:
        other = X25519PublicKey.from_public_bytes(public)
        return X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError as error:
        raise ProtocolError("a party's X25519 key isn't usable (length or low order)") from error


def hkdf(secret: bytes, info: bytes, *, salt: bytes = b"", length: int = 32) -> bytes:
    """Return a key derived from a secret by HKDF-SHA-256 (RFC 5869).

    Args:
        secret: what it is derived from; need not be uniform.
        info: what the key is for, and between whom: another text gives an independent key.
        salt: public; optional.
        length: of the key, in bytes.
    """
    return HKDF(hashes.SHA256(), length=length, salt=salt or None, info=info).derive(secret)


def scrypt(passphrase: bytes, salt: bytes, *, n: int, r: int, p: int, length: int = 32) -> bytes:
    """Return a key that costs time and 128·n·r bytes of memory to derive (RFC 7914, 6).

    Args:
        passphrase: of a person.
        salt: random, public.
        n: a power of 2.
        r: block size.
        p: how often it is done.
        length: of the key, in bytes.

    Raises:
        MemoryError: when there isn't that much.
    """
    return Scrypt(salt=salt, length=length, n=n, r=r, p=p).derive(passphrase)


def aead_seal(key: bytes, plaintext: bytes, context: bytes, entropy: Entropy) -> bytes:
    """Encrypt and authenticate under a shared key: AES-256-GCM (SP 800-38D), random nonce first.

    Args:
        key: 32 bytes.
        plaintext: what is hidden.
        context: what is authenticated besides; whoever opens it must name the same.
        entropy: of the nonce. At most 2**32 texts a key.
    """
    nonce = entropy.bytes(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def aead_open(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what :func:`aead_seal` hid.

    Raises:
        ProtocolError: when it was made with another key or for another context, or was changed.
    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
    except (InvalidTag, ValueError) as error:
        raise ProtocolError(
            "a sealed text doesn't open: it was changed, or is for another key or context"
        ) from error


def hpke_seal(public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt to a public X25519 key: HPKE, base mode, single shot (RFC 9180, 6.1).

    X25519, HKDF-SHA-256, AES-256-GCM. It doesn't say who sealed it: sign it.

    Raises:
        ProtocolError: when the key isn't usable.
    """
    try:
        return bytes(_HPKE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info))
    except ValueError as error:
        raise ProtocolError("a party's X25519 key isn't usable (length or low order)") from error


def hpke_open(private: bytes, sealed: bytes | memoryview, info: bytes) -> bytes:
    """Return what :func:`hpke_seal` hid.

    Raises:
        ProtocolError: when it was sealed to another key or for another purpose, or was changed.
    """
    try:
        return bytes(_HPKE.decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info))
    except (InvalidTag, ValueError) as error:
        raise ProtocolError(
            "a sealed text doesn't open: it was changed, or is for another key or purpose"
        ) from error


def fingerprint(public: bytes) -> str:
    """Return a short name of a public key: 128 bits, in hex, of its SHA-256."""
    return hashlib.sha256(b"fedmodel.key/1\0" + public).hexdigest()[:32]
