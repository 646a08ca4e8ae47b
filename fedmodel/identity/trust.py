"""Trust of a party: whose rosters it takes, and the newest it has seen. Older ones are refused.

A roster that was current once stays rightly signed for ever; whoever hands an old one out would
bring a revoked site back. So the highest version is on disk before a roster is used.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import (
    ConfigError,
    EquivocationError,
    IdentityError,
    LedgerError,
    OutdatedError,
    SignerError,
)
from fedmodel.identity.roster import Roster
from fedmodel.identity.signed_roster import SignedRoster

__all__ = ["TRUST", "Trust", "accept", "read_trust"]

TRUST = "trust.json"  # in a party's folder

_LARGEST = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a party knows of its consortium.

    Args:
        schema: of the file.
        consortium: its public Ed25519 key, hex.
        version: highest of its rosters that was seen.
        roster: SHA-256 of that roster, hex.
    """

    schema: Literal["fedmodel.trust/1"] = "fedmodel.trust/1"
    consortium: str
    version: int
    roster: str

    def __post_init__(self) -> None:
        config.require_hex("the consortium's key", self.consortium, 64)
        config.require_hex("the roster's hash", self.roster, 64)

    def check(self, roster: SignedRoster, now: datetime) -> None:
        """Check that a roster is the consortium's, good now, and not older than what was seen.

        Raises:
            SignerError: when another key has signed it.
            ExpiredError: when its time is over, or hasn't begun.
            OutdatedError: when a newer one was seen.
            EquivocationError: when another one of the same version was seen.
        """
        roster.check(self.consortium, now)
        if roster.version < self.version:
            raise OutdatedError(
                f"this is version {roster.version} of the roster of {roster.name!r}, and version "
                f"{self.version} was seen here; take the newest one"
            )
        if roster.version == self.version and roster.sha256 != self.roster:
            raise EquivocationError(
                f"the consortium has signed two different rosters of version {self.version} "
                f"({self.roster[:16]}… was seen here, this one is {roster.sha256[:16]}…); ask it "
                "why before you use either"
            )


def read_trust(path: Path) -> Trust | None:
    """Return what is known of the consortium; ``None`` where there is no file.

    Raises:
        LedgerError: when it can't be read.
        IdentityError: when it isn't such a file.
    """
    try:
        text = _files.read(path, _LARGEST)
        return config.parse(lambda m: config.build(Trust, m), text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerError(f"can't read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise IdentityError(
            f"{path} isn't a file of this version ({error}); restore it from a copy. It says which "
            "rosters are too old to be used"
        ) from error


def accept(path: Path, roster: Roster, now: datetime, *, confirmed: bool = False) -> None:
    """Take a roster: from now on older ones are refused, and other consortia's.

    Args:
        path: of the file; its folder exists.
        roster: to take.
        now: the time.
        confirmed: somebody has compared the fingerprint of the consortium's key that it names:
            needed for the first roster.

    Raises:
        ConfigError: for a first roster without a confirmed key.
        SignerError: when another key has signed it, or none (a roster of the first version).
        ExpiredError: when its time is over, or hasn't begun.
        OutdatedError: when a newer one was seen.
        EquivocationError: when another one of the same version was seen.
        LedgerError: when the file can't be read or written.
    """
    if not isinstance(roster, SignedRoster):
        raise SignerError(
            f"expected a roster that the consortium has signed ({SignedRoster.FORMAT}), got one of "
            f"{roster.format}, which nobody signs; ask the consortium for a signed one"
        )
    try:
        with _files.locked(path.with_name(".trust.lock"), write=True):
            known = read_trust(path)
            if known is None and not confirmed:
                raise ConfigError(
                    "this is the first roster here, and nobody has confirmed the consortium's key"
                )
            new = Trust(consortium=roster.consortium, version=roster.version, roster=roster.sha256)
            (known or new).check(roster, now)
            if new != known:
                _files.write_atomic(path, config.canonical(new), mode=0o600)
    except OSError as error:
        raise LedgerError(f"can't write {path}: {error.strerror}") from error
