"""The register of a consortium: who was admitted, whose keys were taken back, the newest roster.

Pure: what changes it returns another one, and nothing is written. Its text is signed, so that
whoever can write the consortium's folder, but hasn't its key, can't put a party into a roster.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from fedmodel import _hazmat, config
from fedmodel.errors import (
    ConfigError,
    IdentityError,
    OutdatedError,
    PossessionError,
    ProtocolError,
    PurposeError,
    RevokedError,
    SignerError,
)
from fedmodel.identity.certificates import (
    DAYS,
    certified_key,
    issue,
    make_authority,
    read_certificate,
)
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.names import require_name
from fedmodel.identity.request import Owner, PartyRequest
from fedmodel.identity.signed_roster import Revoked, SignedMember, SignedRoster
from fedmodel.identity.validity import WARN_DAYS, as_text, as_time

__all__ = ["LARGEST", "Consortium", "Party", "Register"]

LARGEST = 1 << 25  # bytes as text: some ten thousand parties
_DOMAIN = b"fedmodel.register/1\0"
_UNSIGNED = "0" * 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Who was admitted.

    Args:
        owner: who it is.
        key: its public Ed25519 key, hex.
        request: fingerprint of the request that it was admitted by last.
        time: of that request.
        certificate: that was issued for it, PEM.
    """

    owner: Owner
    key: str
    request: str
    time: str
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """What a consortium keeps.

    Args:
        schema: of the file.
        name: of the consortium.
        consortium: its public Ed25519 key, hex.
        authority: certificate of its authority, PEM.
        parties: in the order in which they were admitted.
        revoked: keys that were taken back.
        roster: the newest one, canonical JSON; ``None`` before the first.
        signature: over all of the above, hex; put there as it is written.
    """

    schema: Literal["fedmodel.register/1"] = "fedmodel.register/1"
    name: str
    consortium: str
    authority: str
    parties: tuple[Party, ...] = ()
    revoked: tuple[Revoked, ...] = ()
    roster: str | None = None
    signature: str = _UNSIGNED

    def __post_init__(self) -> None:
        require_name("the consortium's name", self.name)
        config.require_hex("the consortium's key", self.consortium, 64)
        config.require_hex("the register's signature", self.signature, 128)

    def message(self) -> bytes:
        """Return what is signed."""
        return _DOMAIN + config.canonical(replace(self, signature=_UNSIGNED))

    def of_name(self, name: str) -> Party | None:
        """Return the party of a name, if there is one."""
        return next((each for each in self.parties if each.owner.name == name), None)

    def signed_roster(self) -> SignedRoster | None:
        """Return the newest roster, if there is one."""
        return None if self.roster is None else SignedRoster.from_json(self.roster.encode())

    @property
    def complete(self) -> bool:
        """Whether it has a coordinator and a site: what a roster needs."""
        return len({each.owner.role for each in self.parties}) == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Consortium:
    """A consortium at work: its secrets, and its register.

    Args:
        signer: signs rosters.
        seed: of its authority's key.
        register: as it stands.
    """

    signer: SigningKey
    seed: bytes = field(repr=False)
    register: Register

    @classmethod
    def new(cls, name: str, signer: SigningKey, seed: bytes, now: datetime) -> "Consortium":
        """Return a consortium without parties.

        Args:
            name: of the consortium.
            signer: signs rosters.
            seed: of its authority's key.
            now: the time.
        """
        authority = make_authority(seed, signer.fingerprint, now)
        register = Register(name=name, consortium=signer.public.hex(), authority=authority)
        return cls(signer=signer, seed=seed, register=register)

    @classmethod
    def read(cls, text: bytes, signer: SigningKey, seed: bytes) -> "Consortium":
        """Return the consortium of a register, once that has verified.

        Args:
            text: of the register.
            signer: signs rosters.
            seed: of its authority's key.

        Raises:
            IdentityError: when it isn't this consortium's register, or was changed, or the seed is
                another authority's.
        """
        try:
            register = config.parse(lambda m: config.build(Register, m), text)
            signature = bytes.fromhex(register.signature)
            _hazmat.ed25519_verify(signer.public, register.message(), signature)
        except (ConfigError, ProtocolError) as error:
            raise IdentityError(
                f"the register isn't this consortium's, or was changed ({error}); restore it from "
                "a copy, and find out who has changed it"
            ) from error
        if read_certificate(register.authority).key != certified_key(seed):
            raise IdentityError(
                "the authority's key isn't the one of its certificate in the register; restore it "
                "from a copy"
            )
        register = replace(register, signature=_UNSIGNED)
        return cls(signer=signer, seed=seed, register=register)

    def to_json(self) -> bytes:
        """Return the register, signed, as canonical JSON (RFC 8785)."""
        signature = self.signer.sign(self.register.message()).hex()
        return config.canonical(replace(self.register, signature=signature))

    def unconfirmed(self, request: PartyRequest) -> str | None:
        """Return why somebody must confirm a request's fingerprint; ``None``: nobody need.

        Raises:
            IdentityError: as :meth:`admit` does.
        """
        known = self._check(request)
        if known is None:
            return "it is new here"
        if known.request == request.fingerprint:
            return None
        if known.key != request.key:
            return "it brings a new identity key"
        return None if known.owner == request.owner else "it changes its name in TLS or its seal"

    def admit(self, request: PartyRequest, now: datetime, days: int = DAYS) -> "Consortium":
        """Return the consortium with a party admitted, or renewed, and a certificate issued for it.

        A request that was admitted already changes nothing.

        Args:
            request: whose fingerprint somebody has confirmed, where that is needed.
            now: the time.
            days: that the certificate is good for.

        Raises:
            PossessionError: when it doesn't show that its owner has the keys, also the old one.
            SignerError: when it renews another key than the party's.
            RevokedError: when its key, or the one that it renews, was taken back.
            PurposeError: when it is for another role than the party has.
            OutdatedError: when it is older than the one that the party was admitted by.
            ConfigError: when another party has its name in TLS or its key, or it is a second
                coordinator.
        """
        known, register = self._check(request), self.register
        if known is not None and known.request == request.fingerprint:
            return self
        certificate = issue(
            register.authority,
            self.seed,
            request.certificate_request,
            subject=request.identity,
            name=request.owner.tls,
            purpose=request.owner.role,
            now=now,
            days=days,
        )
        party = Party(
            owner=request.owner,
            key=request.key,
            request=request.fingerprint,
            time=request.time,
            certificate=certificate,
        )
        if known is None:
            return self._with(parties=(*register.parties, party))
        parties = tuple(party if each is known else each for each in register.parties)
        replaced = [known] if known.key != party.key else []
        return self._with(parties=parties, revoked=self._revoked(replaced))

    def revoke(self, name: str) -> "Consortium":
        """Return the consortium without a party, whose key is never on a roster again.

        Raises:
            ConfigError: when nobody is called so.
        """
        party = self.register.of_name(name)
        if party is None:
            if gone := [each for each in self.register.revoked if each.name == name]:
                raise ConfigError(
                    f"{name!r} is revoked already, since version {gone[-1].version} of the roster; "
                    "send that or a later one to everybody"
                )
            names = [each.owner.name for each in self.register.parties]
            raise ConfigError(
                f"nobody on the register is called {name!r}{config.suggest(name, names)}; there "
                f"are: {', '.join(names) or 'none'}"
            )
        parties = tuple(each for each in self.register.parties if each is not party)
        return self._with(parties=parties, revoked=self._revoked([party]))

    def without(self, names: Collection[str]) -> "Consortium":
        """Return the consortium without the parties of some names; they may come back."""
        kept = tuple(each for each in self.register.parties if each.owner.name not in names)
        return self._with(parties=kept)

    def issued(self, now: datetime, days: int = DAYS, *, anew: bool = False) -> "Consortium":
        """Return the consortium with a roster of all its parties.

        It is the one before where that says the same and has more than 30 days, and where there is
        no coordinator or no site, without whom there is none.

        Args:
            now: the time.
            days: that a new roster is good for.
            anew: issue one whatever the one before says.
        """
        if not self.register.complete:
            return self
        before = self.register.signed_roster()
        version = 1 if before is None else before.version + 1
        if before is not None and not anew and self._still_good(before, now):
            return self
        made = self._roster(version, as_text(now), as_text(now + timedelta(days=days)))
        return self._with(roster=made.signed(self.signer).to_json().decode())

    def _still_good(self, before: SignedRoster, now: datetime) -> bool:
        same = self._roster(before.version, before.issued, before.expires)
        left = as_time(before.expires) - now
        return same == replace(before, signature=_UNSIGNED) and left > timedelta(days=WARN_DAYS)

    def _roster(self, version: int, issued: str, expires: str) -> SignedRoster:
        register = self.register
        (coordinator,) = (each for each in register.parties if each.owner.role == "coordinator")
        sites = [each for each in register.parties if each.owner.role == "site"]
        return SignedRoster(
            name=register.name,
            version=version,
            issued=issued,
            expires=expires,
            consortium=register.consortium,
            authority=register.authority,
            coordinator=coordinator.key,
            coordinator_name=coordinator.owner.name,
            coordinator_tls=coordinator.owner.tls,
            seal=str(coordinator.owner.seal),
            members=tuple(
                SignedMember(name=each.owner.name, key=each.key, tls=each.owner.tls)
                for each in sites
            ),
            revoked=register.revoked,
        )

    def _check(self, request: PartyRequest) -> Party | None:
        """Return the party that asks, if it is known, once it may ask for this."""
        request.verify()
        gone = {each.key: each for each in self.register.revoked}
        known = self.register.of_name(request.owner.name)
        for key in (request.key, request.renews):
            if key in gone and not (known and known.request == request.fingerprint):
                raise RevokedError(
                    f"the key of {gone[str(key)].name!r} in this request was taken back in version "
                    f"{gone[str(key)].version} of the roster; ask for a request with new keys"
                )
        if known is None:
            self._check_new(request)
        elif known.request != request.fingerprint:
            _check_renewal(request, known)
            self._check_apart(request, known)
        return known

    def _check_new(self, request: PartyRequest) -> None:
        owner = request.owner
        # Signed by itself alone it is a first request to whoever doesn't know it yet.
        if request.renews not in (None, request.key):
            raise SignerError(
                f"nobody on the register is called {owner.name!r}, so there is no key to renew; "
                "ask for a first request"
            )
        if owner.role == "coordinator" and any(
            each.owner.role == "coordinator" for each in self.register.parties
        ):
            raise ConfigError("the register has a coordinator; revoke that one first")
        self._check_apart(request, None)

    def _check_apart(self, request: PartyRequest, known: Party | None) -> None:
        if request.key == self.register.consortium:
            raise ConfigError("the request has the consortium's own key; expected its owner's own")
        for each in self.register.parties:
            if each is known:
                continue
            if each.key == request.key:
                raise ConfigError(f"{each.owner.name!r} has the same key; expected each one's own")
            if each.owner.tls == request.owner.tls:
                raise ConfigError(
                    f"{each.owner.name!r} has the TLS name {each.owner.tls}; ask for a request "
                    "with another (tls=NAME)"
                )

    def _revoked(self, parties: Collection[Party]) -> tuple[Revoked, ...]:
        before = self.register.signed_roster()
        version = 1 if before is None else before.version + 1
        new = (Revoked(name=p.owner.name, key=p.key, version=version) for p in parties)
        return (*self.register.revoked, *new)

    def _with(self, **changes: Any) -> "Consortium":
        return replace(self, register=replace(self.register, **changes))


def _check_renewal(request: PartyRequest, known: Party) -> None:
    name = known.owner.name
    if request.renews is None:
        raise PossessionError(
            f"{name!r} is on the register, and this request isn't signed by the key that it has "
            "there; ask for one made with renew=tls, or, where that key is lost, revoke it first"
        )
    if request.renews != known.key:
        raise SignerError(
            f"the request renews another key than {name!r} has on the register; ask its owner "
            "whether an older one of it has come late"
        )
    if request.owner.role != known.owner.role:
        raise PurposeError(
            f"{name!r} is a {known.owner.role}, and the request is a {request.owner.role}'s"
        )
    if as_time(request.time) < as_time(known.time):
        raise OutdatedError(
            f"the request is from {request.time}, and {name!r} was admitted by one from "
            f"{known.time}; ask for a new one"
        )
