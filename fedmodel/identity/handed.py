"""What parties hand to one another, as files: requests, rosters, certificates."""

import errno
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, FedmodelError, IdentityError, LedgerError, SignerError
from fedmodel.identity.request import LARGEST, PartyRequest
from fedmodel.identity.signed_roster import SignedRoster, load_roster

__all__ = ["request_in", "signed_roster_in", "text_of", "unmade"]


def text_of(path: Path) -> str:
    """Return the text of a small file from outside.

    Raises:
        ConfigError: when there is no such file.
        LedgerError: when it can't be read.
    """
    return _read(path).decode("latin-1")


def request_in(path: Path) -> PartyRequest:
    """Return the request in a file, once it has verified.

    Raises:
        ConfigError: when there is no such file.
        LedgerError: when it can't be read.
        IdentityError: naming the file, when it isn't one, or doesn't show that its maker has the
            keys (:class:`PossessionError`).
    """
    try:
        return PartyRequest.from_json(_read(path, "the request "))
    except IdentityError as error:
        raise type(error)(f"{path}: {error}") from error


def _read(path: Path, what: str = "") -> bytes:
    try:
        return _files.read(path, LARGEST)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(
            f"can't read {path}: {error.strerror}; give the file that was handed over"
        ) from error
    except OSError as error:
        raise LedgerError(f"can't read {what}{path}: {error.strerror}") from error


def signed_roster_in(path: Path) -> SignedRoster:
    """Return the signed roster in a file.

    Raises:
        ConfigError: when it can't be read, or isn't a roster.
        IdentityError: when its signature doesn't verify.
        SignerError: when it is of the first version, which nobody signs.
    """
    roster = load_roster(path)
    if not isinstance(roster, SignedRoster):
        raise SignerError(f"{path} is a roster that nobody has signed; ask for a signed one")
    return roster


def unmade(folder: Path, error: OSError) -> FedmodelError:
    """Return what to tell when a folder can't be made."""
    if isinstance(error, FileExistsError | NotADirectoryError) or error.errno == errno.ENOTEMPTY:
        return ConfigError(
            f"{folder} has something else in it; nothing was written. Give the name of a new "
            "folder, home=PATH"
        )
    hint = ""
    if error.errno == errno.EBUSY:
        hint = f". Something is mounted there: give the name of a new folder in it, {folder}/NAME"
    return LedgerError(f"can't make {folder}: {error.strerror}; nothing was left there{hint}")
