"""A coordinator's state after a round, and the folder that it is written to.

``state.json`` stands under the schema that the run's manifest names.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmodel import _files
from fedmodel.errors import RunFolderError
from fedmodel.runs.arrays import as_bytes, load_arrays
from fedmodel.runs.files import read_json, to_json, write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Checkpoint", "read_last", "write"]

_KEPT = 2  # the last, and the one before it for whoever wants to look back
_NAME = re.compile(r"round-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The coordinator's state after a round.

    Args:
        round: the last finished round, 0 before the first.
        parameters: name → array of the trainable parameters.
        optimizer: name → array of the server optimiser's state.
        state: JSON-able rest (for early stopping, and how often each site took part).
    """

    round: int
    parameters: "dict[str, NDArray[Any]]"
    optimizer: "dict[str, NDArray[Any]]"
    state: dict[str, Any]


def write(root: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all, and drop all but the last two.

    Args:
        root: the run's folder of checkpoints.
        checkpoint: what to write.

    Raises:
        RunFolderError: if it can't be written.
    """
    final = root / f"round-{checkpoint.round:04d}"
    temporary = root / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    write_atomic(temporary / "model.safetensors", as_bytes(checkpoint.parameters))
    write_atomic(temporary / "server.safetensors", as_bytes(checkpoint.optimizer))
    state = {"round": checkpoint.round, **checkpoint.state}
    write_atomic(temporary / "state.json", to_json(state))
    try:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _files.sync_folder(root)
    except OSError as error:
        raise RunFolderError(f"can't write {final}: {error.strerror}") from error
    for old in _rounds(root)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def read_last(root: Path) -> Checkpoint | None:
    """Return the newest checkpoint, ``None`` if there is none.

    Args:
        root: the run's folder of checkpoints.

    Raises:
        RunFolderError: if it is damaged, or isn't of the round that its folder is named for.
    """
    rounds = _rounds(root)
    if not rounds:
        return None
    path = rounds[-1]
    state = read_json(path / "state.json")
    number = state.pop("round", None)
    if type(number) is not int or number != _round(path):
        raise RunFolderError(
            f"{path}/state.json must be of round {_round(path)}, got round={number!r}; restore the "
            "folder from a copy, or remove it to continue from the checkpoint before"
        )
    return Checkpoint(
        round=number,
        parameters=load_arrays(path / "model.safetensors"),
        optimizer=load_arrays(path / "server.safetensors"),
        state=state,
    )


def _rounds(root: Path) -> list[Path]:
    return sorted((p for p in root.glob("round-*") if _NAME.fullmatch(p.name)), key=_round)


def _round(path: Path) -> int:
    return int(path.name.removeprefix("round-"))
