"""Epoch of a coordinator's start: how many times a run's coordinator was started, on its disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.seeds import Entropy
from fedmodel.transport.stamps import require_start

__all__ = ["next_epoch"]

_NAME = "epoch.json"
_LARGEST = 1 << 12  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    schema: Literal["fedmodel.epoch/1"] = "fedmodel.epoch/1"
    epoch: int
    start: str

    def __post_init__(self) -> None:
        require_start(self.epoch, self.start)


def next_epoch(folder: Path, entropy: Entropy) -> tuple[int, str]:
    """Return the epoch and the start of a coordinator that begins to work now.

    It is on disk before this returns, and must be so before anything is signed.

    Args:
        folder: of the run; it exists.
        entropy: draws the start.

    Returns:
        One more than the last epoch, 1 for the first, and 16 random bytes as hex.

    Raises:
        RunFolderError: when the last epoch can't be read, or the new one written.
    """
    path = folder / _NAME
    try:
        with _files.locked(folder / ".epoch.lock", write=True):
            made = _Epoch(epoch=_last(path) + 1, start=entropy.bytes(16).hex())
            _files.write_atomic(path, config.canonical(made) + b"\n")
    except OSError as error:
        raise RunFolderError(
            f"can't write {path}: {error.strerror}; free space, or let it be written to"
        ) from error
    return made.epoch, made.start


def _last(path: Path) -> int:
    try:
        text = _files.read(path, _LARGEST).removesuffix(b"\n")
        return config.parse(lambda plain: config.build(_Epoch, plain), text).epoch
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise RunFolderError(f"can't read {path}: {error.strerror}; let it be read") from error
    except ConfigError as error:
        raise RunFolderError(
            f"{path} can't be read ({error}). Restore it. Its epoch is in no other file here; the "
            "sites have the highest that they obeyed, and refuse any that isn't above it"
        ) from error
