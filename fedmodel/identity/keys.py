"""A party's Ed25519 key (RFC 8032), and the small secret files that it and its like live in."""

import os
from pathlib import Path

from fedmodel import _files, _hazmat
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.seeds import Entropy

__all__ = ["SigningKey", "kept_secret"]

_SIZE = 32
_OWN = ("site", "A new one would make its ledgers look like another site's")
_WITHOUT = {"seal-key": ("coordinator", "The sites seal their updates to the one in their roster")}


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


def kept_secret(path: Path, kind: str, entropy: Entropy | None = None) -> bytes:
    """Return the 32 secret bytes in a file, drawn and kept there at the first time.

    The file is one line, ``fedmodel.KIND/1`` and the bytes in hex, for its owner only. Where
    several processes may come first, hold a lock.

    Args:
        path: of the file; its folder exists.
        kind: what the secret is for: ``key`` or ``salt``, or ``seal-key`` (a coordinator's X25519
            key, see :mod:`fedmodel.identity.seal`).
        entropy: draws a missing secret; ``None``: it must be there.

    Raises:
        LedgerError: when the file can't be read or written, is missing, or isn't such a file.
        ConfigError: when others may read it.
    """
    try:
        text = _files.read(path)
    except FileNotFoundError:
        if entropy is None:
            owner, reason = _WITHOUT.get(kind, _OWN)
            raise LedgerError(
                f"{path} is missing; restore the {owner}'s {kind} from a copy. {reason}"
            ) from None
        secret = entropy.bytes(_SIZE)
        _write(path, f"fedmodel.{kind}/1 {secret.hex()}\n".encode())
        return secret
    except OSError as error:
        raise LedgerError(f"can't read {path}: {error.strerror}") from error
    if os.stat(path).st_mode & 0o077:
        raise ConfigError(f"others may read the secret in {path}; run: chmod 600 '{path}'")
    return _parse(path, kind, text)


def _write(path: Path, line: bytes) -> None:
    try:
        _files.write_atomic(path, line, mode=0o600)
    except OSError as error:
        raise LedgerError(f"can't write {path}: {error.strerror}") from error


def _parse(path: Path, kind: str, text: bytes) -> bytes:
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
