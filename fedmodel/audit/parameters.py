"""Parameters: their digests from round to round, and whether the model's file is what they name.

The digest is SHA-256 over all trainable parameters as they travel: in the order of their names,
each row by row, float32, little-endian. A safetensors file of them has just those bytes after its
header.
"""

import hashlib
import json
from collections.abc import Iterator
from math import prod
from typing import Any

from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.evidence import KINDS, Evidence
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import Outcome, failed, inconclusive, not_tested, passed
from fedmodel.errors import EvidenceError

__all__ = ["MODEL", "digests", "file_digest", "named"]

MODEL = "model/trained.safetensors"
_LONGEST_HEADER = 1 << 24  # bytes; a hundred for each tensor
_PREFIX = 8
_FLOAT = 4
_MOST_DIMENSIONS = 64  # as many as any library has; a product of thousands takes minutes


def digests(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Follow the parameters' digest through the coordinator's ledger."""
    job = records.job.value
    kept = job is not None and (job.privacy.private or job.secagg.on)
    model, after = "", dict[int, tuple[str, str]]()  # round → the mean, and the parameters after it
    for entry in ledger.entries:
        wrong = None
        if entry.type == "start":
            _, known = after.setdefault(entry.round, ("", model or entry.model))
            wrong = None if entry.model == known else "it goes on from other parameters"
            # What was finished last may be once more; who went back further asked again.
            known_to = entry.round + (max(after) == entry.round + 1)
            model, after = entry.model, {n: e for n, e in after.items() if n <= known_to}
        elif entry.type in ("round", "evaluation", "end"):
            wrong = None if entry.model == model else f"{_ABOUT[entry.type]} other parameters"
        elif entry.type == "result":
            if not entry.mean and entry.model != model:
                wrong = "it has no mean, and other parameters than before"
            elif kept and after.get(entry.round, found := (entry.mean, entry.model)) != found:
                wrong = "it was finished before, to other parameters"
            if entry.finished:
                model, after[entry.round] = entry.model, (entry.mean, entry.model)
        if wrong is not None:
            return failed(f"an entry '{entry.type}': {wrong}", ledger.at(entry))
    return passed(f"{sum(bool(mean) for mean, _ in after.values())} means, to {model[:16]}…")


_ABOUT = {"round": "sites are asked to start from", "evaluation": "it is of", "end": "it ends with"}


def named(records: Records) -> Outcome:
    """Hold the model's files against the digests in the coordinator's ledger."""
    story, found = records.story, []
    for name in records.evidence.names("model"):
        round_ = _round_of(name)
        came = story.finished.get(story.last if round_ is None else round_)
        if came is None:
            if round_ is not None and round_ > story.last:
                return failed(
                    f"it is of round {round_}, and the coordinator's ledger ends with round "
                    f"{story.last}",
                    name,
                )
            continue
        try:
            told = file_digest(records.evidence, name)
        except EvidenceError as error:
            return failed(str(error), name)
        if told != came.entry.model:
            return failed(
                f"its parameters have SHA-256 {told[:16]}…, and the coordinator's ledger names "
                f"{came.entry.model[:16]}… after round {came.entry.round}",
                name,
            )
        found.append(name)
    if not found:
        return not_tested("there is no file of a model that the coordinator's ledger names")
    if MODEL in found and story.end is None:
        return inconclusive("the coordinator's ledger has no end, so another round may have come")
    return passed(", ".join(found))


def _round_of(name: str) -> int | None:
    match = KINDS["model"].pattern.fullmatch(name)
    return int(match["round"]) if match is not None and match["round"] else None


def file_digest(evidence: Evidence, name: str) -> str:
    """Return the SHA-256 (hex) of the parameters in a safetensors file, piece by piece.

    Raises:
        EvidenceError: when it isn't one of float32 parameters, one after the other by name.
    """
    pieces = evidence.chunks("model", name)
    start = _exactly(pieces, _PREFIX, b"", name)
    size = int.from_bytes(start[:_PREFIX], "little")
    if size > _LONGEST_HEADER:
        raise EvidenceError(f"{name}: a header of {size} bytes, and at most {_LONGEST_HEADER}")
    start = _exactly(pieces, size, start[_PREFIX:], name)
    total = _total(start[:size], name)
    digest, count = hashlib.sha256(start[size:]), len(start) - size
    for piece in pieces:
        digest.update(piece)
        count += len(piece)
    if count != total:
        raise EvidenceError(f"{name}: {count} bytes of parameters, and its header says {total}")
    return digest.hexdigest()


def _exactly(pieces: Iterator[bytes], size: int, had: bytes, name: str) -> bytes:
    """Return at least so many bytes."""
    parts, count = [had], len(had)
    while count < size:
        piece = next(pieces, b"")
        if not piece:
            raise EvidenceError(f"{name}: it ends in its header")
        parts.append(piece)
        count += len(piece)
    return b"".join(parts)


def _total(header: bytes, name: str) -> int:
    """Return how many bytes of parameters there are, after checking where each stands."""
    try:
        tensors: Any = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{name}: its header isn't JSON") from error
    if not isinstance(tensors, dict):
        raise EvidenceError(f"{name}: its header isn't a JSON object")
    tensors.pop("__metadata__", None)
    end = 0
    for parameter in sorted(tensors):
        stop = _end_of(tensors[parameter], end)
        if stop is None:
            raise EvidenceError(
                f"{name}: parameter {parameter!r:.80} isn't float32, or doesn't follow the one "
                "before it by name"
            )
        end = stop
    return end


def _end_of(tensor: Any, start: int) -> int | None:
    """Return where a tensor ends; ``None`` where it isn't as it should be."""
    if not isinstance(tensor, dict) or tensor.get("dtype") != "F32":
        return None
    shape = tensor.get("shape")
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        return None
    count = prod(shape) if len(shape) <= _MOST_DIMENSIONS else -1
    end = start + _FLOAT * count
    return end if count >= 0 and tensor.get("data_offsets") == [start, end] else None
