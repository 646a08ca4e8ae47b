"""The run folder: what a run was, what it did and where it stopped, on disk.

Every file is written beside its place and renamed into it after an fsync, so that a kill at any
point leaves the old file or the new one. A checkpoint is a folder that is renamed into place whole.
"""

import datetime
import fcntl
import functools
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmodel.errors import ConfigError, RunFolderError, RunNameError
from fedmodel.runs import checkpoint as checkpoints
from fedmodel.runs import pending
from fedmodel.runs.arrays import as_bytes, load_arrays
from fedmodel.runs.checkpoint import Checkpoint
from fedmodel.runs.files import parse_json, read_json, to_json, write_atomic
from fedmodel.runs.manifest import Manifest
from fedmodel.runs.pending import KeptRound
from fedmodel.runs.summary import Summary

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RunFolder", "run_path"]

RUNS = Path("runs")


def run_path(name: str | None) -> Path:
    """Return the folder a run's name means: ``runs/NAME``, or a path (``./NAME``) as it is.

    Without a name, the date and time.

    Raises:
        ConfigError: for a name that names no folder of its own.
    """
    if name is None:
        return RUNS / datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if not name.strip() or name in (".", ".."):
        raise ConfigError(f"run={name!r} names no run; give a name, or the path of a folder")
    # What has a separator is a path, also one that Path() takes it out of: ./NAME.
    return Path(name).expanduser() if "/" in name or name[0] == "~" else RUNS / name


class RunFolder:
    """One run's folder. Make it with :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, manifest: Manifest) -> "RunFolder":
        """Make a new run folder with its manifest.

        Args:
            path: the folder, which must not hold a run.
            manifest: what the run is.

        Raises:
            RunNameError: if something is there already.
            RunFolderError: if it can't be written.
        """
        cls.check_new(path)
        write_atomic(path / "manifest.json", to_json(manifest.to_mapping()))
        return cls(path)

    @classmethod
    def check_new(cls, path: Path) -> None:
        """Check that there is no run at a path yet.

        Raises:
            RunNameError: if something is there.
            RunFolderError: if that can't be told.
        """
        try:
            # A kill during the very first write leaves only its temporary file: that is no run.
            taken = path.exists() and any(
                not (p.name.startswith(".") and p.name.endswith((".tmp", ".lock")))
                for p in path.iterdir()
            )
        except OSError as error:
            taken = isinstance(error, NotADirectoryError)
            raise (RunNameError if taken else RunFolderError)(
                f"{path} can't be a run folder: {error.strerror}; choose another run=NAME"
            ) from error
        if not taken:
            return
        try:
            cls.open(path)
        except RunFolderError as error:
            raise RunNameError(
                f"{path} exists already, and holds no run that can be read ({error}); choose "
                "another run=NAME, or move that folder away"
            ) from error
        if (path / "summary.json").is_file():
            raise RunNameError(f"{path} is there already, and finished; choose another run=NAME")
        raise RunNameError(
            f"{path} exists already; choose another run=NAME, or continue it with resume=true"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from running this run at the same time.

        Raises:
            RunFolderError: if another one does.
        """
        handle = os.open(self.path / ".run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise RunFolderError(
                f"{self.path} is being run by another process; wait for it or stop it"
            ) from error
        try:
            yield
        finally:
            os.close(handle)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            RunNameError: if there is no such folder.
            RunFolderError: if it isn't one, or of a schema this version doesn't know.
        """
        if not path.is_dir():
            raise RunNameError(f"there is no run {path}; give run= one that is, or its folder")
        folder = cls(path)
        _ = folder.manifest  # read now: what can't be read isn't open
        return folder

    @functools.cached_property
    def manifest(self) -> Manifest:
        """What the run is. It is written once, and read once.

        Raises:
            RunFolderError: if it is damaged, or of a schema that this version doesn't read.
        """
        path = self.path / "manifest.json"
        return Manifest.from_mapping(read_json(path), str(path))

    @property
    def run(self) -> str:
        """The run's name in ledgers: unlike the folder's, it isn't used again for another run."""
        return self.manifest.run

    @property
    def log(self) -> Path:
        """File of what was logged while the run went on."""
        return self.path / "run.log"

    @property
    def tree_heads(self) -> Path:
        """File of the sites' ledger heads, as the coordinator has seen them."""
        return self.path / "heads.json"

    @property
    def own_ledger(self) -> Path:
        """The coordinator's own ledger of the run."""
        return self.path / "coordinator.jsonl"

    @property
    def own_head(self) -> Path:
        """File of the last tree head that the coordinator has signed of it."""
        return self.path / "coordinator-head.json"

    def keep_roster(self, sha256: str, text: bytes) -> None:
        """Keep a roster that the run is played by; one that is kept already is left as it is.

        Args:
            sha256: of the roster (hex): its name in ledgers.
            text: of its file.

        Raises:
            RunFolderError: if it can't be written.
        """
        path = self.path / "rosters" / f"{sha256}.json"
        if not path.exists():
            write_atomic(path, text)

    def ledger(self, party: str) -> Path:
        """Return the path of a party's spend ledger (or of a copy, if it is kept elsewhere)."""
        return self.path / "ledger" / f"{party}.jsonl"

    def site_state(self, party: str) -> Path:
        """Return the folder of what a simulated site keeps for itself between rounds."""
        return self.path / "sites" / party

    # -- metrics: one line per round -------------------------------------------------------------

    def metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of the finished rounds, in order.

        A line has at least ``round``, a whole number; it stands under the manifest's schema.

        Raises:
            RunFolderError: if a line is damaged.
        """
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line:
                continue
            row = parse_json(line, f"{path} line {number}")
            if type(row.get("round")) is not int:
                raise RunFolderError(
                    f"{path} line {number} must name its round by a whole number, got "
                    f"round={row.get('round')!r}; restore it from a copy"
                )
            rows.append(row)
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write the metrics of all finished rounds."""
        lines = [json.dumps(row, allow_nan=False) for row in rows]
        write_atomic(self.path / "metrics.jsonl", "".join(f"{x}\n" for x in lines).encode())

    # -- summary ---------------------------------------------------------------------------------

    def write_summary(self, summary: Summary) -> None:
        """Write ``summary.json``: its presence says that the run came to its end."""
        write_atomic(self.path / "summary.json", to_json(summary.to_mapping()))

    def summary(self) -> Summary | None:
        """Return the summary of a finished run, else ``None``.

        Raises:
            RunFolderError: if it is damaged, or of a schema that this version doesn't read.
        """
        path = self.path / "summary.json"
        return Summary.from_mapping(read_json(path), str(path)) if path.exists() else None

    # -- checkpoints and the model ---------------------------------------------------------------

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint whole or not at all, and drop all but the last two.

        Raises:
            RunFolderError: if it can't be written.
        """
        checkpoints.write(self.path / "checkpoints", checkpoint)

    def last_checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint, ``None`` if the run had none.

        Raises:
            RunFolderError: if it is damaged.
        """
        return checkpoints.read_last(self.path / "checkpoints")

    # -- a round that no checkpoint has yet ------------------------------------------------------

    def note_begun(self, round_: int, asked: int = 0) -> None:
        """Write down, before sites are asked to agree to a round's sum, that they are.

        Args:
            round_: of the run.
            asked: so many sites were asked for their updates; 0: that isn't known.

        Raises:
            RunFolderError: if it can't be written.
        """
        pending.note_begun(self.path / "pending", pending.Begun(round_, asked))

    def begun(self) -> pending.Begun:
        """Return the last round in which sites were asked to agree to a sum."""
        return pending.begun(self.path / "pending")

    def keep_round(self, round_: KeptRound) -> None:
        """Keep what a round brought in until a checkpoint has it.

        Raises:
            RunFolderError: if it can't be written.
        """
        pending.write_kept(self.path / "pending", round_)

    def kept_round(self) -> KeptRound | None:
        """Return what a round brought in last, ``None`` if nothing was kept.

        Raises:
            RunFolderError: if it is damaged.
        """
        return pending.kept(self.path / "pending")

    def keep_attempt(self, parts: Iterable[bytes | memoryview]) -> None:
        """Keep what it takes to ask for a secure sum's reveals again. A power cut may lose it.

        Raises:
            RunFolderError: if it can't be written.
        """
        pending.write_attempt(self.path / "pending", parts)

    def kept_attempt(self) -> bytes | None:
        """Return what was kept of an attempt last, ``None`` if nothing was."""
        return pending.attempt(self.path / "pending")

    @property
    def blame(self) -> Path:
        """File of what the coordinator has found out about sites in secure sums."""
        return self.path / "pending" / "blame.json"

    def write_model(self, parameters: "dict[str, NDArray[np.float32]]") -> None:
        """Write the final trainable parameters to ``model/``."""
        write_atomic(self.path / "model" / "trained.safetensors", as_bytes(parameters))

    def model(self) -> "dict[str, NDArray[Any]]":
        """Return the final trainable parameters.

        Raises:
            RunFolderError: if the run isn't finished or the file is damaged.
        """
        path = self.path / "model" / "trained.safetensors"
        if not path.exists():
            raise RunFolderError(
                f"{self.path} has no finished model; finish it with "
                f"'{self.manifest.goes_on(self.path.name)}'"
            )
        return load_arrays(path)
