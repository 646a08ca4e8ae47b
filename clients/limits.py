"""Limits of a site's policy: what any job may ask, whatever the site's rows are.

Every limit is about the job alone, so an answer by one tells nothing about rows; it names what was
asked and what is allowed, and may travel.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from fedmodel.errors import ConfigError
from fedmodel.job import Job, Unit

__all__ = ["Exceeded", "Limits", "exceeded"]

Mechanism: TypeAlias = Literal["none", "dpsgd", "distributed", "site"]
Trained: TypeAlias = Literal["head", "lora", "ffa", "full"]
_HIDDEN = ("off", "seal", "on")  # from the least


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What any job may ask of a site. ``None``: there is no limit.

    Args:
        private: refuse a job without differential privacy.
        secagg: the least that hides updates: ``on`` (secure sums), ``seal`` (sealed, or summed) or
            ``off``.
        epsilon: largest ε that a job may promise; without privacy it has none, and is refused.
        delta: largest δ, likewise.
        clip: largest norm that a private job may clip to; one that moves isn't bounded by it.
        rounds: most rounds.
        steps: most local steps in a round.
        train: what may be trained: head, lora, ffa, full.
        units: whose presence a private job may hide: record, patient, site.
        mechanisms: how a job may be private: none, dpsgd, distributed, site.

    Raises:
        ConfigError: for a limit that no job keeps.
    """

    private: bool = False
    secagg: Literal["off", "seal", "on"] = "off"
    epsilon: float | None = None
    delta: float | None = None
    clip: float | None = None
    rounds: int | None = None
    steps: int | None = None
    train: tuple[Trained, ...] | None = None
    units: tuple[Unit, ...] | None = None
    mechanisms: tuple[Mechanism, ...] | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"policy.{each.name} must be above 0, got {value}")
            if value == ():
                raise ConfigError(
                    f"policy.{each.name} is an empty list, which allows no job; name what is "
                    "allowed, or use null for everything"
                )
        if self.private and self.mechanisms == ("none",):
            raise ConfigError(
                "policy.private=true and policy.mechanisms=[none] allow no job together; leave "
                "one of them out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded:
    """A limit that a job goes beyond.

    Args:
        limit: its key.
        asked: what the job asks for, with the key that says so.
        allowed: what the site allows.
    """

    limit: str
    asked: str
    allowed: str

    def __str__(self) -> str:
        return (
            f"this site's policy allows {self.limit}={self.allowed}, and the job asks for "
            f"{self.asked}; agree on a job within it, or ask the site's operator"
        )


def exceeded(job: Job, limits: Limits) -> Iterator[Exceeded]:
    """Yield every limit that a job goes beyond.

    Args:
        job: what is offered.
        limits: of the site.
    """
    yield from _protection(job, limits)
    yield from _numbers(job, limits)
    yield from _choices(job, limits)


def _protection(job: Job, limits: Limits) -> Iterator[Exceeded]:
    mode = job.secagg.mode
    if limits.private and not job.privacy.private:
        yield Exceeded(limit="policy.private", asked="privacy=none", allowed="true")
    if _HIDDEN.index(mode) < _HIDDEN.index(limits.secagg):
        yield Exceeded(limit="policy.secagg", asked=f"secagg={mode}", allowed=limits.secagg)


def _numbers(job: Job, limits: Limits) -> Iterator[Exceeded]:
    privacy, private = job.privacy, job.privacy.private
    # What isn't private costs more than any ε, and what follows the norms is bounded by none.
    clip = math.inf if privacy.clipping == "adaptive" else privacy.clip
    for name, key, asked, most in (
        ("epsilon", "privacy.epsilon", privacy.epsilon if private else math.inf, limits.epsilon),
        ("delta", "privacy.delta", privacy.delta if private else math.inf, limits.delta),
        ("clip", "privacy.clip", clip if private else 0.0, limits.clip),
        ("rounds", "train.rounds", job.train.rounds, limits.rounds),
        ("steps", "train.steps", job.train.steps, limits.steps),
    ):
        if most is None or asked <= most:
            continue
        said = f"{key}={asked:g}"
        if asked == math.inf:
            said = "privacy.clipping=adaptive" if name == "clip" else "privacy=none"
        yield Exceeded(limit=f"policy.{name}", asked=said, allowed=f"{most:g}")


def _choices(job: Job, limits: Limits) -> Iterator[Exceeded]:
    privacy = job.privacy
    for name, key, asked, known in (
        ("train", "train.method", job.train.method, limits.train),
        ("units", "privacy.unit", privacy.unit, limits.units if privacy.private else None),
        ("mechanisms", "privacy.mechanism", privacy.mechanism, limits.mechanisms),
    ):
        if known is not None and asked not in known:
            allowed = f"[{','.join(known)}]"
            yield Exceeded(limit=f"policy.{name}", asked=f"{key}={asked}", allowed=allowed)
