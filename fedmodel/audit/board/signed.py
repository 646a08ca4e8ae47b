"""A signed report: who stands by its files, and whether they are still those.

One in-toto statement in a DSSE envelope, ``statement.dsse.json``, names all of them by their
SHA-256. Who wants to know whether a report was edited needs it and the files, and no run.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedmodel import _files, config
from fedmodel.audit.board.recommendation import Advice
from fedmodel.audit.bundles.dsse import Envelope, sign
from fedmodel.audit.bundles.evidence import STATEMENT
from fedmodel.audit.bundles.in_toto import digests_of, statement_text
from fedmodel.audit.bundles.statement import Packer
from fedmodel.audit.show import plain
from fedmodel.audit.verdicts import (
    RUN,
    Check,
    Outcome,
    Verdict,
    failed,
    inconclusive,
    not_tested,
    passed,
)
from fedmodel.audit.verify import Findings
from fedmodel.errors import ConfigError, EvidenceError, ProtocolError
from fedmodel.identity.names import grouped, same_fingerprint
from fedmodel.ledger.tree_head import Signer

__all__ = ["STATEMENT", "SignedReport", "statement_of"]

_DATA = "report.json"
_PREDICATE = "urn:fedmodel:board-report:1"  # a name, not an address
_LARGEST = 1 << 28  # bytes of a file of a report
_MOST = 64  # files that a report has
_VIEWERS = ("outputs.json", "checksums")  # of the output checkers' viewer; made of what is signed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What the statement says: the predicate.

    Args:
        schema: of it.
        run: the run's name in ledgers.
        job_sha256: its job's.
        advice: what is recommended.
        made: when, UTC.
        signer: who signs.
    """

    schema: Literal["fedmodel.signed-report/1"] = "fedmodel.signed-report/1"
    run: str
    job_sha256: str
    advice: Advice
    made: str
    signer: Packer


def statement_of(report: Mapping[str, Any], files: Mapping[str, bytes], signer: Signer) -> bytes:
    """Return the signed statement on a report's files.

    Args:
        report: as plain data; ``signer`` in it is who signs.
        files: name → content.
        signer: the key.
    """
    claim = _Claim(
        run=report["run"],
        job_sha256=report["job_sha256"],
        advice=report["recommendation"]["advice"],
        made=report["made"],
        signer=config.build(Packer, report["signer"], "signer"),
    )
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in files.items()}
    return sign(statement_text(_PREDICATE, claim, digests), signer).to_json()


class SignedReport:
    """A report's folder and its statement, whose signature nobody has looked at yet.

    Args:
        folder: of the report.

    Raises:
        EvidenceError: when there is no statement, or it can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            text = _files.read(folder / STATEMENT, _LARGEST)
            self._envelope = Envelope.from_json(text)
            found: Any = config.parsed(self._envelope.payload)
            self._claim = config.build(_Claim, found["predicate"], "predicate")
            self._digests = digests_of(found)
        except OSError as error:
            raise EvidenceError(
                f"{folder / STATEMENT}: {error.strerror}; a report that nobody has signed can't be "
                "verified. Sign it as it is made: fedmodel report … as=KEY name=…"
            ) from error
        except (ConfigError, KeyError, TypeError) as error:
            raise EvidenceError(
                f"{folder / STATEMENT}: expected the signed statement of a report that this "
                f"version knows, fedmodel.signed-report/1: {error!s:.300}"
            ) from error
        if statement_text(_PREDICATE, self._claim, self._digests) != self._envelope.payload:
            raise EvidenceError(f"{folder / STATEMENT}: it isn't in its one form (RFC 8785)")

    def findings(self, signer: str | None, found: Findings | None) -> Findings:
        """Return what the checks of the report find, with those of the run where they were made.

        Args:
            signer: fingerprint of the key that must have signed; ``None``: anybody's.
            found: what the run's own records show now; ``None``: they aren't here.
        """
        same = self._same()
        blocked = same.verdict == Verdict.FAIL
        outcomes = {
            "report-signed": self._signed(),
            "report-signer": self._signer(signer),
            "report-files": same,
            "report-says": (
                not_tested("because report-files failed") if blocked else self._says(found)
            ),
        }
        checks = tuple(
            Check(name, RUN, o.verdict, o.reason, o.entry) for name, o in outcomes.items()
        )
        claim, where = self._claim, str(self._folder)
        before = {} if found is None else found.checks
        return Findings(claim.run, claim.job_sha256, where, {**before, "report": checks})

    def _signed(self) -> Outcome:
        signer = self._claim.signer
        try:
            self._envelope.verify(signer.key)
        except ProtocolError as error:
            return failed(str(error), STATEMENT)
        if self._envelope.keyid != signer.fingerprint:
            return failed("it names another key's fingerprint than its signer's", STATEMENT)
        return passed(f"by {signer.name!r} ({signer.role}) of {grouped(signer.fingerprint)}")

    def _signer(self, known: str | None) -> Outcome:
        signer = self._claim.signer
        if known is None:
            return not_tested("give the fingerprint of the signer's key by signer=")
        if not same_fingerprint(known, signer.fingerprint):
            return failed(
                f"{signer.name!r} of {grouped(signer.fingerprint)} has signed it, and you gave "
                f"{known:.80}",
                STATEMENT,
            )
        return passed("its key is the one that you gave")

    def _same(self) -> Outcome:
        """Hold every file against the statement, and look for files that it doesn't name."""
        try:
            here = {each.name for each in self._folder.iterdir()} - {STATEMENT, *_VIEWERS}
        except OSError as error:
            return failed(f"it can't be read: {error.strerror}")
        if len(self._digests) > _MOST or (lacking := sorted(set(self._digests) - here)):
            return failed(f"files that were signed for aren't here: {', '.join(lacking[:5])}")
        if more := sorted(here - set(self._digests)):
            return failed(f"nobody has signed for it: {', '.join(more[:5])}", more[0])
        for name, told in self._digests.items():
            try:
                text = _files.read(self._folder / name, _LARGEST)
            except OSError as error:
                return failed(f"it can't be read: {error.strerror}", name)
            if hashlib.sha256(text).hexdigest() != told:
                return failed("it was changed since it was signed", name)
        return passed(f"{len(self._digests)} files")

    def _says(self, found: Findings | None) -> Outcome:
        """Hold what the report says of the checks against what they find now."""
        try:
            told: Any = json.loads(_files.read(self._folder / _DATA, _LARGEST))
            named = (told["run"], told["job_sha256"], told["recommendation"]["advice"])
            checks, program = told["findings"]["checks"], told["program"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return failed("it can't be read as a report's data", _DATA)
        claim = self._claim
        if named != (claim.run, claim.job_sha256, claim.advice):
            return failed("it is of another run, or advises otherwise than was signed", _DATA)
        if found is None:
            return not_tested("give the run, too, and its checks are made again: run= or bundle=")
        if (found.run, found.job_sha256) != named[:2]:
            return failed(f"it is of run {claim.run}, and the run that you gave is {found.run}")
        now = plain(found)["checks"]
        if checks != now:
            differ = next((n for n, t in zip(now, checks, strict=False) if n != t), None)
            first = "" if differ is None else f": {differ['check']} ({differ['party']}), first"
            return inconclusive(
                f"the checks don't find the same now{first}. Other keys were given, another "
                f"version has made it ({program!s:.40}), or the run's records were changed since",
                _DATA,
            )
        return passed(f"{len(now)} checks find the same now")
