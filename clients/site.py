"""A hospital: its rows, its device, its own files."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel.data import Rows
from fedmodel.identity import Roster
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.site_state import SiteState
from fedmodel.secagg.agreement import Floors
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
        home: folder of what it keeps from run to run: its key, salt and heads; by default, as
            ``state``.
        dataset: name that it has given to its rows, for the ledger.
        caps: what it allows to be spent on them. They outrank every job.
        run: name of the run, for the ledger.
        roster: who may take part, by the site's own copy; needed where updates are hidden.
        floors: fewest sites in a secure sum. They outrank every job.
        entropy: real randomness for sampling, noise and keys.
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
    home: Path | None = None
    dataset: str = "main"
    caps: Caps = field(default_factory=Caps)
    run: str
    roster: Roster | None = None
    floors: Floors = field(default_factory=Floors)
    entropy: Entropy = field(default_factory=Entropy)
    on_step: Callable[[], None] = lambda: None
    train_seconds: float = 0.0
    refusal: str | None = None

    @property
    def books(self) -> SiteState:
        """The site's own state."""
        return SiteState(self.home or self.state, self.name, self.entropy)

    def open_ledger(self) -> Ledger:
        """Return the ledger of its rows, to write into.

        Raises:
            LedgerError: when the site's key can't be read or written.
        """
        return self.books.ledger(self.dataset, self.caps, self.ledger)

    def __repr__(self) -> str:
        return f"Site(name={self.name!r})"
