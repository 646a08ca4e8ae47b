"""Rounds as the coordinator counts them: who was in each, as far as its records tell.

Its lines count updates and name who failed by numbers of nodes. Which site is which node, the list
of sites tells. Where everybody who was asked either gave an update or failed, and everybody who
takes part was asked, who gave one is known by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedmodel.runs.summary import Summary

__all__ = ["Account", "Round"]

_FIRST_NODE = 2


@dataclass(frozen=True, slots=True)
class Round:
    """One finished round.

    Args:
        number: 1, 2, …
        updates: how many sites' updates the coordinator has counted.
        givers: whose they were; ``None`` where that can't be told.
        line: of its file, from 1.
    """

    number: int
    updates: int
    givers: frozenset[str] | None
    line: int


@dataclass(frozen=True, slots=True)
class Account:
    """What the coordinator says of who took part in a run.

    Args:
        config: as the run's manifest has it.
        rows: of the finished rounds, in order.
        summary: of the finished run.
        known: all sites, where no summary names them and it is known that these are all.
    """

    config: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    summary: Summary | None
    known: Sequence[str] = ()

    def nodes(self) -> dict[str, str]:
        """Return node, as text, → site."""
        served = self.config.get("sites")
        names: Sequence[Any] = self.known
        if isinstance(served, list):
            names = served
        elif self.summary is not None:
            names = sorted(self.summary.privacy.sites)
        return {str(node): str(name) for node, name in enumerate(names, start=_FIRST_NODE)}

    def participants(self) -> frozenset[str]:
        """Return the sites that take part: neither left out nor refusing."""
        asked = self.config.get("federation")
        excluded = asked.get("exclude") if isinstance(asked, Mapping) else None
        left_out = {str(name) for name in excluded} if isinstance(excluded, list) else set()
        told = self.summary.privacy.sites if self.summary is not None else {}
        refused = {name for name, site in told.items() if site.refused is not None}
        return frozenset(self.nodes().values()) - left_out - refused

    def rounds(self) -> list[Round]:
        """Return the rounds, in the order in which they are written."""
        names, taking = self.nodes(), self.participants()
        return [
            Round(row["round"], row["updates"], _givers(row, names, taking), line)
            for line, row in enumerate(self.rows, start=1)
        ]

    def published_by(self) -> frozenset[str] | None:
        """Return the sites that gave counts of test rows; ``None`` where that can't be told."""
        if self.summary is None or self.summary.released is None:
            return None
        gave = self.participants() - set(self.summary.released.failures)
        return gave if len(gave) == self.summary.released.sites else None


def _givers(
    row: Mapping[str, Any], names: Mapping[str, str], taking: frozenset[str]
) -> frozenset[str] | None:
    failures = row.get("failures", {})
    everybody = row["asked"] == len(taking) == row["updates"] + len(failures)
    if not everybody or not set(failures) <= set(names):
        return None
    return taking - {names[node] for node in failures} if failures else taking
