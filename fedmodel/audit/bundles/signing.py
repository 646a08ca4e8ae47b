"""Signing of what leaves: a party of the run by its folder, or somebody with a key of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmodel.audit.bundles.statement import Packer
from fedmodel.errors import ConfigError
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.passphrase import read_passphrase

__all__ = ["Who", "named", "signer_of"]

_WORDS = {"as": "signer", "with": "hand_ins"}  # words of Python's


def named(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names that its class has for Python's own words."""
    return {_WORDS.get(key, key): value for key, value in mapping.items()}


# No slots: a verb's own class has this one for a base beside another.
@dataclass(frozen=True, kw_only=True)
class Who:
    """Who signs.

    Args:
        home: folder of the party that signs.
        signer: key file of whoever signs without being one.
        name: of whoever that is.
        passphrase: where the one is read that the key is sealed under.
    """

    home: str | None = None
    signer: str | None = None
    name: str | None = None
    passphrase: str | None = None

    def __post_init__(self) -> None:
        if self.home is not None and self.signer is not None:
            raise ConfigError("one signs it: give home=, or as=, not both")
        if (self.signer is None) is not (self.name is None):
            raise ConfigError('as=<file of your key> and name="YOUR NAME" go together')


def signer_of(who: Who, folder: Path) -> tuple[Packer, SigningKey]:
    """Return who signs, and with which key.

    Args:
        who: as it was asked for.
        folder: of the run, in which a simulation's coordinator has its own.

    Raises:
        ConfigError: when nobody is named, or the file isn't there.
        LedgerError: for a key that can't be read.
        IdentityError: for one that doesn't open.
    """
    passphrase = read_passphrase(who.passphrase)
    if who.signer is not None:
        path = Path(who.signer).expanduser()
        if not path.exists():
            raise ConfigError(
                f"as={who.signer}: there is no such file; make your key: fedmodel site key "
                f'as={who.signer} name="YOUR NAME"'
            )
        signer = SigningKey(kept_secret(path, "key", passphrase=passphrase))
        return Packer(key=signer.public.hex(), role="other", name=str(who.name)), signer
    home = folder / "coordinator" if who.home is None else Path(who.home).expanduser()
    if not (home / "party.json").exists() and (home / "key").exists():
        # A simulation's coordinator has keys, and nobody to ask for a certificate.
        signer = SigningKey(kept_secret(home / "key", "key", passphrase=passphrase))
        return Packer(key=signer.public.hex(), role="coordinator", name="coordinator"), signer
    if not (home / "party.json").exists():
        raise ConfigError(
            f"{home} is no party's folder; say who signs it: home=<the coordinator's folder>, or "
            'as=<file of your key> name="YOUR NAME"'
        )
    party = PartyHome(home)
    owner = party.read().owner
    signer = SigningKey(party.secret("key", passphrase))
    return Packer(key=signer.public.hex(), role=owner.role, name=owner.name), signer
