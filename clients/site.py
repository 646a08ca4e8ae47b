"""A hospital: its rows, its own state, and what it allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from clients.declared import Declared
from clients.desk.approvals import Approvals, desk_of
from clients.policy import Policy
from fedmodel.data import Rows
from fedmodel.identity import Roster
from fedmodel.identity.recent import Recent
from fedmodel.identity.validity import utc_now
from fedmodel.job import Performance
from fedmodel.ledger import Ledger
from fedmodel.ledger.site_state import SiteState
from fedmodel.seeds import Entropy
from fedmodel.tasks import written

__all__ = ["Site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one site brings to a job. It belongs to the site; none of it is sent as it is.

    Args:
        name: of the site.
        rows: its training rows.
        test: rows it has held out from them; ``None`` where it was told of none.
        declared: what it says of its rows: all that its answer to an offer may follow from.
        state: what it keeps from run to run: its key, salt, ledgers and tree heads.
        dataset: name that it has given to its rows, for the ledger.
        ledger_path: file of the ledger, where it isn't the state's own.
        before: folder in which versions before 0.2 kept closed rounds by job alone; ``None``: the
            state's own.
        policy: what it allows. It outranks every job.
        performance: how its machine goes about a job; ``None``: as the coordinator proposes.
        roster: who may take part, by the site's own copy; needed where updates are hidden.
        entropy: real randomness for sampling, noise and keys.
        clock: tells the time, in UTC.
    """

    name: str
    rows: Rows
    test: Rows | None = None
    declared: Declared
    state: SiteState
    dataset: str = "main"
    ledger_path: Path | None = None
    before: Path | None = None
    policy: Policy = field(default_factory=Policy)
    performance: Performance | None = None
    roster: Roster | None = None
    entropy: Entropy = field(default_factory=Entropy)
    clock: Callable[[], datetime] = utc_now

    @property
    def ledger_file(self) -> Path:
        """File of the ledger of its rows, whether or not it is there."""
        return self.ledger_path or self.state.ledger_path(self.dataset)

    @property
    def has_ledger(self) -> bool:
        """Whether its rows have a ledger, or have had one by the tree head beside it."""
        return self.ledger_file.exists() or self.state.head_path(self.dataset).exists()

    @property
    def approvals(self) -> Approvals:
        """What its people have said of the jobs that were offered.

        Raises:
            LedgerError: when the site's key can't be read or written.
        """
        return desk_of(self.state, self.policy.people)

    @property
    def offered(self) -> Recent:
        """Offers that it has taken note of, where its policy limits how many are new in a day."""
        return Recent(self.state.folder / "offered.json")

    def columns(self) -> tuple[Sequence[str], list[str], Sequence[str] | None]:
        """Return texts, labels and patients of all rows, as the ledger commits to them."""
        rows = Rows.concat([self.rows, *([self.test] if self.test is not None else [])])
        return rows.texts, [written(label) for label in rows.labels], rows.patients

    def open_ledger(self) -> Ledger:
        """Return the ledger of its rows, to write into.

        Raises:
            LedgerError: when the site's key can't be read or written.
        """
        return self.state.ledger(self.dataset, self.policy.caps, self.ledger_path)

    def __repr__(self) -> str:
        return f"Site(name={self.name!r})"
