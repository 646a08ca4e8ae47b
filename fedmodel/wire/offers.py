"""Offers of a job to a site: with what else it must know to decide, and to go on where it was."""

import re
from dataclasses import dataclass, field, replace
from functools import partial

from flwr.app import ConfigRecord, RecordDict

from fedmodel import config
from fedmodel._paths import source_digest
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.job import Job, Performance
from fedmodel.ledger.tree_head import LARGEST, TreeHead
from fedmodel.wire.records import VERSION, checked_field, checked_record, named_run

__all__ = ["Offer", "decode_offer", "encode_offer"]

_MAX_JOB = 1 << 20
_MAX_PERFORMANCE = 1 << 12
_DIGEST = _JOINING = re.compile(r"[0-9a-f]{64}")
_MOST_FILES = 500
_MOST_HEADS = 1000
_LONGEST_PURPOSE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a coordinator offers a site.

    Args:
        run: names the run; it is chosen by whoever starts it.
        job: what all would agree on.
        purpose: why, for the site's people; any text of at most 2,000 characters.
        performance: proposed; a site decides for itself. Its device is never taken from a message.
        tree_heads: of the site's ledgers, as the coordinator has kept them.
        base: SHA-256 (hex) of each file of weights that the job's model starts from, as the
            coordinator has them; empty for a model without files.
        joining: names this joining (64 hex digits), where updates are hidden or sealed; else
            empty.
    """

    run: str
    job: Job
    performance: Performance = field(default_factory=Performance)
    tree_heads: tuple[TreeHead, ...] = ()
    base: tuple[str, ...] = ()
    joining: str = ""
    purpose: str = ""

    def __post_init__(self) -> None:
        if len(self.purpose) > _LONGEST_PURPOSE:
            raise ConfigError(
                f"a purpose has at most {_LONGEST_PURPOSE} characters, got {len(self.purpose)}"
            )


def encode_offer(offer: Offer) -> RecordDict:
    """Return the content that offers a job, with the digest of this party's sources."""
    record = ConfigRecord({"version": VERSION, "job": offer.job.json.decode()})
    record["performance"] = config.canonical(offer.performance).decode()
    record["run"] = offer.run
    record["sources"] = source_digest()
    record["joining"] = offer.joining
    record["base"] = " ".join(offer.base)
    record["purpose"] = offer.purpose
    record["heads"] = "\n".join(head.to_json().decode() for head in offer.tree_heads)
    return RecordDict({"config": record})


def decode_offer(content: RecordDict) -> Offer:
    """Return the offer in a message, strictly checked, the tree heads' signatures verified.

    Raises:
        ProtocolError: if it is malformed, its job isn't canonical JSON of a job that this version
            understands, or it comes from a party that runs other sources than this one.
    """
    record = checked_record(content)
    sources = checked_field(record, "sources", str)
    if sources != source_digest():
        raise ProtocolError(
            f"the coordinator runs other code (sources {sources[:16]!r}) than this site "
            f"({source_digest()[:16]}…); install the same fedmodel version everywhere"
        )
    return Offer(
        run=named_run(record),
        job=_job(_text(record, "job", _MAX_JOB)),
        performance=_performance(_text(record, "performance", _MAX_PERFORMANCE)),
        tree_heads=_tree_heads(checked_field(record, "heads", str)),
        base=_base(_text(record, "base", _MOST_FILES * 65)),
        joining=_joining(checked_field(record, "joining", str)),
        purpose=_text(record, "purpose", _LONGEST_PURPOSE),
    )


def _text(record: ConfigRecord, name: str, most: int) -> str:
    text: str = checked_field(record, name, str)
    if len(text) > most:
        raise ProtocolError(f"a {name} of {len(text)} characters; at most {most} are accepted")
    return text


def _job(text: str) -> Job:
    try:
        return Job.from_json(text.encode())
    except (ConfigError, UnicodeEncodeError) as error:
        raise ProtocolError(f"not a job this version understands: {error}") from error


def _performance(text: str) -> Performance:
    try:
        proposed = config.parse(partial(config.build, Performance), text.encode())
        return replace(proposed, device="auto")
    except (ConfigError, UnicodeEncodeError) as error:
        raise ProtocolError(f"not a proposal of performance: {error}") from error


def _tree_heads(text: str) -> tuple[TreeHead, ...]:
    if len(text) > _MOST_HEADS * (LARGEST + 1):
        raise ProtocolError(f"an offer's heads have {len(text)} characters, more than there can be")
    lines = text.splitlines()
    if len(lines) > _MOST_HEADS:
        raise ProtocolError(f"an offer has at most {_MOST_HEADS} heads, got {len(lines)}")
    return tuple(TreeHead.from_json(line) for line in lines)


def _base(text: str) -> tuple[str, ...]:
    found = tuple(text.split(" ")) if text else ()
    if not all(_DIGEST.fullmatch(each) for each in found):
        raise ProtocolError("an offer's base is named by SHA-256 digests, 64 hex digits each")
    return found


def _joining(text: str) -> str:
    if text and not _JOINING.fullmatch(text):
        raise ProtocolError(f"a joining is named by 64 hex digits, got {text[:40]!r:.40}")
    return text
