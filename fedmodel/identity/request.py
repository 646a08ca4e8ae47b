"""Requests of a party: to be on the roster, or to stay on it with new keys.

A request shows that whoever makes it has the private keys: its identity signs it, its TLS key signs
the certificate request in it, which names that identity. One that renews is also signed by the key
that is on the roster. What it can't show is who that is: its fingerprint covers all of it, and its
owner reads it out.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fedmodel import _hazmat, config
from fedmodel._text import one_form
from fedmodel.errors import ConfigError, IdentityError, PossessionError, ProtocolError
from fedmodel.identity.certificates import Purpose, check_request, make_request
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.names import require_name, require_tls_name
from fedmodel.identity.validity import as_text, as_time

__all__ = ["Owner", "PartyRequest"]

LARGEST = 1 << 14  # bytes as text; one of ours has some 1,500
_DOMAIN = b"fedmodel.request/1\0"
_RENEWAL = b"fedmodel.renewal/1\0"
_UNSIGNED = "0" * 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a party is known by, and may tell everybody.

    Args:
        role: ``site`` or ``coordinator``.
        name: for people.
        tls: its name in TLS.
        seal: public X25519 key of a coordinator, hex; ``None`` for a site.
    """

    role: Purpose
    name: str
    tls: str
    seal: str | None = None

    def __post_init__(self) -> None:
        require_name(f"the {self.role}'s name", self.name)
        if one_form(self.name) != self.name:
            raise ConfigError(
                f"the {self.role}'s name must be in one form (NFC, one blank between words), got "
                f"{self.name!r}"
            )
        require_tls_name(f"the {self.role}'s TLS name", self.tls)
        if (self.seal is not None) != (self.role == "coordinator"):
            raise ConfigError("a coordinator has a seal key, and nobody else has one")
        if self.seal is not None:
            config.require_hex("the coordinator's seal key", self.seal, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyRequest:
    """What a party asks the consortium for.

    Args:
        schema: of the request.
        owner: who asks.
        key: its public Ed25519 key, hex.
        certificate_request: for its TLS key, PEM.
        time: when it was made, by its own clock, UTC.
        renews: its key that is on the roster (the same, where only the TLS key is new), hex;
            ``None``: it isn't on the roster yet.
        signature: by ``key`` over all of the above, hex.
        renewal: by ``renews``, likewise; ``None`` without.
    """

    schema: Literal["fedmodel.request/1"] = "fedmodel.request/1"
    owner: Owner
    key: str
    certificate_request: str
    time: str
    renews: str | None = None
    signature: str = _UNSIGNED
    renewal: str | None = None

    def __post_init__(self) -> None:
        config.require_hex("the party's key", self.key, 64)
        config.require_hex("the signature", self.signature, 128)
        as_time(self.time)
        if self.renews is not None:
            config.require_hex("the key that is renewed", self.renews, 64)
        if self.renewal is not None:
            config.require_hex("the renewal's signature", self.renewal, 128)

    @classmethod
    def make(
        cls,
        owner: Owner,
        signer: SigningKey,
        tls_seed: bytes,
        now: datetime,
        *,
        renews: SigningKey | None = None,
    ) -> "PartyRequest":
        """Return a signed request.

        Args:
            owner: who asks.
            signer: its identity from now on.
            tls_seed: of its TLS key.
            now: the time.
            renews: its identity that is on the roster.
        """
        request = cls(
            owner=owner,
            key=signer.public.hex(),
            certificate_request=make_request(tls_seed, signer.fingerprint, owner.tls),
            time=as_text(now),
            renews=None if renews is None else renews.public.hex(),
        )
        body = request._body()
        return replace(
            request,
            signature=signer.sign(_DOMAIN + body).hex(),
            renewal=None if renews is None else renews.sign(_RENEWAL + body).hex(),
        )

    @property
    def fingerprint(self) -> str:
        """What its owner reads out: 128 bits of a hash over all of it, hex."""
        return config.sha256(_DOMAIN + self.to_json())[:32]

    @property
    def identity(self) -> str:
        """Fingerprint of its key."""
        return _hazmat.fingerprint(bytes.fromhex(self.key))

    def _body(self) -> bytes:
        return config.canonical(replace(self, signature=_UNSIGNED, renewal=None))

    def verify(self) -> None:
        """Check that whoever asks has the private keys.

        Raises:
            PossessionError: when a signature isn't there or doesn't verify.
            IdentityError: when it isn't for a P-256 key.
        """
        signed = [("its own key", self.key, _DOMAIN, self.signature)]
        if self.renews is not None or self.renewal is not None:
            told = (self.renews or self.key, _RENEWAL, self.renewal or _UNSIGNED)
            signed.append(("the key that it renews", *told))
        for whose, key, domain, signature in signed:
            try:
                message = domain + self._body()
                _hazmat.ed25519_verify(bytes.fromhex(key), message, bytes.fromhex(signature))
            except ProtocolError as error:
                raise PossessionError(
                    f"the request isn't signed by {whose}: whoever asks may not have it, or the "
                    "request was changed on its way; ask for it again"
                ) from error
        check_request(self.certificate_request, self.identity)

    def to_json(self) -> bytes:
        """Return the request as canonical JSON (RFC 8785)."""
        return config.canonical(self)

    @classmethod
    def from_json(cls, text: bytes) -> "PartyRequest":
        """Return the request in a text, once it has verified.

        Raises:
            IdentityError: when it isn't one.
            PossessionError: when it doesn't show that its owner has the private keys.
        """
        if len(text) > LARGEST:
            raise IdentityError(f"a request has at most {LARGEST} bytes, got {len(text)} or more")
        try:
            request = config.parse(lambda m: config.build(cls, m), text)
        except ConfigError as error:
            raise IdentityError(f"not a request of this version: {error}") from error
        request.verify()
        return request
