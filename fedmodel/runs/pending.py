"""What a coordinator has of a round that isn't in a checkpoint yet: a sum is paid for once.

``begun.json``: the last round in which sites were asked to agree to a sum, and how many had been
asked for their updates. From then on they may take part in no other attempt of it, so it is written
before they are asked.
``sum.json`` and ``sum.safetensors``: what a round brought in, from the moment that it is known
until a checkpoint has it. The one names the other by its hash: of two rounds nothing is mixed.
``attempt.bin``: an attempt of a secure sum between consents and reveals
(:mod:`fedmodel.secagg.stored` says what is in it).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedmodel import _files, config
from fedmodel.errors import RunFolderError
from fedmodel.runs.arrays import arrays_in, as_bytes
from fedmodel.runs.files import read_json, read_record, to_json, write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Begun",
    "KeptRound",
    "attempt",
    "begun",
    "kept",
    "note_begun",
    "write_attempt",
    "write_kept",
]

_BEGUN = "fedmodel.begun/1"
_SUM = "fedmodel.sum/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRound:
    """What a round brought in.

    Args:
        round: of the run.
        asked: the nodes that were invited.
        givers: the nodes whose updates are in the mean.
        absent: so many more sites' updates are in it, of sites that had left by then.
        metrics: of the mean.
        failures: node → why it gave none, or failed to do all that it was asked for.
        blamed: node → in what it is wrong, or in dispute.
        step: to which sites rounded theirs; ``None`` where that isn't known.
        sha256s: node → SHA-256 (hex) of what it gave.
        vector: the mean, float32 ``[trainable]``.
    """

    round: int
    asked: tuple[int, ...]
    givers: tuple[int, ...]
    metrics: dict[str, float]
    failures: dict[str, str]
    blamed: dict[str, str] = field(default_factory=dict)
    step: float | None = None
    absent: int = 0
    sha256s: dict[str, str] = field(default_factory=dict)
    vector: "NDArray[np.float32]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    schema: str
    round: int
    sha256: str
    asked: tuple[int, ...]
    givers: tuple[int, ...]
    metrics: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    blamed: dict[str, str] = field(default_factory=dict)
    step: float | None = None
    absent: int = 0
    sha256s: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A round in which sites were asked to agree to a sum.

    Args:
        round: of the run; 0: there was none.
        asked: so many sites had been asked for their updates; 0: that isn't known.
    """

    round: int = 0
    asked: int = 0


def note_begun(folder: Path, noted: Begun) -> None:
    """Write down, durably, that sites are asked to agree to a round's sum.

    Raises:
        RunFolderError: when it can't be written.
    """
    told = {"schema": _BEGUN, "round": noted.round, "asked": noted.asked}
    write_atomic(folder / "begun.json", to_json(told))


def begun(folder: Path) -> Begun:
    """Return the last round that was noted as begun.

    Raises:
        RunFolderError: if the file is damaged.
    """
    path = folder / "begun.json"
    if not path.exists():
        return Begun()
    found = read_json(path)
    numbers = found.get("round"), found.get("asked", 0)
    if found.get("schema") != _BEGUN or any(type(number) is not int for number in numbers):
        raise RunFolderError(f"{path} must name a round under schema {_BEGUN!r}; restore it")
    return Begun(*map(int, numbers))


def write_attempt(folder: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Keep an attempt of a secure sum, so that a kill doesn't lose it.

    Raises:
        RunFolderError: when it can't be written.
    """
    path = folder / "attempt.bin"
    try:
        _files.make_folder(folder)
        _files.write_whole(path, parts)
    except OSError as error:
        raise RunFolderError(f"can't write {path}: {error.strerror}; free space") from error


def attempt(folder: Path) -> bytes | None:
    """Return what was kept of an attempt last; ``None``: nothing.

    Raises:
        RunFolderError: if it can't be read.
    """
    try:
        return _files.read(folder / "attempt.bin")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"{folder}/attempt.bin can't be read: {error.strerror}") from error


def write_kept(folder: Path, kept_round: KeptRound) -> None:
    """Keep what a round brought in, durably.

    Raises:
        RunFolderError: when it can't be written.
    """
    data = as_bytes({"mean": kept_round.vector})
    record = _Record(
        schema=_SUM,
        round=kept_round.round,
        sha256=hashlib.sha256(data).hexdigest(),
        asked=kept_round.asked,
        givers=kept_round.givers,
        metrics=kept_round.metrics,
        failures=kept_round.failures,
        blamed=kept_round.blamed,
        step=kept_round.step,
        absent=kept_round.absent,
        sha256s=kept_round.sha256s,
    )
    write_atomic(folder / "sum.safetensors", data)
    write_atomic(folder / "sum.json", to_json(config.to_mapping(record)))


def kept(folder: Path) -> KeptRound | None:
    """Return what was kept last; ``None``: nothing, or a kill came in the middle of keeping it.

    Raises:
        RunFolderError: if a file is damaged.
    """
    path = folder / "sum.json"
    if not path.exists():
        return None
    record = read_record(_Record, read_json(path), _SUM, str(path))
    try:
        data = _files.read(folder / "sum.safetensors")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            return None
        vector = arrays_in(data, folder / "sum.safetensors")["mean"]
    except (OSError, KeyError) as error:
        raise RunFolderError(f"{folder}/sum.safetensors can't be read ({error})") from error
    return KeptRound(
        round=record.round,
        asked=record.asked,
        givers=record.givers,
        metrics=record.metrics,
        failures=record.failures,
        blamed=record.blamed,
        step=record.step,
        absent=record.absent,
        sha256s=record.sha256s,
        vector=vector,
    )
