"""Agreement and floors: what secure sums are bound to, and what a site never goes below."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedmodel.errors import ConfigError, FloorError
from fedmodel.job import MaskedSums

__all__ = ["Agreement", "Floors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What all parties of a session have agreed on before its first round.

    Args:
        session: 32 random bytes (hex), new whenever sites join.
        job: SHA-256 (hex) of the job.
        roster: SHA-256 (hex) of the roster: who may take part, by which key.
        rounds: of the run; a manifest's round is among them.
        attempts: how often one round may be begun.
        survivors: a sum is of so many sites at least.
        colluders: so many of them may work with the coordinator.
        threshold: consents that a reveal needs, and shares that make a secret.
        bits: of a ring element; the ring is the integers modulo 2**bits.
        count: ring elements of an upload.
    """

    session: str
    job: str
    roster: str
    rounds: int
    attempts: int
    survivors: int
    colluders: int
    threshold: int
    bits: int
    count: int

    @classmethod
    def of(
        cls,
        sums: MaskedSums,
        *,
        session: str,
        job: str,
        roster: str,
        rounds: int,
        count: int,
    ) -> "Agreement":
        """Return the agreement that a job stands for.

        Args:
            sums: of the job.
            session: see the class.
            job: likewise.
            roster: likewise.
            rounds: likewise.
            count: likewise.
        """
        return cls(
            session=session,
            job=job,
            roster=roster,
            rounds=rounds,
            attempts=sums.attempts,
            survivors=sums.survivors,
            colluders=sums.colluders,
            threshold=sums.threshold,
            bits=sums.bits,
            count=count,
        )

    def one_set_of(self, sites: int) -> bool:
        """Return whether of all sums of a round at most one can be opened.

        That takes as many consents as the threshold. Two sets of so many of the roster's sites
        have more in common than may collude, so an honest one, and it consents once a round,
        whatever cohort, attempt or joining it is asked in.

        Args:
            sites: members of the roster.
        """
        return 2 * self.threshold > sites + self.colluders

    @classmethod
    def of_keys(cls, *, session: str, job: str, roster: str, rounds: int) -> "Agreement":
        """Return an agreement on who is who, and on no sum: for updates that are sealed only."""
        return cls(
            session=session,
            job=job,
            roster=roster,
            rounds=rounds,
            attempts=1,
            survivors=1,
            colluders=0,
            threshold=1,
            bits=32,
            count=1,
        )


_LEAST = {"cohort": 3, "survivors": 3, "threshold": 2, "colluders": 0}
_WORDS = {
    **{name: name for name in ("cohort", "survivors", "threshold", "colluders")},
    "honest": "survivors less colluders",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """A site's own limits. They are its own configuration; no coordinator can lower them.

    What is ``None`` follows from the site's own roster (:meth:`of_roster`); as long as that isn't
    known, it is the least that any sum needs.

    Args:
        cohort: fewest sites in a round.
        survivors: fewest sites in a sum.
        honest: fewest sites in a sum besides the tolerated colluders, at least 3: of two, each
            learns the other's update, and one is bare.
        threshold: fewest consents and shares.
        colluders: the job must tolerate so many at least.

    Raises:
        ConfigError: for a floor of fewer than 3 honest sites.
    """

    cohort: int | None = None
    survivors: int | None = None
    honest: int = 3
    threshold: int | None = None
    colluders: int | None = None

    def __post_init__(self) -> None:
        if self.honest < 3:
            raise ConfigError(
                f"a site's floor of honest survivors can't be below 3, got {self.honest}"
            )

    def of_roster(self, sites: int) -> "Floors":
        """Return the floors with those that weren't set, by how many sites the roster has.

        One site may collude with the coordinator; four fifths of the roster must be in a sum, and
        as many in a round; and more than (sites + colluders)/2 must consent. So no two sets of
        sites of one roster can both consent in a round: two such sets share an honest site, and it
        signs one only, whatever the cohorts are.

        Args:
            sites: members of the roster.
        """
        colluders = 1 if self.colluders is None else self.colluders
        survivors = self.survivors
        if survivors is None:
            survivors = max(math.ceil(0.8 * sites), self.honest + colluders)
        threshold = (sites + colluders) // 2 + 1 if self.threshold is None else self.threshold
        return Floors(
            cohort=survivors if self.cohort is None else self.cohort,
            survivors=survivors,
            honest=self.honest,
            threshold=threshold,
            colluders=colluders,
        )

    def least(self, name: str) -> int:
        """Return a floor."""
        value = getattr(self, name)
        return _LEAST[name] if value is None else int(value)

    def check_agreed(self, agreement: Agreement) -> None:
        """Check what was agreed on, for the smallest cohort that there can be.

        Raises:
            FloorError: naming what is below which floor.
        """
        self.check(
            cohort=max(agreement.survivors, self.least("cohort")),
            survivors=agreement.survivors,
            threshold=agreement.threshold,
            colluders=agreement.colluders,
        )

    def check(self, *, cohort: int, survivors: int, threshold: int, colluders: int) -> None:
        """Check what a job or a manifest asks for.

        Args:
            cohort: sites in a round.
            survivors: in a sum at least.
            threshold: consents and shares.
            colluders: that are tolerated.

        Raises:
            FloorError: naming what is below which floor, and what would allow it.
        """
        found = {
            "cohort": cohort,
            "survivors": survivors,
            "threshold": threshold,
            "colluders": colluders,
            "honest": survivors - colluders,
        }
        below = {name: value for name, value in found.items() if value < self.least(name)}
        if below:
            raise FloorError(self._below(below))
        if 2 * threshold <= cohort + colluders:
            raise FloorError(
                f"a threshold of {threshold} among {cohort} sites with {colluders} colluders lets "
                "two sets of survivors be agreed on, and one update follow from two sums; expected "
                f"at least {(cohort + colluders) // 2 + 1}"
            )
        if threshold > survivors:
            raise FloorError(
                f"a threshold of {threshold} can't be met by {survivors} survivors; nothing "
                "would ever be unmasked"
            )

    def _below(self, below: Mapping[str, int]) -> str:
        """Return what is asked below which floor, and by which settings an operator allows it."""
        # Those that aren't set follow from it.
        named = {"colluders": below["colluders"]} if "colluders" in below else below
        (first, value), *others = named.items()
        rest = "; ".join(f"{_WORDS[n]} {self.least(n)}, asked for {v}" for n, v in others)
        told = (
            f"this site's floor for {_WORDS[first]} in secure aggregation is {self.least(first)}, "
            f"it was asked for {value}{f' ({rest})' if rest else ''}; take part with more sites"
        )
        if any(n < _LEAST.get(name, 3) for name, n in below.items()):
            return f"{told}: no floor can be set so low"
        settings = " ".join(f"floors.{name}={n}" for name, n in named.items())
        return f"{told}, or let the operators of the sites agree on {settings}"
