"""What a coordinator finds out about sites in a run's secure sums: a restart forgets none of it.

Sites are named by their keys: what one key has signed is no fault of the one that follows it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel import config
from fedmodel.runs.files import read_json, read_record, to_json, write_atomic

__all__ = ["Disputed", "KeptBlame", "read_blame", "write_blame"]

_SCHEMA = "fedmodel.blame/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disputed:
    """Two sites of which one is wrong.

    Args:
        accuser: key (hex) of the one that says so.
        accused: of the other.
        why: what it says.
    """

    accuser: str
    accused: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBlame:
    """Who was proved wrong, and who is in dispute.

    Args:
        schema: of the file.
        proved: key (hex) → in what its site is wrong.
        disputes: of pairs of sites.
    """

    schema: str = _SCHEMA
    proved: Mapping[str, str] = field(default_factory=dict)
    disputes: tuple[Disputed, ...] = ()


def write_blame(path: Path, kept: KeptBlame) -> None:
    """Write the file, whole.

    Raises:
        RunFolderError: when it can't be written.
    """
    write_atomic(path, to_json(config.to_mapping(kept)))


def read_blame(path: Path) -> KeptBlame:
    """Return what the file has; where there is none, nothing was found out.

    Raises:
        RunFolderError: if it is damaged.
    """
    if not path.exists():
        return KeptBlame()
    return read_record(KeptBlame, read_json(path), _SCHEMA, str(path))
