"""An exported folder: whether its files are those that were written, of this run's parameters."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmodel._text import listed
from fedmodel.audit.evidence import names_under, open_plain
from fedmodel.audit.parameters import MODEL, file_digest
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import Outcome, failed, not_tested, passed
from fedmodel.errors import EvidenceError, RunFolderError
from fedmodel.runs.files import parse_json
from fedmodel.runs.origin import ORIGIN, Origin

__all__ = ["ExportedFolder", "files", "named"]

_LARGEST = 1 << 24  # bytes of the origin; a hundred for each file
_CHUNK = 1 << 20
_MOST = 5
_NONE = "give the folder that was exported by export=FOLDER"


@dataclass(frozen=True, slots=True)
class ExportedFolder:
    """A folder that ``fedmodel export`` has written.

    Args:
        folder: of it.
        origin: as it stands in it; nobody has signed it.
    """

    folder: Path
    origin: Origin

    @classmethod
    def open(cls, folder: Path) -> "ExportedFolder":
        """Return an exported folder.

        Raises:
            EvidenceError: when it isn't one, or its origin can't be read.
        """
        try:
            text = b"".join(_chunks(folder, ORIGIN, _LARGEST))
            return cls(folder, Origin.from_mapping(parse_json(text, ORIGIN)))
        except OSError as error:
            raise EvidenceError(
                f"{folder} has no {ORIGIN} that can be read ({error.strerror}), so it isn't what "
                "fedmodel export writes; export the run again"
            ) from error
        except RunFolderError as error:
            raise EvidenceError(f"{folder}: {error}") from error

    def changed(self) -> str | None:
        """Return a file that isn't as it was written, and how; ``None`` where all are."""
        here = set(names_under(self.folder)) - {ORIGIN}
        told = self.origin.files
        if lacking := sorted(set(told) - here):
            return f"these files are missing: {listed(lacking, _MOST)}"
        if more := sorted(here - set(told)):
            return f"these files weren't written by the export: {listed(more, _MOST)}"
        for name, sha256 in told.items():
            if _sha256(self.folder, name) != sha256:
                return f"{name} was changed since"
        return None


def _sha256(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(folder, name, None):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(folder: Path, name: str, most: int | None) -> Iterator[bytes]:
    handle = open_plain(folder, name)
    try:
        if most is not None and os.fstat(handle).st_size > most:
            raise EvidenceError(f"{folder / name} is larger than {most} bytes")
        while chunk := os.read(handle, _CHUNK):
            yield chunk
    finally:
        os.close(handle)


def files(records: Records) -> Outcome:
    """Hold the folder's files against its origin."""
    exported = records.exported
    if exported is None:
        return not_tested(_NONE)
    try:
        wrong = exported.changed()
    except (OSError, EvidenceError) as error:
        wrong = f"it can't be read: {error}"
    if wrong is not None:
        return failed(wrong, str(exported.folder))
    return passed(
        f"{len(exported.origin.files)} files, by {ORIGIN} in it, which nobody has signed: "
        "exporting the run again gives the same bytes"
    )


def named(records: Records) -> Outcome:
    """Hold the origin against the run, and its parameters against what the run came to."""
    if (exported := records.exported) is None:
        return not_tested(_NONE)
    origin, where = exported.origin, str(exported.folder / ORIGIN)
    if (origin.run, origin.job_sha256) != (records.run, records.manifest.job_sha256):
        return failed(f"it is of run {origin.run!r:.80}, job {origin.job_sha256[:16]}…", where)
    told, by = _parameters(records)
    if told is None:
        return not_tested(by)
    if told != origin.parameters:
        return failed(
            f"it is of parameters {origin.parameters[:16]}…, and {by} has {told[:16]}…", where
        )
    return passed(f"its parameters are those that {by} has")


def _parameters(records: Records) -> tuple[str | None, str]:
    """Return the digest of the last parameters and who says so; ``None``: why nobody does."""
    story = records.story if records.coordinator is not None else None
    if story is not None and (came := story.finished.get(story.last)) is not None:
        return came.entry.model, "the coordinator's ledger"
    if MODEL not in records.evidence.names("model") or MODEL in records.evidence.left_out:
        return None, "neither the coordinator's ledger nor the model is here"
    try:
        return file_digest(records.evidence, MODEL), MODEL
    except EvidenceError as error:
        return None, str(error)
