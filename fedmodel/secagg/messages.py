"""The protocol's messages: what they say, and their one way of being written.

A message is a line that names version and type, then its canonical JSON (RFC 8785). Only that
very text is read: whoever signs or hashes a message means these bytes. Masked vectors travel
beside their header, as bytes.
"""

import json
from dataclasses import dataclass
from typing import TypeVar

from fedmodel import config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg.fields import VERSION, check_hex, check_members, check_numbers, label
from fedmodel.secagg.manifest import Advert, Manifest, digest
from fedmodel.secagg.shamir import in_field

__all__ = [
    "Advert",
    "Consent",
    "Deliver",
    "Manifest",
    "Open",
    "Pledge",
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
    "largest",
]

_KEY, _SIGNATURE, _SHARE = 64, 128, 66  # hex digits
T = TypeVar("T")


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
        pairs: hash of each of those seeds, one after the other: the neighbour's is the same.
        self_commitment: hash of its self seed.
        recovery_commitment: hash of its recovery key.
        signature: of all that by the site.
    """

    manifest: str
    member: int
    boxes: tuple[Sealed, ...]
    recovery: str
    pairs: str
    self_commitment: str
    recovery_commitment: str
    signature: str

    def __post_init__(self) -> None:
        for name in ("manifest", "self_commitment", "recovery_commitment"):
            check_hex(name, getattr(self, name), _KEY)
        check_hex("recovery", self.recovery)
        check_hex("pairs", self.pairs)
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
        vector: SHA-256 of the masked vector.
        signature: of that, and for whom it has masked (:func:`fedmodel.secagg.keys.pledge`).
    """

    manifest: str
    member: int
    vector: str
    signature: str

    def __post_init__(self) -> None:
        check_hex("manifest", self.manifest, _KEY)
        check_hex("vector", self.vector, _KEY)
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

    Args:
        member: who.
        signature: of :meth:`Survivors.signed`.
    """

    member: int
    signature: str

    def __post_init__(self) -> None:
        check_members("member", self.member)
        check_hex("signature", self.signature, _SIGNATURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pledge:
    """What a site has signed with its vector, on its way to those who hold its shares.

    Args:
        member: who.
        vector: SHA-256 of the masked vector.
        signature: of :func:`fedmodel.secagg.keys.pledge`.
    """

    member: int
    vector: str
    signature: str

    def __post_init__(self) -> None:
        check_members("member", self.member)
        check_hex("vector", self.vector, _KEY)
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
    pledges: tuple[Pledge, ...]

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
        if not in_field(bytes.fromhex(self.share)):
            raise ConfigError("share must be a number of the field")


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


# Name of each kind, and its bytes at most: its own, and those for each site of the roster.
_KINDS: tuple[tuple[type, str, int, int], ...] = (
    (Advert, "advert", 1024, 0),
    (Open, "open", 2048, 640),
    (Shares, "shares", 1024, 384),
    (Deliver, "deliver", 512, 256),
    (Upload, "upload", 1024, 0),
    (Survivors, "survivors", 512, 16),
    (Consent, "consent", 512, 0),
    (Request, "request", 512, 448),
    (Reveal, "reveal", 512, 128),
)
_NAMES = {kind: f"{VERSION} {name}\n".encode() for kind, name, _, _ in _KINDS}
_LIMITS = {kind: (own, each) for kind, _, own, each in _KINDS}
_FEW = 1000  # sites, for those who know of no roster


def largest(kind: type, sites: int) -> int:
    """Return how many bytes a message has at most; a masked vector isn't among them.

    Args:
        kind: of message.
        sites: in the roster.
    """
    own, each = _LIMITS[kind]
    return own + each * sites


def encode(message: object) -> bytes:
    """Return a message's bytes."""
    return _NAMES[type(message)] + config.canonical(message)


def decode(kind: type[T], data: bytes, sites: int = _FEW) -> T:
    """Return the message in some bytes from outside.

    Args:
        kind: that is expected.
        data: any bytes. Their number is looked at before anything is made of them.
        sites: in the roster: no honest message tells of more.

    Raises:
        ProtocolError: unless they are, to the byte, what :func:`encode` makes of a ``kind``.
    """
    name, most = _NAMES[kind], largest(kind, sites)
    if not data.startswith(name):
        expected, got = name[:-1].decode(), bytes(data[:40]).partition(b"\n")[0]
        raise ProtocolError(f"expected a message {expected!r}, got {got!r}")
    if len(data) > most:
        raise ProtocolError(
            f"a message {name[:-1].decode()!r} of {len(data)} bytes; among {sites} sites it has "
            f"at most {most}"
        )
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
