"""What a site carries from round to round of a run: an optimiser's state, an adaptive norm."""

from pathlib import Path

from safetensors.torch import save

from clients.round_files import RoundFiles
from fedmodel.job import Job
from fedmodel.training import optim
from fedmodel.training.local import Result

__all__ = ["Carried"]


class Carried:
    """Files of a run at a site, one of each kind for each round.

    Args:
        folder: of the run.
        job: of it.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        short = job.sha256[:32]
        self._optimizers = RoundFiles(folder, f"optimizer-{short}", ".safetensors")
        self._clips = RoundFiles(folder, f"clip-{short}", ".txt")
        self._keeps = job.train.optimizer_state == "keep"
        self._adapts = job.privacy.clipping == "adaptive"

    def optimizer(self, round_: int) -> Path | None:
        """Return the file of the optimiser's state before a round; ``None`` where it isn't kept."""
        return self._optimizers.before(round_) if self._keeps else None

    def clip(self, round_: int) -> float | None:
        """Return where an adaptive clip norm got to, ``None`` before the first round."""
        file = self._clips.before(round_) if self._adapts else None
        return None if file is None else float(file.read_text())

    def keep(self, round_: int, result: Result) -> None:
        """Keep what a round has left, for those after it."""
        if self._keeps:
            self._optimizers.write(round_, save(optim.state_tensors(result.optimizer)))
        if result.clip is not None:
            self._clips.write(round_, repr(float(result.clip)).encode())
