"""Provision of keys in a simulation: a coordinator's, a consortium's, and the roster of all.

One person plays all parts here, through the functions by which a real consortium does it: every
party asks by a signed request, is admitted, and is on a signed roster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel import _files
from fedmodel._hazmat import x25519_public
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.register import LARGEST, Consortium
from fedmodel.identity.request import Owner, PartyRequest
from fedmodel.identity.roster import Roster
from fedmodel.identity.signed_roster import SignedRoster, load_roster
from fedmodel.identity.validity import utc_now
from fedmodel.seeds import Entropy

__all__ = ["CoordinatorKeys", "default_tls_name", "provision"]


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


def default_tls_name(role: str, key: SigningKey) -> str:
    """Return a party's name in TLS, where it has given none: good for whoever isn't dialled."""
    return f"{role}-{key.fingerprint[:16]}"


def provision(home: Path, sites: Mapping[str, SigningKey], entropy: Entropy) -> CoordinatorKeys:
    """Return a coordinator's keys, made at the first time, and a signed roster of it and the sites.

    The same sites get the same roster again, as long as that is good; others get the next version.
    Where the coordinator has a roster that was handed out to it, it is that one.

    Args:
        home: folder of the coordinator's keys; made when it is missing. The consortium's are in
            ``consortium`` in it.
        sites: name → signing key.
        entropy: draws missing keys.

    Raises:
        LedgerError: when a key can't be read or written.
        IdentityError: when the register isn't this consortium's, or was changed.
        ConfigError: when others may read a key, the names or keys can't be on a roster, or the one
            that was handed out lists others.
    """
    if not sites:
        raise ConfigError("a roster has at least 1 member, got none; add the sites")
    consortium = home / "consortium"
    try:
        _files.make_folder(home)
        with _files.locked(home / ".lock", write=True):
            signer = SigningKey(kept_secret(home / "key", "key", entropy))
            seal = kept_secret(home / "seal-key", "seal-key", entropy)
            if (home / "roster.json").exists():
                roster: Roster = _handed_out(home / "roster.json", signer, seal, sites)
            else:
                _files.make_folder(consortium)
                roster = _issued(consortium, _parties(signer, seal, sites), entropy)
    except OSError as error:
        raise LedgerError(f"can't write {home}: {error.strerror}") from error
    return CoordinatorKeys(roster=roster, signer=signer, seal=seal)


def _handed_out(
    path: Path, signer: SigningKey, seal: bytes, sites: Mapping[str, SigningKey]
) -> Roster:
    """Return the coordinator's own roster, if it is of these parties.

    Raises:
        ConfigError: if it isn't.
    """
    roster = load_roster(path)
    if (roster.coordinator, roster.seal) != (signer.public.hex(), x25519_public(seal).hex()):
        raise ConfigError(f"{path} has other keys of the coordinator than {path.parent} has")
    listed = {member.name: member.key for member in roster.members}
    if listed != {name: key.public.hex() for name, key in sites.items()}:
        raise ConfigError(
            f"{path} lists {', '.join(sorted(listed))}, by keys of their own, and the simulation's "
            f"sites are {', '.join(sorted(sites))}; simulate those that it lists, with state= the "
            "folder of them all, or leave state out"
        )
    return roster


def _parties(
    signer: SigningKey, seal: bytes, sites: Mapping[str, SigningKey]
) -> list[tuple[Owner, SigningKey]]:
    coordinator = Owner(
        role="coordinator",
        name="coordinator" if "coordinator" not in sites else "coordinator of the sites",
        tls=default_tls_name("coordinator", signer),
        seal=x25519_public(seal).hex(),
    )
    parties = [(coordinator, signer)]
    for name, key in sorted(sites.items()):
        parties.append((Owner(role="site", name=name, tls=default_tls_name("site", key)), key))
    return parties


def _issued(
    home: Path, parties: Sequence[tuple[Owner, SigningKey]], entropy: Entropy
) -> SignedRoster:
    """Return the consortium's roster of these parties; its register is written where it is new."""
    signer = SigningKey(kept_secret(home / "consortium-key", "consortium-key", entropy))
    seed = kept_secret(home / "authority-key", "authority-key", entropy)
    before = None
    try:
        before = Consortium.read(_files.read(home / "register.json", LARGEST), signer, seed)
    except FileNotFoundError:
        consortium = Consortium.new("simulation", signer, seed, utc_now())
    else:
        consortium = before
    after = _with_only(consortium, parties, entropy).issued(utc_now())
    if after != before:
        _files.write_atomic(home / "register.json", after.to_json())
    roster = after.register.signed_roster()
    if roster is None:  # it has a coordinator and a site
        raise ConfigError("no roster was issued; report this as a mistake of fedmodel")
    return roster


def _with_only(
    consortium: Consortium, parties: Sequence[tuple[Owner, SigningKey]], entropy: Entropy
) -> Consortium:
    """Return the consortium with these parties. Nobody dials them: TLS keys are thrown away."""
    keys = {owner.name: key.public.hex() for owner, key in parties}
    others = {
        each.owner.name
        for each in consortium.register.parties
        if keys.get(each.owner.name) != each.key
    }
    consortium = consortium.without(others)
    for owner, key in parties:
        if consortium.register.of_name(owner.name) is None:
            request = PartyRequest.make(owner, key, entropy.bytes(32), utc_now())
            consortium = consortium.admit(request, utc_now())
    return consortium
