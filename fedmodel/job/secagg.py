"""Ways of keeping updates from the coordinator."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from fedmodel.errors import ConfigError
from fedmodel.job.checks import require

__all__ = ["BITS", "SecAgg"]

BITS = (16, 20, 24, 28, 32)  # of a number as it travels
_FEWEST = 3  # honest sites in a sum: of two, each learns the other's


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAgg:
    """How updates are kept from the coordinator, and from what lies between.

    Args:
        mode: ``on``: the coordinator learns the sum of the sites' updates and nothing else of
            them (arXiv ePrint 2017/281); ``seal``: each update is encrypted to the coordinator,
            who reads it; ``off``.
        colluders: so many sites may work together with the coordinator without the others'
            updates being exposed. ``None`` until a job is complete.
        survivors: a round needs so many sites to the end. ``None`` until a job is complete.
        threshold: so many sites must agree on who survived before anything is unmasked, and so
            many shares make a secret. ``None`` until a job is complete.
        attempts: how often one round may be begun, with fresh masks each time.
        bits: of a number as it travels; ``None`` until a job is complete.
        range: largest absolute value of a coordinate of an update (of a mean update, where sites
            have weights). Without effect on steps of ``privacy=distributed``, whose range follows
            from the clip norm.
        max_weight: largest weight of a site, in rows; ``None`` until a job is complete.
        overflow: what a site does with a coordinate beyond the range: ``refuse`` the round, or
            ``clip`` it.
    """

    mode: Literal["off", "on", "seal"] = "off"
    colluders: int | None = None
    survivors: int | None = None
    threshold: int | None = None
    attempts: int = 2
    bits: int | None = None
    range: float = 8.0
    max_weight: int | None = None
    overflow: Literal["refuse", "clip"] = "refuse"

    def __post_init__(self) -> None:
        for name, least in (
            ("colluders", 0),
            ("survivors", 1),
            ("threshold", 1),
            ("max_weight", 1),
            ("attempts", 1),
        ):
            value = getattr(self, name)
            require(
                value is None or value >= least,
                f"secagg.{name} must be at least {least}, got {value}",
            )
        require(
            self.bits is None or self.bits in BITS,
            f"secagg.bits must be {', '.join(map(str, BITS))} or null, got {self.bits}",
        )
        require(0 < self.range < 2**31, f"secagg.range must be > 0, got {self.range}")
        if self.on and self.survivors is not None and self.colluders is not None:
            require(
                self.honest >= _FEWEST,
                f"secagg=on needs secagg.survivors - secagg.colluders to be at least {_FEWEST}, "
                f"got {self.survivors} - {self.colluders}: with fewer, the honest sites' updates "
                "follow from their sum and what the others know",
            )
            require(
                self.threshold is None or self.threshold <= self.survivors,
                f"secagg.threshold ({self.threshold}) must not be above secagg.survivors "
                f"({self.survivors}): so many sites must be left to unmask the sum",
            )

    @property
    def on(self) -> bool:
        """Whether the coordinator sees sums only."""
        return self.mode == "on"

    @property
    def honest(self) -> int:
        """Sites that are left at least and don't collude: h. Their noise is what is counted."""
        if self.survivors is None or self.colluders is None:
            raise ConfigError("secagg.survivors and secagg.colluders aren't filled in yet")
        return self.survivors - self.colluders

    def completed(self, sites: int, *, weighted: int | None = None) -> "SecAgg":
        """Return what is agreed on for so many sites in a round; what was given stays.

        All but the bits: they follow from the whole job (:func:`fedmodel.secagg.sums.completed`).

        Args:
            sites: in a round.
            weighted: a public bound on a site's rows, where updates are weighted by them.

        Raises:
            ConfigError: when there are too few sites.
        """
        if not self.on:
            return self
        colluders = self.colluders if self.colluders is not None else int(sites > _FEWEST)
        least = max(math.ceil(0.8 * sites), _FEWEST + colluders, (sites + colluders) // 2 + 1)
        survivors = self.survivors if self.survivors is not None else least
        require(
            sites >= survivors,
            f"secagg=on needs {survivors} sites in a round (secagg.survivors, which is {_FEWEST} "
            f"more than the {colluders} tolerated colluders at least), and this job has {sites}; "
            "take part with more sites, or use secagg=off or secagg=seal",
        )
        threshold = self.threshold
        if threshold is None:
            threshold = (sites + colluders) // 2 + 1
        require(
            2 * threshold > sites + colluders,
            f"secagg.threshold must be above (sites + colluders) / 2 = {(sites + colluders) / 2:g} "
            f"so that two sets of survivors can't both be agreed on, got {threshold}",
        )
        return replace(
            self,
            colluders=colluders,
            survivors=survivors,
            threshold=threshold,
            max_weight=self.max_weight if self.max_weight is not None else weighted,
        )
