"""Origin of an exported folder: ``fedmodel.json`` in it, of which run, parameters and files it is.

Nobody signs it: who has the run exports it again, and gets the same bytes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from fedmodel import config
from fedmodel._forms import ExportForm
from fedmodel.runs.files import read_record, to_json

__all__ = ["ORIGIN", "ORIGIN_SCHEMA", "Origin", "write_origin"]

ORIGIN = "fedmodel.json"
ORIGIN_SCHEMA = "fedmodel.export/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an exported folder comes from.

    Args:
        schema: of the file.
        run: the run's name in ledgers.
        job_sha256: its job's.
        parameters: SHA-256 (hex) of the trained parameters: float32, little-endian, tensor by
            tensor in the order of their names.
        form: of the folder.
        files: name → SHA-256 (hex) of every other file in it.
    """

    schema: Literal["fedmodel.export/1"] = "fedmodel.export/1"
    run: str
    job_sha256: str
    parameters: str
    form: ExportForm
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("job_sha256", "parameters"):
            config.require_hex(name, getattr(self, name), 64)
        for name, sha256 in self.files.items():
            config.require_hex(f"the SHA-256 of {name!r:.80}", sha256, 64)

    @classmethod
    def from_mapping(cls, mapping: object, where: str = ORIGIN) -> "Origin":
        """Return what a JSON object says.

        Raises:
            RunFolderError: for another schema, an unknown or missing key, or a wrong value.
        """
        return read_record(cls, mapping, ORIGIN_SCHEMA, where)


def write_origin(folder: Path, origin: Origin) -> None:
    """Write the origin of a folder into it, with the digests of the files that are there.

    Args:
        folder: that is exported, with all other files.
        origin: without them.
    """
    files = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    whole = replace(origin, files=files)
    (folder / ORIGIN).write_bytes(to_json(config.to_mapping(whole)))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
