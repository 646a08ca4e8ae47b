"""Provision of keys: a coordinator's own, and the roster of all who take part.

A consortium does it once. In a simulation the same function plays its part.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel._files import make_folder
from fedmodel._hazmat import x25519_public
from fedmodel.errors import LedgerError
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.roster import Member, Roster
from fedmodel.seeds import Entropy

__all__ = ["CoordinatorKeys", "provision"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorKeys:
    """What a coordinator is known by, and the roster of all.

    Args:
        roster: who may take part, by which key.
        signer: the coordinator's signing key.
        seal: its X25519 private key that updates are sealed to, 32 bytes.
    """

    roster: Roster
    signer: SigningKey
    seal: bytes = field(repr=False)


def provision(home: Path, sites: Mapping[str, str], entropy: Entropy) -> CoordinatorKeys:
    """Return a coordinator's keys, made at the first time, and a roster of it and the sites.

    Args:
        home: folder of the coordinator's keys; made when it is missing.
        sites: name → public signing key (hex).
        entropy: draws missing keys.

    Raises:
        LedgerError: when a key can't be read or written.
        ConfigError: when others may read a key, or the names or keys can't be on a roster.
    """
    try:
        make_folder(home)
    except OSError as error:
        raise LedgerError(f"can't write {home}: {error.strerror}") from error
    signer = SigningKey(kept_secret(home / "key", "key", entropy))
    seal = kept_secret(home / "seal-key", "seal-key", entropy)
    members = tuple(Member(name=name, key=key) for name, key in sorted(sites.items()))
    roster = Roster(
        coordinator=signer.public.hex(), seal=x25519_public(seal).hex(), members=members
    )
    return CoordinatorKeys(roster=roster, signer=signer, seal=seal)
