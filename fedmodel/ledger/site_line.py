"""Line of a site's ledger: its schema, and what it says of where the coordinator's own stands."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.ledger.fields import require_counts
from fedmodel.ledger.line import Line

__all__ = ["NOWHERE", "SCHEMA", "Begun", "Schema", "SiteLine", "WitnessLine"]

SCHEMA: Literal["fedmodel.ledger/4"] = "fedmodel.ledger/4"

Schema: TypeAlias = Literal["fedmodel.ledger/2", "fedmodel.ledger/3", "fedmodel.ledger/4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine(Line):
    """What every line of a site's ledger has.

    Args:
        schema: of the line that it is written in, or was read from.
    """

    schema: Schema = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessLine(SiteLine):
    """A line that says what the site was last shown of the coordinator's ledger of the run.

    The site signs its own ledger, and so for what it was shown; it has checked that the coordinator
    had signed that, and that it had grown from what it was shown before.

    Args:
        coordinator_entries: how many entries that ledger had, by the signed tree head that came
            with the order; 0: none came, or the line is of an earlier schema.
        coordinator_root: Merkle root over them, hex; empty likewise.
    """

    coordinator_entries: int = 0
    coordinator_root: str = ""

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        require_counts(self, "coordinator_entries")
        if self.coordinator_entries:
            config.require_hex("coordinator_root", self.coordinator_root, 64)
        elif self.coordinator_root:
            raise ConfigError("no entries of the coordinator's ledger, and a root over them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where steps start from, as a ledger writes it down of them.

    Args:
        model: SHA-256 (hex) of the parameters; empty where that isn't known.
        entries: how many the coordinator's ledger had; 0 where it has none.
        root: Merkle root over them, hex; empty likewise.
    """

    model: str = ""
    entries: int = 0
    root: str = ""


NOWHERE = Begun()
"""Where who reserves and spends without a run's orders begins."""
