"""Limits of a site's policy: what any job may ask, whatever the site's rows are.

Every limit is about the job and what comes with it (:mod:`clients.circumstances`), so an answer by
one tells nothing about rows; it names what was asked and what is allowed, and may travel.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Literal, TypeAlias

from fedmodel.errors import ConfigError
from fedmodel.job import Job, Unit

__all__ = ["Exceeded", "Limits", "exceeded"]

Mechanism: TypeAlias = Literal["none", "dpsgd", "distributed", "site"]
Trained: TypeAlias = Literal["head", "lora", "ffa", "full"]
Count: TypeAlias = Literal["evaluation", "clipping", "rows"]
_MOST_OFFERS = 10_000  # each is kept for as long, in a file that is read at every offer
_HIDDEN = ("off", "seal", "on")  # from the least
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[0-9a-f]{64}|\d[0-9A-Za-z.+!-]{0,62}")


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
        counts: which counts of the site's may leave: ``evaluation`` (noised, of held-out rows),
            ``clipping`` (noised, of units below an adaptive norm), ``rows`` (of its training rows,
            as the weight of its update); an empty list: none.
        bases: SHA-256 (hex) of files of weights; each file of a job's base model must be one of
            them. A model without files (``tiny``) is refused.
        code: versions of fedmodel, or SHA-256 (hex) of its sources, one of which must be this
            site's own.
        begins: first day on which a job is taken, such as 2026-01-31, UTC.
        ends: last day; the orders of a run that was joined are refused afterwards, too.
        offers: most new offers (a run of a job each) that are taken note of in 24 hours; at most
            10,000.

    Raises:
        ConfigError: for a limit that no job keeps, or that isn't written as it should be.
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
    counts: tuple[Count, ...] | None = None
    bases: tuple[str, ...] | None = None
    code: tuple[str, ...] | None = None
    begins: str | None = None
    ends: str | None = None
    offers: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
                raise ConfigError(f"policy.{each.name} must be above 0, got {value}")
            if value == () and each.name != "counts":
                raise ConfigError(
                    f"policy.{each.name} is an empty list, which allows no job; name what is "
                    "allowed, or use null for everything"
                )
        if self.offers is not None and self.offers > _MOST_OFFERS:
            raise ConfigError(
                f"policy.offers must be at most {_MOST_OFFERS}, or null, got {self.offers}"
            )
        if self.private and self.mechanisms == ("none",):
            raise ConfigError(
                "policy.private=true and policy.mechanisms=[none] allow no job together; leave "
                "one of them out"
            )
        self._check_names()
        first, last = self.first_day, self.last_day
        if first is not None and last is not None and first > last:
            raise ConfigError(
                f"policy.begins={self.begins} is after policy.ends={self.ends}: no job is ever "
                "taken; exchange them"
            )

    @property
    def first_day(self) -> date | None:
        """``begins``, as a day."""
        return _day("begins", self.begins)

    @property
    def last_day(self) -> date | None:
        """``ends``, as a day."""
        return _day("ends", self.ends)

    def _check_names(self) -> None:
        for name, form, what in (
            ("bases", _DIGEST, "the SHA-256 of a file of weights, 64 small hex digits (sha256sum)"),
            ("code", _CODE, "a version of fedmodel, or the SHA-256 of its sources"),
        ):
            for each in getattr(self, name) or ():
                if not form.fullmatch(each):
                    raise ConfigError(f"policy.{name}: expected {what}, got {each!r:.80}")


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise ConfigError(
            f"policy.{name} must be a day such as 2026-12-31, or null, got {text!r:.40}"
        ) from None


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
    yield from _counts(job, limits)


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


def _counts(job: Job, limits: Limits) -> Iterator[Exceeded]:
    adaptive = job.privacy.private and job.privacy.clipping == "adaptive"
    for name, leaves, key in (
        ("evaluation", job.publishes_evaluation, "privacy.evaluation=noised"),
        ("clipping", adaptive, "privacy.clipping=adaptive"),
        ("rows", job.aggregation.weights == "examples", "aggregation.weights=examples"),
    ):
        if leaves and limits.counts is not None and name not in limits.counts:
            allowed = f"[{','.join(limits.counts)}]"
            yield Exceeded(limit="policy.counts", asked=f"{key} (counts: {name})", allowed=allowed)
