"""An attempt on disk: what a coordinator needs to ask for a sum's reveals again.

Between the consents and the sum all has been paid for, and the sites repeat nothing but their
replies. A coordinator that dies then asks again with the very requests; so they must come out of
what is stored here to the byte. No secret of a site is in it: the masked sum, signatures,
commitments, and what sites had left under keys that only reveals open.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedmodel import config
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg.aggregator import Attempt
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.manifest import Manifest
from fedmodel.secagg.masking import Sum
from fedmodel.secagg.messages import Consent, Pledge, Shares

__all__ = ["restored", "stored"]

_SCHEMA = "fedmodel.attempt/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    schema: str
    manifest: Manifest
    takers: tuple[int, ...]
    survivors: tuple[int, ...]
    shares: tuple[Shares, ...]
    pledges: tuple[Pledge, ...]
    consents: tuple[Consent, ...]


def stored(attempt: Attempt) -> list[bytes | memoryview]:
    """Return an attempt whose consents are closed, as parts of a file.

    Raises:
        ProtocolError: for one at another stage.
    """
    if attempt._stage != "reveals" or attempt._sum is None:
        raise ProtocolError("only an attempt whose consents are closed is stored")
    record = _Record(
        schema=_SCHEMA,
        manifest=attempt.manifest,
        takers=attempt.takers,
        survivors=attempt.survivors,
        # Their holders have the envelopes.
        shares=tuple(replace(attempt._shares[n], boxes=()) for n in sorted(attempt._shares)),
        pledges=tuple(attempt._pledges[n] for n in sorted(attempt._pledges)),
        consents=tuple(attempt._consents[n] for n in sorted(attempt._consents)),
    )
    text, masked = config.canonical(record), attempt._sum.masked()
    digest = hashlib.sha256(text)
    digest.update(masked)
    return [f"{_SCHEMA} {digest.hexdigest()} {len(text)}\n".encode(), text, masked]


def restored(data: bytes, members: Mapping[int, bytes], blame: Blame) -> Attempt | None:
    """Return the attempt in a file; ``None``: it isn't whole, as after a power cut.

    Args:
        data: of the file.
        members: number → Ed25519 public key, from the roster.
        blame: takes whose shares are found to be wrong.
    """
    head, _, rest = data.partition(b"\n")
    words = head.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != _SCHEMA or not words[2].isdecimal():
        return None
    if hashlib.sha256(rest).hexdigest() != words[1]:
        return None
    try:
        record = config.build(_Record, json.loads(rest[: int(words[2])]))
    except (ValueError, ConfigError):
        return None
    made = Attempt(record.manifest, {}, members, blame)
    made.takers, made.survivors = record.takers, record.survivors
    made._shares = {each.member: each for each in record.shares}
    made._pledges = {each.member: each for each in record.pledges}
    made._consents = {each.member: each for each in record.consents}
    made._sum = Sum.of_masked(
        np.frombuffer(rest, "<u4", offset=int(words[2])).copy(), record.manifest.bits
    )
    made._stage = "reveals"
    return made
