"""A planted failure: the same checks, once one figure of the records was changed.

Whoever reads that nothing was refuted may ask whether these checks can refute anything. So one is
changed in memory, and what they then find stands in the report's annex.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmodel.audit.evidence import Evidence, Kind
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import verify

__all__ = ["planted"]

_NOISE = re.compile(rb'"noise_multiplier":"([^"]+)"')
_HASH = re.compile(rb'"job_sha256": ?"([0-9a-f])')


@dataclass(slots=True)
class _Planted:
    """Evidence of which one part is changed."""

    where: str
    evidence: Evidence
    part: str
    text: bytes

    @property
    def left_out(self) -> frozenset[str]:
        return self.evidence.left_out

    def names(self, kind: Kind) -> list[str]:
        return self.evidence.names(kind)

    def read(self, kind: Kind, name: str) -> bytes:
        return self.text if name == self.part else self.evidence.read(kind, name)

    def sha256(self, kind: Kind, name: str) -> str:
        return self.evidence.sha256(kind, name)

    def chunks(self, kind: Kind, name: str) -> Iterator[bytes]:
        return self.evidence.chunks(kind, name)


def planted(records: Records) -> Check | None:
    """Return what the checks find where one figure is changed: a noise, else the job's hash.

    Args:
        records: of the run; they stay as they are.

    Returns:
        The first check that fails then; ``None`` where nothing could be changed, or none fails.
    """
    changed = _noise(records) or _job_hash(records)
    if changed is None:
        return None
    found = verify(read_records(changed))
    fails = (c for some in found.checks.values() for c in some if c.verdict == Verdict.FAIL)
    return next((each for each in fails if changed.part in (each.entry or changed.part)), None)


def _noise(records: Records) -> _Planted | None:
    """Return the evidence with 1 % less noise in the last step of a ledger, and so written."""
    for _, ledger in records.with_ledgers():
        text = records.evidence.read("ledger", ledger.name)
        found = list(_NOISE.finditer(text))
        if found:
            last = found[-1]
            less = repr(float(last[1]) * 0.99).encode()
            return _changed(
                records, ledger.name, text[: last.start(1)] + less + text[last.end(1) :]
            )
    return None


def _job_hash(records: Records) -> _Planted | None:
    text = records.evidence.read("manifest", "manifest.json")
    found = _HASH.search(text)
    if found is None:
        return None
    other = b"0" if found[1] != b"0" else b"1"
    return _changed(records, "manifest.json", text[: found.start(1)] + other + text[found.end(1) :])


def _changed(records: Records, part: str, text: bytes) -> _Planted:
    return _Planted(records.evidence.where, records.evidence, part, text)
