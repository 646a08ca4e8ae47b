"""Secret files: 32 bytes each, for their owner only; in the clear, or sealed under a passphrase.

In the clear a file is one line, ``fedmodel.KIND/1`` and the bytes in hex. Sealed it is canonical
JSON that names its schema, how the passphrase becomes a key (scrypt, RFC 7914) and what that seals
by (AES-256-GCM, over all that the file says besides). A file is foreign until it opens: its size is
looked at before it is parsed, and its costs before any memory is taken.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from fedmodel import _files, _hazmat, config
from fedmodel.errors import ConfigError, IdentityError, LedgerError, ProtocolError
from fedmodel.seeds import Entropy

__all__ = [
    "SCRYPT",
    "Kind",
    "Scrypt",
    "is_sealed",
    "kept_secret",
    "secret_text",
    "write_secret",
]

Kind: TypeAlias = Literal["key", "salt", "seal-key", "tls-key", "consortium-key", "authority-key"]

_SIZE = 32
_LARGEST = 1 << 12  # bytes of a file; the longest that is written has some 400
_SALT = 16
_SEALED = _SIZE + 12 + 16  # bytes: nonce and tag too
_MOST_N, _LEAST_N, _MOST_P = 1 << 19, 1 << 14, 4  # at most 512 MiB, and some seconds
_OWN = ("site", "A new one would make its ledgers look like another site's")
_WITHOUT = {
    "seal-key": ("coordinator", "The sites seal their updates to the one in their roster"),
    "tls-key": ("party", "Or ask for another certificate, with renew=tls"),
    "consortium-key": ("consortium", "Without it no roster can be signed that the sites accept"),
    "authority-key": ("consortium", "Without it no certificate can be issued that they accept"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrypt:
    """What it costs to try a passphrase: 128·n·r bytes, p times over (RFC 7914, 2).

    Args:
        name: of the function.
        n: a power of 2.
        r: block size.
        p: how often.
        salt: hex.

    Raises:
        ConfigError: for costs that would be too low to protect, or high enough to hurt.
    """

    name: Literal["scrypt"] = "scrypt"
    n: int = 1 << 17
    r: int = 8
    p: int = 1
    salt: str = "0" * (2 * _SALT)

    def __post_init__(self) -> None:
        good_n = _LEAST_N <= self.n <= _MOST_N and self.n & (self.n - 1) == 0
        if not good_n or self.r != 8 or not 1 <= self.p <= _MOST_P:
            raise ConfigError(
                f"scrypt's costs must be n a power of 2 from {_LEAST_N} to {_MOST_N}, r 8 and p 1 "
                f"to {_MOST_P}, got n={self.n!s:.20} r={self.r!s:.20} p={self.p!s:.20}"
            )
        config.require_hex("scrypt's salt", self.salt, 2 * _SALT)

    def key(self, passphrase: bytes) -> bytes:
        """Return the key of a passphrase, 32 bytes."""
        salt = bytes.fromhex(self.salt)
        return _hazmat.scrypt(passphrase, salt, n=self.n, r=self.r, p=self.p)


SCRYPT = Scrypt()  # 128 MiB; its salt is drawn for each file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    """A file's content, sealed.

    Args:
        schema: of the file.
        kind: what the secret is for.
        kdf: from a passphrase to a key.
        aead: what seals by it.
        sealed: nonce, secret and tag, hex.
    """

    schema: Literal["fedmodel.keyfile/1"] = "fedmodel.keyfile/1"
    kind: Kind
    kdf: Scrypt
    aead: Literal["AES-256-GCM"] = "AES-256-GCM"
    sealed: str = "0" * (2 * _SEALED)

    def __post_init__(self) -> None:
        config.require_hex("sealed", self.sealed, 2 * _SEALED)

    def context(self) -> bytes:
        """Return what is authenticated beside the secret."""
        return config.canonical(replace(self, sealed="0" * (2 * _SEALED)))


def secret_text(
    secret: bytes,
    kind: Kind,
    passphrase: bytes | None = None,
    entropy: Entropy | None = None,
    cost: Scrypt = SCRYPT,
) -> bytes:
    """Return a secret file's content.

    Args:
        secret: 32 bytes.
        kind: what it is for.
        passphrase: that seals it; ``None``: it stands there in the clear.
        entropy: draws salt and nonce.
        cost: of the passphrase's key.
    """
    if passphrase is None:
        return f"fedmodel.{kind}/1 {secret.hex()}\n".encode()
    entropy = entropy or Entropy()
    head = _Sealed(kind=kind, kdf=replace(cost, salt=entropy.bytes(_SALT).hex()))
    sealed = _hazmat.aead_seal(head.kdf.key(passphrase), secret, head.context(), entropy)
    return config.canonical(replace(head, sealed=sealed.hex())) + b"\n"


def kept_secret(
    path: Path, kind: Kind, entropy: Entropy | None = None, passphrase: bytes | None = None
) -> bytes:
    """Return the 32 secret bytes in a file, drawn and kept there at the first time.

    Where several processes may come first, hold a lock.

    Args:
        path: of the file; its folder exists.
        kind: what the secret is for: ``key`` (a party's Ed25519 seed), ``salt``, ``seal-key`` (a
            coordinator's X25519 key, see :mod:`fedmodel.identity.seal`), ``tls-key`` (a P-256
            key's seed) or one of the consortium's two.
        entropy: draws a missing secret; ``None``: it must be there.
        passphrase: that the file is, or will be, sealed under; ``None``: it is in the clear.

    Raises:
        LedgerError: when the file can't be read or written, is missing, or isn't such a file.
        IdentityError: when the passphrase doesn't open it.
        ConfigError: when others may read it, or it is sealed and no passphrase is given, or the
            other way round.
    """
    try:
        text, mode = _files.read_with_mode(path, _LARGEST)
    except FileNotFoundError:
        if entropy is None:
            owner, reason = _WITHOUT.get(kind, _OWN)
            raise LedgerError(
                f"{path} is missing; restore the {owner}'s {kind} from a copy. {reason}"
            ) from None
        secret = entropy.bytes(_SIZE)
        write_secret(path, secret_text(secret, kind, passphrase, entropy))
        return secret
    except OSError as error:
        raise LedgerError(f"can't read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise ConfigError(f"others may read the secret in {path}; run: chmod 600 '{path}'")
    if len(text) > _LARGEST:
        raise LedgerError(f"{path} has more than {_LARGEST} bytes: it isn't a {kind} file")
    if not text.startswith(b"{"):
        secret = _clear(path, kind, text)
        if passphrase is not None:
            raise ConfigError(
                f"{path} isn't sealed, but a passphrase is given; leave passphrase out, or find "
                "out who has put another file there"
            )
        return secret
    return _opened(path, kind, text, passphrase)


def is_sealed(path: Path) -> bool:
    """Return whether a secret file is sealed under a passphrase.

    Raises:
        LedgerError: when it can't be read.
    """
    try:
        return _files.read(path, _LARGEST).startswith(b"{")
    except OSError as error:
        raise LedgerError(f"can't read {path}: {error.strerror}") from error


def write_secret(path: Path, text: bytes) -> None:
    """Write a secret file, for its owner only.

    Raises:
        LedgerError: when that isn't possible.
    """
    try:
        _files.write_atomic(path, text, mode=0o600)
    except OSError as error:
        raise LedgerError(f"can't write {path}: {error.strerror}") from error


def _clear(path: Path, kind: str, text: bytes) -> bytes:
    name, _, digits = text.rstrip(b"\n").partition(b" ")
    try:
        secret = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        secret = b""
    if name != f"fedmodel.{kind}/1".encode() or len(secret) != _SIZE:
        raise LedgerError(
            f"{path} isn't a {kind} file of this version (fedmodel.{kind}/1 and {2 * _SIZE} hex "
            "digits); restore it from a copy"
        )
    return secret


def _opened(path: Path, kind: str, text: bytes, passphrase: bytes | None) -> bytes:
    try:
        found = config.parse(lambda m: config.build(_Sealed, m), text.removesuffix(b"\n"))
    except ConfigError as error:
        raise LedgerError(
            f"{path} isn't a sealed file of this version ({error}); restore it from a copy"
        ) from error
    if found.kind != kind:
        raise LedgerError(f"{path} isn't a {kind} file but a {found.kind}; restore it from a copy")
    if passphrase is None:
        raise ConfigError(
            f"{path} is sealed, and no passphrase is given; where a command takes one, say where "
            "it is read: passphrase=prompt, passphrase=fd:N or passphrase=credential:NAME"
        )
    try:
        key = found.kdf.key(passphrase)
        return _hazmat.aead_open(key, bytes.fromhex(found.sealed), found.context())
    except MemoryError:
        need = 128 * found.kdf.n * found.kdf.r >> 20
        raise LedgerError(f"{path}: its passphrase takes {need} MiB of memory; make room") from None
    except ProtocolError as error:
        raise IdentityError(
            f"{path} doesn't open: another passphrase seals it, or it was changed; try again, or "
            "restore it from a copy"
        ) from error
