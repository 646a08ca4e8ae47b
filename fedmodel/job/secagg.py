"""Secrecy of updates: what is asked for, and the complete numbers of a masked sum."""

import math
from dataclasses import dataclass
from typing import Literal

from fedmodel.errors import ConfigError
from fedmodel.job.checks import require

__all__ = ["BITS", "MaskedSums", "ProposedSecAgg", "SecAgg", "masked_sums"]

BITS = (16, 20, 24, 28, 32)  # of a number as it travels
_FEWEST = 3  # honest sites in a sum: of two, each learns the other's


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedSecAgg:
    """How updates are to be kept from the coordinator, and from what lies between.

    Args:
        mode: ``on``: the coordinator learns the sum of the sites' updates and nothing else of
            them (arXiv ePrint 2017/281); ``seal``: each update is encrypted to the coordinator,
            who reads it; ``off``; ``auto``: ``on`` where the sites share the noise, else ``off``.
        colluders: see :class:`MaskedSums`; ``None``: 1, or 0 of three sites.
        survivors: likewise; ``None``: four in five, and three that don't collude.
        threshold: likewise; ``None``: the least that is safe.
        attempts: likewise.
        bits: likewise; ``None``: what the job needs.
        range: likewise.
        max_weight: likewise; ``None``: by the sites' published sizes.
        overflow: likewise.
    """

    mode: Literal["auto", "off", "on", "seal"] = "off"
    colluders: int | None = None
    survivors: int | None = None
    threshold: int | None = None
    attempts: int = 2
    bits: int | None = None
    range: float = 8.0
    max_weight: int | None = None
    overflow: Literal["refuse", "clip"] = "clip"

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.mode == "on" and self.survivors is not None and self.colluders is not None:
            _check_honest(self.survivors, self.colluders)
            if self.threshold is not None:
                _check_threshold(self.threshold, self.survivors)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedSums:
    """What a masked sum is made by. Every number is agreed on before a site joins.

    Args:
        colluders: so many sites may work together with the coordinator without the others'
            updates being exposed.
        survivors: a round needs so many sites to the end.
        threshold: so many sites must agree on who survived before anything is unmasked, and so
            many shares make a secret.
        attempts: how often one round may be begun, with fresh masks each time.
        bits: of a number as it travels.
        range: largest absolute value of a coordinate of an update (of a mean update, where sites
            have weights). Without effect on steps of ``privacy=distributed``, whose range follows
            from the clip norm.
        max_weight: largest weight of a site, in rows; 1 where all weigh the same. A site with more
            rows counts as having so many.
        overflow: what a site does with a coordinate beyond the range: ``clip`` it, or ``refuse``
            the round. Who refuses tells about its update (and, where rows are weights, about how
            many it has).
    """

    colluders: int
    survivors: int
    threshold: int
    attempts: int = 2
    bits: int = 32
    range: float = 8.0
    max_weight: int = 1
    overflow: Literal["refuse", "clip"] = "clip"

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_honest(self.survivors, self.colluders)
        _check_threshold(self.threshold, self.survivors)

    @property
    def honest(self) -> int:
        """Sites that are left at least and don't collude: h. Their noise is what is counted."""
        return self.survivors - self.colluders


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAgg:
    """How updates are kept from the coordinator, and from what lies between.

    Args:
        mode: ``on``, ``seal`` or ``off``, as in :class:`ProposedSecAgg`.
        sums: what the sums are made by: with ``on``, and only then.
    """

    mode: Literal["off", "on", "seal"] = "off"
    sums: MaskedSums | None = None

    def __post_init__(self) -> None:
        require(
            (self.mode == "on") == (self.sums is not None),
            f"secagg.mode=on and secagg.sums go together, got mode={self.mode} "
            f"{'without' if self.sums is None else 'with'} sums",
        )

    @property
    def on(self) -> bool:
        """Whether the coordinator sees sums only."""
        return self.mode == "on"

    @property
    def masked(self) -> MaskedSums:
        """What the sums are made by.

        Raises:
            ConfigError: for a job without masked sums.
        """
        if self.sums is None:
            raise ConfigError(f"secagg={self.mode} has no masked sums; it takes secagg=on")
        return self.sums


def masked_sums(
    asked: ProposedSecAgg, *, sites: int, max_weight: int = 1, bits: int | None = None
) -> MaskedSums:
    """Return what is asked for with the numbers that were left open.

    Args:
        asked: by the proposal.
        sites: in a round.
        max_weight: a public bound on a site's rows where updates are weighted by them, else 1.
        bits: what the job needs, where none are asked for.

    Raises:
        ConfigError: when there are too few sites.
    """
    colluders = asked.colluders if asked.colluders is not None else int(sites > _FEWEST)
    least = max(math.ceil(0.8 * sites), _FEWEST + colluders, (sites + colluders) // 2 + 1)
    survivors = asked.survivors if asked.survivors is not None else least
    require(
        sites >= survivors,
        f"secagg=on needs {survivors} sites in a round (secagg.survivors, which is {_FEWEST} "
        f"more than the {colluders} tolerated colluders at least), and this job has {sites}; "
        "take part with more sites, or use secagg=off or secagg=seal",
    )
    threshold = asked.threshold
    if threshold is None:
        threshold = (sites + colluders) // 2 + 1
    require(
        2 * threshold > sites + colluders,
        f"secagg.threshold must be above (sites + colluders) / 2 = {(sites + colluders) / 2:g} "
        f"so that two sets of survivors can't both be agreed on, got {threshold}",
    )
    return MaskedSums(
        colluders=colluders,
        survivors=survivors,
        threshold=threshold,
        attempts=asked.attempts,
        bits=asked.bits or bits or max(BITS),
        range=asked.range,
        max_weight=asked.max_weight if asked.max_weight is not None else max_weight,
        overflow=asked.overflow,
    )


def _check_numbers(secagg: ProposedSecAgg | MaskedSums) -> None:
    for name, least in (
        ("colluders", 0),
        ("survivors", 1),
        ("threshold", 1),
        ("max_weight", 1),
        ("attempts", 1),
    ):
        value = getattr(secagg, name)
        require(
            value is None or value >= least,
            f"secagg.{name} must be at least {least}, got {value}",
        )
    require(
        secagg.bits is None or secagg.bits in BITS,
        f"secagg.bits must be {', '.join(map(str, BITS))} or null, got {secagg.bits}",
    )
    require(0 < secagg.range < 2**31, f"secagg.range must be > 0, got {secagg.range}")


def _check_honest(survivors: int, colluders: int) -> None:
    require(
        survivors - colluders >= _FEWEST,
        f"secagg=on needs secagg.survivors - secagg.colluders to be at least {_FEWEST}, "
        f"got {survivors} - {colluders}: with fewer, the honest sites' updates "
        "follow from their sum and what the others know",
    )


def _check_threshold(threshold: int, survivors: int) -> None:
    require(
        threshold <= survivors,
        f"secagg.threshold ({threshold}) must not be above secagg.survivors "
        f"({survivors}): so many sites must be left to unmask the sum",
    )
