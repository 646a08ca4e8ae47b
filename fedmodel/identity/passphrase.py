"""Passphrases: where one is read. Never on the command line, never in the environment.

Both are seen by whoever lists the machine's processes, and a shell keeps what was typed.
"""

import getpass
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError

__all__ = ["LEAST", "read_passphrase"]

LEAST = 12  # characters of a new one
_LONGEST = 1024  # bytes
_FD = re.compile(r"fd:([0-9]{1,6})")
_CREDENTIAL = re.compile(r"credential:([A-Za-z0-9][A-Za-z0-9._-]{0,200})")


def read_passphrase(
    source: str | None,
    *,
    new: bool = False,
    ask: Callable[[str], str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> bytes | None:
    """Return a passphrase from where it stands.

    Args:
        source: ``prompt``: the terminal asks, without an echo; ``fd:N``: an open file descriptor;
            ``credential:NAME``: a file in ``$CREDENTIALS_DIRECTORY``, where systemd puts a
            service's credentials; ``None``: there is none.
        new: it will seal something: a prompt asks twice, and it isn't short.
        ask: asks at the terminal.
        environ: names that folder.

    Raises:
        ConfigError: for any other source, or when nothing usable is there. What stood in place of
            a source isn't repeated.
    """
    if source is None:
        return None
    if source == "prompt":
        found = _prompted(ask or _at_terminal, new=new)
    elif match := _FD.fullmatch(source):
        found = _from_descriptor(int(match[1]))
    elif match := _CREDENTIAL.fullmatch(source):
        found = _from_credential(match[1], environ)
    else:
        raise ConfigError(
            "passphrase says where one is read, and never is one: expected prompt, fd:N or "
            "credential:NAME. If you have just typed a passphrase: it is in the shell's history "
            "now, so take another"
        )
    return _checked(found, new=new)


def _checked(found: bytes, *, new: bool) -> bytes:
    found = found.removesuffix(b"\n").removesuffix(b"\r")
    if not found or len(found) > _LONGEST:
        raise ConfigError(
            f"expected a passphrase of 1 to {_LONGEST} bytes in one line, got "
            f"{'none' if not found else 'more'}"
        )
    try:
        text = unicodedata.normalize("NFC", found.decode())
    except UnicodeDecodeError:
        raise ConfigError("expected a passphrase in UTF-8, got other bytes") from None
    if len(text.splitlines()) > 1:
        raise ConfigError("expected a passphrase in one line, got several; take the others out")
    if new and len(text) < LEAST:
        raise ConfigError(
            f"a new passphrase has at least {LEAST} characters, got {len(text)}; five random words "
            "are good"
        )
    return text.encode()


def _at_terminal(prompt: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would be echoed
        try:
            return getpass.getpass(prompt)
        except (getpass.GetPassWarning, EOFError, OSError) as error:
            raise ConfigError(
                "there is no terminal to ask at; use passphrase=fd:N or passphrase=credential:NAME"
            ) from error


def _prompted(ask: Callable[[str], str], *, new: bool) -> bytes:
    first = ask("New passphrase: " if new else "Passphrase: ")
    if new and ask("The same again: ") != first:
        raise ConfigError("the two passphrases differ; nothing was written, try again")
    return first.encode(errors="replace")


def _from_descriptor(number: int) -> bytes:
    parts, size = [], 0
    try:
        while size <= _LONGEST and (part := os.read(number, _LONGEST + 1)):
            parts.append(part)
            size += len(part)
    except OSError as error:
        raise ConfigError(
            f"can't read a passphrase from file descriptor {number}: {error.strerror}; open it in "
            f"the shell: {number}< FILE"
        ) from error
    return b"".join(parts)


def _from_credential(name: str, environ: Mapping[str, str]) -> bytes:
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigError(
            "passphrase=credential:NAME needs $CREDENTIALS_DIRECTORY, which systemd sets for a "
            f"service with LoadCredential={name}:PATH (or LoadCredentialEncrypted)"
        )
    path = Path(folder) / name
    try:
        found, mode = _files.read_with_mode(path, _LONGEST + 2)
    except OSError as error:
        raise ConfigError(f"can't read the credential {path}: {error.strerror}") from error
    # systemd grants its service by an access list, whose mask shows as the group's permissions.
    if mode & 0o007:
        raise ConfigError(f"everybody may read the credential {path}; run: chmod 600 '{path}'")
    return found
