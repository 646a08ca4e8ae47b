"""The job: complete, hashed, what travels."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.job import format_1
from fedmodel.job.checks import require
from fedmodel.job.federation import Aggregation, Federation
from fedmodel.job.privacy import Privacy
from fedmodel.job.secagg import SecAgg
from fedmodel.job.start import check_start
from fedmodel.job.together import check_together
from fedmodel.job.train import Model, Train
from fedmodel.seeds import Seed

__all__ = ["LARGEST", "Job"]

LARGEST = 1 << 20  # bytes of a job's JSON


# No slots: JSON and hash are worked out once and kept on the instance.
@dataclass(frozen=True, kw_only=True)
class Job:
    """One federated run, as every party has agreed on it. See the parts for what each means.

    Nothing in it is open, and it never changes; who asks for one writes a
    :class:`fedmodel.job.Proposal`, and :func:`fedmodel.agreement.complete` makes the job of it.

    Args:
        format: of the JSON.
        model: which network.
        weights: SHA-256 (hex) of the network's starting weights; a site whose own differ refuses.
        train: how sites train.
        privacy: what is promised.
        secagg: how updates are kept from the coordinator.
        aggregation: what the coordinator does with what it gets.
        federation: who takes part.
        seed: of everything but noise.
    """

    format: Literal["fedmodel.job/2"] = "fedmodel.job/2"
    model: Model
    weights: str
    train: Train = field(default_factory=Train)
    privacy: Privacy = field(default_factory=Privacy)
    secagg: SecAgg = field(default_factory=SecAgg)
    aggregation: Aggregation = field(default_factory=Aggregation)
    federation: Federation = field(default_factory=Federation)
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**53, f"seed must be in [0, 2**53), got {self.seed}")
        config.require_hex("weights", self.weights, 64)
        require(
            len(self.model.labels) >= 1,  # a task may want more
            f"model.labels must name the job's classes, got {list(self.model.labels)}",
        )
        require(
            self.federation.patience is None or self.federation.test == "public",
            "federation.patience stops early by a public test set, and the job's test rows are "
            f"{self.federation.test}; leave patience null",
        )
        require(
            self.secagg.sums is None or self.secagg.sums.survivors <= self.federation.cohort,
            "secagg.survivors can't be more than the sites in a round",
        )
        check_together(self.privacy, self.train, self.aggregation, self.secagg.mode)
        check_start(self.model, self.train, self.privacy, self.aggregation)
        require(
            self.train.start != "means" or self.model.head_bias,
            "a head that starts from means has a bias, and the job's has none (model.head_bias)",
        )

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of the job's canonical JSON: its name."""
        return config.sha256(self.json)

    @functools.cached_property
    def json(self) -> bytes:
        """The canonical JSON (RFC 8785) that travels and is hashed."""
        return config.canonical(self)

    @property
    def total_steps(self) -> int:
        """Optimiser steps a site takes in a whole run: what its noise is calibrated for."""
        return self.train.total_steps

    @property
    def publishes_evaluation(self) -> bool:
        """Whether each site is asked once, after the last round, for noised counts of its own."""
        noised = self.privacy.private and self.privacy.evaluation == "noised"
        return noised and self.federation.test == "held-out"

    @property
    def root_seed(self) -> Seed:
        """Root of the reproducible randomness (never of noise)."""
        return Seed(self.seed)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "Job":
        """Build and check a job from a plain mapping (see :func:`fedmodel.config.build`).

        Raises:
            ConfigError: for another format than this version's, by name, and as ``build`` does.
        """
        found = mapping.get("format") if isinstance(mapping, dict) else None
        if found != cls.format:
            raise ConfigError(
                f"expected a job of format '{cls.format}', got {found!r:.40}; a job of an earlier "
                "version runs with that version, or is proposed anew"
            )
        job = config.build(cls, mapping)
        if lacking := list(_lacking(config.to_mapping(job), mapping)):
            raise ConfigError(
                f"a job is complete, and this one lacks {', '.join(lacking[:5])}; take the JSON "
                "that the coordinator has written, with nothing left out"
            )
        return job

    @classmethod
    def read(cls, mapping: Mapping[str, Any]) -> "Job":
        """Return a job that some version has written down, as one of today's.

        Its hash is today's too: the name that it had is beside it, where it was written.

        Raises:
            ConfigError: for a format that this version doesn't know, and as :meth:`from_mapping`.
        """
        if mapping.get("format") == format_1.FORMAT:
            return cls.from_mapping(format_1.todays(mapping))
        return cls.from_mapping(dict(mapping))

    @classmethod
    def from_json(cls, text: bytes) -> "Job":
        """Return the job of its canonical JSON.

        Raises:
            ConfigError: unless it is, byte for byte, what :attr:`json` gives.
        """
        if len(text) > LARGEST:
            raise ConfigError(f"a job has at most {LARGEST} bytes, got {len(text)}")
        job = cls.from_mapping(config.parsed(text))
        if job.json != text:  # which is worked out once
            raise ConfigError("the job isn't in canonical JSON (RFC 8785)")
        return job


def _lacking(whole: Any, given: Any, where: str = "") -> Iterator[str]:
    """Yield the keys, dotted, that a mapping lacks of a whole one."""
    if isinstance(whole, dict) and isinstance(given, Mapping):
        for key, value in whole.items():
            if key not in given:
                yield f"{where}{key}"
            else:
                yield from _lacking(value, given[key], f"{where}{key}.")
