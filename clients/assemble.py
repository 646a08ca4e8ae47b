"""Assembly of a site from what its hospital has: a configuration, rows, folders and a roster."""

from dataclasses import dataclass, field
from pathlib import Path

from clients.policy import Policy
from clients.site import Site
from fedmodel.data import Rows
from fedmodel.identity import Roster
from fedmodel.job import Performance
from fedmodel.ledger.site_state import SiteState, dataset_name
from fedmodel.seeds import Entropy

__all__ = ["RunPlace", "SiteConfig", "make_site", "open_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """A hospital's own configuration. None of it is ever sent.

    Args:
        name: of the site.
        home: folder of what it keeps from run to run: its key, salt, ledgers and tree heads.
        dataset: name that it gives to its rows.
        policy: what it allows.
        performance: how its machine goes about a job; ``None``: as the coordinator proposes.

    Raises:
        ConfigError: for a dataset's name that can't name a file.
    """

    name: str
    home: Path
    dataset: str = "main"
    policy: Policy = field(default_factory=Policy)
    performance: Performance | None = None

    def __post_init__(self) -> None:
        dataset_name(self.dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace:
    """Where a site's part in one run is kept.

    Args:
        run: its name, for the ledger.
        folder: for what is kept from round to round.
        ledger: file of the ledger, where it isn't the state's own.
    """

    run: str
    folder: Path
    ledger: Path | None = None


def open_state(config: SiteConfig, entropy: Entropy | None = None) -> SiteState:
    """Return the state of a site: its key is read once, and made at the first time."""
    return SiteState(config.home, config.name, entropy)


def make_site(
    config: SiteConfig,
    state: SiteState,
    rows: Rows,
    test: Rows | None,
    place: RunPlace,
    *,
    roster: Roster | None = None,
    entropy: Entropy | None = None,
) -> Site:
    """Return a site, ready for one run.

    Args:
        config: the hospital's.
        state: its own (:func:`open_state`).
        rows: its training rows.
        test: rows it has held out from them; ``None`` where it has none.
        place: of the run.
        roster: who may take part; needed where updates are hidden.
        entropy: real randomness for sampling, noise and keys.
    """
    return Site(
        name=config.name,
        rows=rows,
        test=test,
        state=state,
        run_folder=place.folder,
        run=place.run,
        dataset=config.dataset,
        ledger_path=place.ledger,
        policy=config.policy,
        performance=config.performance,
        roster=roster,
        entropy=entropy or Entropy(),
    )
