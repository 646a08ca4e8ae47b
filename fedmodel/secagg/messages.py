"""The protocol's messages: what they say, and their one way of being written.

A message is a line that names version and type, then its canonical JSON (RFC 8785). Only that
very text is read: whoever signs or hashes a message means these bytes. Masked vectors travel
beside their header, as bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import TypeVar

from fedmodel import config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg.fields import VERSION, check_hex, check_members, check_numbers, label

__all__ = [
    "Advert",
    "Consent",
    "Deliver",
    "Manifest",
    "Open",
    "Request",
    "Reveal",
    "Sealed",
    "Share",
    "Shares",
    "Survivors",
    "Upload",
    "decode",
    "digest",
    "encode",
]

_LARGEST = 1 << 26  # bytes of a message; its vector isn't among them
_KEY, _SIGNATURE, _SHARE = 64, 128, 66  # hex digits
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """A site's key for one session.

    Args:
        session: which.
        job: SHA-256 of the job.
        roster: SHA-256 of the roster.
        member: the site's number in it.
        key: its X25519 key.
        closed: the last round of the job in which it has revealed shares; 0: none.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Aggregator → site: a round begins.

    Args:
        manifest: of the attempt.
        adverts: those of the site's neighbours, at least the ones it hasn't seen.
    """

    manifest: Manifest
    adverts: tuple[Advert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Two shares in an envelope.

    Args:
        member: the holder on the way to the coordinator, the owner on the way from it.
        box: the shares, encrypted to the holder.
    """

    member: int
    box: str

    def __post_init__(self) -> None:
        check_members("member", self.member)
        check_hex("box", self.box)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """Site → coordinator: its secrets of this attempt, shared among those who hold them.

    Args:
        manifest: digest of the manifest.
        member: whose secrets.
        boxes: one for each holder but itself, in rising order.
        recovery: the seeds of its masks with each neighbour, encrypted under its recovery key.
        self_commitment: hash of its self seed.
        recovery_commitment: hash of its recovery key.
        signature: of all that by the site.
    """

    manifest: str
    member: int
    boxes: tuple[Sealed, ...]
    recovery: str
    self_commitment: str
    recovery_commitment: str
    signature: str

    def __post_init__(self) -> None:
        for name in ("manifest", "self_commitment", "recovery_commitment"):
            check_hex(name, getattr(self, name), _KEY)
        check_hex("recovery", self.recovery)
        check_hex("signature", self.signature, _SIGNATURE)
        check_members("member", self.member)
        check_numbers("holders", tuple(box.member for box in self.boxes))

    def signed(self) -> bytes:
        """Return what the signature is over."""
        fields = config.to_mapping(self)
        del fields["signature"]
        return label("shares", config.canonical(fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Aggregator → site: who takes part, and the shares that the site is to hold.

    Args:
        manifest: digest of the manifest.
        takers: who has shared its secrets; masks are among them.
        boxes: one from each of the site's neighbours among them, in rising order.
    """

    manifest: str
    takers: tuple[int, ...]
    boxes: tuple[Sealed, ...]

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_numbers("takers", self.takers)
        check_numbers("owners", tuple(box.member for box in self.boxes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Site → coordinator: the header of a masked vector.

    Args:
        manifest: digest of the manifest.
        member: whose it is.
        signature: of those for whom it has masked (:func:`fedmodel.secagg.keys.pledge`).
    """

    manifest: str
    member: int
    signature: str

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_members("member", self.member)
        check_hex("signature", self.signature, _SIGNATURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivors:
    """Aggregator → site: whose masked vectors have come.

    Args:
        manifest: digest of the manifest.
        takers: as it was delivered.
        survivors: those of them whose vectors are in the sum.
    """

    manifest: str
    takers: tuple[int, ...]
    survivors: tuple[int, ...]

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_numbers("takers", self.takers)
        check_numbers("survivors", self.survivors)

    def signed(self) -> bytes:
        """Return what a consent's signature is over."""
        return label("consent", config.canonical(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Site → coordinator, and on to the others: it was told of these survivors.

    In a request also what a site has signed with its vector.

    Args:
        member: who.
        signature: of :meth:`Survivors.signed`, or :func:`fedmodel.secagg.keys.pledge`.
    """

    member: int
    signature: str

    def __post_init__(self) -> None:
        check_members("member", self.member)
        check_hex("signature", self.signature, _SIGNATURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Aggregator → site: it may reveal its shares, for so many have consented.

    Args:
        manifest: digest of the manifest.
        consents: in rising order of members.
        pledges: what the survivors whose shares the site holds have signed with their vectors,
            in rising order of members.
    """

    manifest: str
    consents: tuple[Consent, ...]
    pledges: tuple[Consent, ...]

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_numbers("consents", tuple(c.member for c in self.consents))
        check_numbers("pledges", tuple(c.member for c in self.pledges))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One revealed share.

    Args:
        owner: whose secret it is part of.
        share: the number, big-endian.
    """

    owner: int
    share: str

    def __post_init__(self) -> None:
        check_members("owner", self.owner)
        check_hex("share", self.share, _SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """Site → coordinator: shares of what unmasks the sum.

    Args:
        manifest: digest of the manifest.
        member: who held them.
        self_seeds: of the survivors' self seeds.
        recovery_keys: of the dropped sites' recovery keys.
    """

    manifest: str
    member: int
    self_seeds: tuple[Share, ...]
    recovery_keys: tuple[Share, ...]

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_members("member", self.member)
        check_numbers("owners", tuple(s.owner for s in self.self_seeds))
        check_numbers("owners", tuple(s.owner for s in self.recovery_keys))


_NAMES: dict[type, bytes] = {
    kind: f"{VERSION} {name}\n".encode()
    for kind, name in (
        (Advert, "advert"),
        (Open, "open"),
        (Shares, "shares"),
        (Deliver, "deliver"),
        (Upload, "upload"),
        (Survivors, "survivors"),
        (Consent, "consent"),
        (Request, "request"),
        (Reveal, "reveal"),
    )
}


def encode(message: object) -> bytes:
    """Return a message's bytes."""
    return _NAMES[type(message)] + config.canonical(message)


def decode(kind: type[T], data: bytes) -> T:
    """Return the message in some bytes from outside.

    Raises:
        ProtocolError: unless they are, to the byte, what :func:`encode` makes of a ``kind``.
    """
    name = _NAMES[kind]
    if not data.startswith(name):
        expected, got = name[:-1].decode(), bytes(data[:40]).partition(b"\n")[0]
        raise ProtocolError(f"expected a message {expected!r}, got {got!r}")
    if len(data) > _LARGEST:
        raise ProtocolError(f"a message of {len(data)} bytes; at most {_LARGEST} are accepted")
    try:
        found = config.build(kind, json.loads(data[len(name) :]))
        same = encode(found) == data
    except (ValueError, RecursionError, ConfigError) as error:
        raise ProtocolError(
            f"a malformed message {name[:-1].decode()!r}: {error!s:.300}"
        ) from error
    if not same:
        raise ProtocolError(f"a message {name[:-1].decode()!r} that isn't in canonical form")
    return found


def digest(manifest: Manifest) -> bytes:
    """Return the SHA-256 of what a manifest's signature is over: it names the attempt."""
    return hashlib.sha256(manifest.signed()).digest()
