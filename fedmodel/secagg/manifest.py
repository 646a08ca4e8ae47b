"""Manifests and adverts: what one attempt is about, and by which keys; both are signed."""

import hashlib
from dataclasses import dataclass

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.secagg.fields import check_hex, check_members, check_numbers, label

__all__ = ["Advert", "Manifest", "digest"]

_KEY, _SIGNATURE = 64, 128  # hex digits


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """A site's key for one session.

    Args:
        session: which.
        job: SHA-256 of the job.
        roster: SHA-256 of the roster.
        member: the site's number in it.
        key: its X25519 key.
        closed: the last round of the job in which it has signed a set of survivors; 0: none.
        signature: of all that by the key that the roster gives it.
    """

    session: str
    job: str
    roster: str
    member: int
    key: str
    closed: int
    signature: str

    def __post_init__(self) -> None:
        for name in ("session", "job", "roster", "key"):
            check_hex(name, getattr(self, name), _KEY)
        check_hex("signature", self.signature, _SIGNATURE)
        check_members("member", self.member)
        if not 0 <= self.closed < 1 << 31:
            raise ConfigError(f"closed must be a round, or 0, got {self.closed}")

    def signed(self) -> bytes:
        """Return what the signature is over."""
        ids = (bytes.fromhex(h) for h in (self.session, self.job, self.roster, self.key))
        return label("advert", *ids, self.member, self.closed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one attempt of one round is about, by the coordinator.

    Args:
        version: of the protocol.
        session: as in an advert; so are ``job`` and ``roster``.
        job: see there.
        roster: see there.
        round: of the run.
        attempt: of the round, 1 for the first.
        model: SHA-256 of the parameters that the sites start from.
        cohort: who is invited.
        keys: the X25519 key of each of them for this session, in the same order.
        survivors: see :class:`fedmodel.secagg.agreement.Agreement`; so are the others below.
        colluders: see there.
        threshold: see there.
        bits: see there.
        count: see there.
        signature: of all that by the key that the roster gives the coordinator.
    """

    version: str
    session: str
    job: str
    roster: str
    round: int
    attempt: int
    model: str
    cohort: tuple[int, ...]
    keys: tuple[str, ...]
    survivors: int
    colluders: int
    threshold: int
    bits: int
    count: int
    signature: str

    def __post_init__(self) -> None:
        for name in ("session", "job", "roster", "model"):
            check_hex(name, getattr(self, name), _KEY)
        check_hex("signature", self.signature, _SIGNATURE)
        check_numbers("cohort", self.cohort)
        for key in self.keys:
            check_hex("a key", key, _KEY)
        if len(self.keys) != len(self.cohort):
            raise ConfigError(f"{len(self.keys)} keys for {len(self.cohort)} sites of a cohort")
        for name in ("round", "attempt", "survivors", "threshold", "bits", "count"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    def signed(self) -> bytes:
        """Return what the signature is over."""
        fields = config.to_mapping(self)
        del fields["signature"]
        return label("manifest", config.canonical(fields))


def digest(manifest: Manifest) -> bytes:
    """Return the SHA-256 of what a manifest's signature is over: it names the attempt."""
    return hashlib.sha256(manifest.signed()).digest()
