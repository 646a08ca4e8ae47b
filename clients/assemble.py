"""Assembly of a site from what its hospital has: a configuration, rows, folders and a roster."""

from dataclasses import dataclass, field
from pathlib import Path

from clients.declared import Declared
from clients.policy import Policy
from clients.site import Site
from fedmodel.data import Rows
from fedmodel.identity import Roster
from fedmodel.job import Performance
from fedmodel.ledger.site_state import SiteState, dataset_name
from fedmodel.seeds import Entropy

__all__ = ["SiteConfig", "make_site", "open_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """A hospital's own configuration. None of it is ever sent.

    Args:
        name: of the site.
        declared: what it says of its rows.
        home: folder of all that it keeps: its key, salt, ledgers and tree heads, and what is of one
            run only.
        dataset: name that it gives to its rows.
        policy: what it allows.
        performance: how its machine goes about a job; ``None``: as the coordinator proposes.
        ledger: file of the ledger, where it isn't in its home.
        before: folder in which versions before 0.2 kept closed rounds by job alone, where it isn't
            its home.

    Raises:
        ConfigError: for a dataset's name that can't name a file.
    """

    name: str
    declared: Declared
    home: Path
    dataset: str = "main"
    policy: Policy = field(default_factory=Policy)
    performance: Performance | None = None
    ledger: Path | None = None
    before: Path | None = None

    def __post_init__(self) -> None:
        dataset_name(self.dataset)


def open_state(
    config: SiteConfig, entropy: Entropy | None = None, passphrase: bytes | None = None
) -> SiteState:
    """Return the state of a site: its key is read once, and made at the first time."""
    return SiteState(config.home, config.name, entropy, passphrase)


def make_site(
    config: SiteConfig,
    state: SiteState,
    rows: Rows,
    test: Rows | None,
    *,
    roster: Roster | None = None,
    entropy: Entropy | None = None,
) -> Site:
    """Return a site, ready for any run.

    Args:
        config: the hospital's.
        state: its own (:func:`open_state`).
        rows: its training rows.
        test: rows it has held out from them; ``None`` where it has none.
        roster: who may take part; needed where updates are hidden.
        entropy: real randomness for sampling, noise and keys.
    """
    return Site(
        name=config.name,
        rows=rows,
        test=test,
        declared=config.declared,
        state=state,
        dataset=config.dataset,
        ledger_path=config.ledger,
        before=config.before,
        policy=config.policy,
        performance=config.performance,
        roster=roster,
        entropy=entropy or Entropy(),
    )
