"""The coordinator's own ledger as it is shown to a site, and what the site says of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from flwr.app import ConfigRecord, RecordDict

from fedmodel.errors import ProtocolError
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.wire.records import checked_field, checked_record

__all__ = ["MOST_PROOFS", "Shown", "decode_seen", "decode_shown", "say_seen", "show"]

MOST_PROOFS = 32
_LONGEST = MOST_PROOFS * 64 * 66  # characters of all proofs
_SIZE = re.compile(r"[1-9][0-9]{0,14}")
_HEAD, _PROOFS, _SEEN = "own-head", "own-proofs", "own-seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a coordinator shows of its ledger of a run.

    Args:
        head: signed, of all that is in it.
        proofs: entries of an older head → the proof (hex) that it has grown from there. There is
            one for each that the site may have seen last: an answer may have been lost.
    """

    head: TreeHead
    proofs: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def show(content: RecordDict, shown: Shown | None) -> RecordDict:
    """Add what is shown to the content of a message, and return it.

    Args:
        content: of an order, or of a message that ends a run.
        shown: ``None``: the coordinator keeps no ledger.
    """
    if shown is not None:
        record = content["config"]
        if not isinstance(record, ConfigRecord):
            raise ProtocolError("expected a configuration record named 'config'")
        record[_HEAD] = shown.head.to_json().decode()
        proofs = sorted(shown.proofs.items())
        record[_PROOFS] = ";".join(f"{size}:{','.join(proof)}" for size, proof in proofs)
    return content


def decode_shown(record: ConfigRecord) -> Shown | None:
    """Return what a message shows of the coordinator's ledger; ``None``: nothing.

    The head's signature is verified, by whichever key it names.

    Raises:
        ProtocolError: if it is malformed.
    """
    if _HEAD not in record:
        return None
    text: str = checked_field(record, _PROOFS, str)
    if len(text) > _LONGEST:
        raise ProtocolError(f"proofs have at most {_LONGEST} characters, got {len(text)}")
    proofs: dict[int, tuple[str, ...]] = {}
    for each in text.split(";") if text else ():
        size, _, nodes = each.partition(":")
        if not _SIZE.fullmatch(size) or int(size) in proofs:
            raise ProtocolError(f"a proof is of a number of entries, each once, got {size!r:.40}")
        proofs[int(size)] = tuple(nodes.split(",")) if nodes else ()
    if len(proofs) > MOST_PROOFS:
        raise ProtocolError(f"at most {MOST_PROOFS} proofs are accepted, got {len(proofs)}")
    return Shown(head=TreeHead.from_json(checked_field(record, _HEAD, str)), proofs=proofs)


def say_seen(content: RecordDict, entries: int) -> RecordDict:
    """Add to the answer to an offer how many entries of its ledger the coordinator has shown.

    Args:
        content: of the answer.
        entries: by the last head that the site has seen; 0: none.
    """
    record = content["config"]
    if not isinstance(record, ConfigRecord):
        raise ProtocolError("expected a configuration record named 'config'")
    record[_SEEN] = entries
    return content


def decode_seen(content: RecordDict) -> int | None:
    """Return how many entries a site has been shown; ``None`` where its answer doesn't say.

    Raises:
        ProtocolError: if it is malformed.
    """
    record = checked_record(content)
    if _SEEN not in record:
        return None
    entries: int = checked_field(record, _SEEN, int)
    if entries < 0:
        raise ProtocolError(f"entries must not be negative, got {entries}")
    return entries
