"""A hospital: its rows, its device, its own files."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel.data import Rows
from fedmodel.seeds import Entropy

__all__ = ["Site"]


@dataclass(slots=True, kw_only=True)
class Site:
    """What one site brings to a job. It belongs to the site; nothing here is ever sent.

    Args:
        name: of the site.
        rows: its training rows.
        test: rows it has held out from them; ``None`` where it was told of none.
        device: ``auto``, ``cpu`` or ``cuda``.
        ledger: file of its privacy spends; append-only.
        state: folder for what it keeps between rounds.
        run: name of the run, for the ledger.
        entropy: real randomness for sampling and noise.
        on_step: called after each local step (a progress display).
        train_seconds: time spent so far in local training. It stays here: with Poisson sampling it
            tells about the number of sampled rows.
        refusal: why it refused, in its own words; what travels says less.
    """

    name: str
    rows: Rows
    test: Rows | None = None
    device: str = "auto"
    ledger: Path
    state: Path
    run: str
    entropy: Entropy = field(default_factory=Entropy)
    on_step: Callable[[], None] = lambda: None
    train_seconds: float = 0.0
    refusal: str | None = None

    def __repr__(self) -> str:
        return f"Site(name={self.name!r})"
