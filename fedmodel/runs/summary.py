"""The summary of a finished run: ``summary.json`` as frozen values.

Whatever a person is shown of a run afterwards (tables, page, model card) is made from this alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fedmodel import config
from fedmodel.job import Unit
from fedmodel.job.checks import require
from fedmodel.runs.files import read_record

__all__ = [
    "SUMMARY_SCHEMA",
    "Basis",
    "Hiding",
    "PrivacySummary",
    "ReleasedAccuracy",
    "ReleasedScore",
    "RunTime",
    "SiteLedger",
    "SiteSummary",
    "Summary",
    "Traffic",
]

SUMMARY_SCHEMA = "fedmodel.summary/1"

Basis: TypeAlias = Literal["ledgers", "plan"]
"""Whose word a run's cost is: the sites' ledgers; or the plan, of all that they can have spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLedger:
    """Where a site's ledger stood when it last told so, signed; ``heads.json`` has it whole.

    Args:
        entries: how many it had.
        root: Merkle root over them, hex.
        time: by the site's clock, UTC.
    """

    entries: int
    root: str
    time: str

    def __post_init__(self) -> None:
        require(self.entries >= 0, f"entries must be at least 0, got {self.entries}")
        config.require_hex("root", self.root, 64)
        config.require_time(self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSummary:
    """What a run cost one site.

    Args:
        epsilon: ε of this run at the site; ``None`` without privacy.
        epsilon_total: ε of all that was ever spent on the site's rows, at the smallest δ of it;
            ``None`` where there is no such figure. Not in the file without privacy, nor where the
            run's cost is the plan's word: then only the site knows.
        steps: optimiser steps that the site took part in; by the plan's word those of the rounds
            whose updates came.
        refused: why it didn't join, ``None`` if it did; by the plan's word as far as it told.
        rounds: to which it has given its update. Not in the file by the ledgers' word.
        ledger: where its ledger stood. Not in the file where it told none.
    """

    epsilon: float | None
    epsilon_total: float | None = None
    steps: int
    refused: str | None
    rounds: int | None = None
    ledger: SiteLedger | None = None

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"steps must be at least 0, got {self.steps}")
        require(
            self.rounds is None or self.rounds >= 0, f"rounds must be at least 0, got {self.rounds}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySummary:
    """What was promised, and what it cost.

    Args:
        mechanism: as in the job.
        unit: whose presence is hidden.
        adjacency: how neighbouring datasets differ.
        delta: the δ that ``epsilon`` holds at; ``None`` without privacy.
        epsilon: the worst site's; ``None`` without privacy.
        adversaries: adversary → ε of the worst site against it; each holds by itself.
        noise_to_signal: with ``mechanism=site``, norm of the noise in a mean update over the
            largest that an update can have.
        sites: name → what it cost the site.
        basis: whose word each ε is. By ``plan`` no site has spent more, and who has given fewer
            updates may have spent less. Not in the file by ``ledgers``.
    """

    mechanism: Literal["none", "dpsgd", "distributed", "site"]
    unit: Unit
    adjacency: Literal["add-remove", "replace"]
    delta: float | None
    epsilon: float | None
    adversaries: Mapping[str, float]
    noise_to_signal: float | None
    sites: Mapping[str, SiteSummary]
    basis: Basis = "ledgers"

    def __post_init__(self) -> None:
        figures = {"delta": self.delta, "epsilon": self.epsilon}
        figures |= {f"sites.{name}.epsilon": site.epsilon for name, site in self.sites.items()}
        for name, figure in figures.items():
            require(
                (figure is not None) == self.private,
                f"privacy.{name} must be {'a number' if self.private else 'null'} with "
                f"mechanism={self.mechanism}, got {figure!r}",
            )

    @property
    def private(self) -> bool:
        """Whether differential privacy was promised."""
        return self.mechanism != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedScore:
    """Another figure on those rows, released with the accuracy.

    Args:
        value: the figure; ``None`` where the noise swamps it.
        standard_error: of it, from the noise alone.
    """

    value: float | None
    standard_error: float | None

    def __post_init__(self) -> None:
        require(
            (self.value is None) == (self.standard_error is None),
            "a released score and its standard error must both be numbers or both be null, got "
            f"{self.value!r} and {self.standard_error!r}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedAccuracy:
    """The accuracy on rows held out at the sites, as they released it under DP.

    Args:
        accuracy: share of right answers, in [0, 1]; ``None`` where the noise swamps it.
        standard_error: of the accuracy, from the noise alone.
        rows: noised number of rows, at least 0.
        noise_std: standard deviation of the noise on each of the sums of counts.
        sites: how many gave counts.
        failures: site → why it gave none.
        scores: what else the task makes of the counts. Not in the file where there is nothing.
    """

    accuracy: float | None
    standard_error: float | None
    rows: int
    noise_std: float
    sites: int
    failures: Mapping[str, str]
    scores: Mapping[str, ReleasedScore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            (self.accuracy is None) == (self.standard_error is None),
            "released.accuracy and released.standard_error must both be numbers or both be null, "
            f"got {self.accuracy!r} and {self.standard_error!r}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hiding:
    """How updates were hidden. With other modes than ``on`` the file has the mode only.

    Args:
        mode: as in the job.
        survivors: sites that a sum needs.
        colluders: of them, may work with the coordinator.
        honest: their difference.
        threshold: consents to a sum, and shares of a secret.
        bits: of a masked number.
        step: to multiples of which sites rounded their updates; ``None`` where they shared the
            noise, or an earlier version has written the file.
        update: root mean square of a coordinate of the last mean update, beside it.
    """

    mode: Literal["off", "on", "seal"]
    survivors: int | None = None
    colluders: int | None = None
    honest: int | None = None
    threshold: int | None = None
    bits: int | None = None
    step: float | None = None
    update: float | None = None

    def __post_init__(self) -> None:
        for name in ("survivors", "colluders", "honest", "threshold", "bits"):
            figure = getattr(self, name)
            require(
                (figure is not None) == (self.mode == "on"),
                f"secagg.{name} goes with secagg.mode=on and no other, got {figure!r} with "
                f"{self.mode}",
            )
        for name in ("step", "update"):
            figure = getattr(self, name)
            require(
                figure is None or (self.mode == "on" and figure >= 0),
                f"secagg.{name} is a number ≥ 0 with secagg.mode=on, got {figure!r} with "
                f"{self.mode}",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """Where the wall time went.

    Args:
        total_s: seconds of the whole run; of the last process, where it was resumed.
        train_s: of them, in the sites' training; ``None``, and not in the file, where only they
            know.
        overhead_s: the rest, likewise.
    """

    total_s: float
    train_s: float | None = None
    overhead_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Bytes that crossed between the sites and the coordinator.

    Args:
        bytes_up: to the coordinator.
        bytes_down: to the sites.
    """

    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What came of a run.

    Args:
        schema: of the file.
        job_sha256: the job's name.
        rounds: finished rounds.
        stopped: why the run ended before its last round, ``None`` if it didn't.
        test: which rows ``final`` is of.
        final: metric → value of the final model; on rows held out from the sites they are exact,
            and no ε covers them.
        released: what the sites released of those rows, ``None`` where nobody was asked.
        privacy: what was promised, and what it cost.
        secagg: how updates were hidden.
        notes: sentences that a reader of the figures should know.
        time: where the wall time went.
        traffic: bytes that crossed; ``None`` where nobody has counted.
        classes: ``train`` and ``test`` → class → rows, where that is no secret: of training rows
            without privacy, of test rows without it or where they are public. Not in the file where
            there is nothing.
    """

    schema: Literal["fedmodel.summary/1"] = "fedmodel.summary/1"
    job_sha256: str
    rounds: int
    stopped: str | None
    test: Literal["public", "held out from the sites"]
    final: Mapping[str, float]
    released: ReleasedAccuracy | None
    privacy: PrivacySummary
    secagg: Hiding
    notes: tuple[str, ...]
    time: RunTime
    traffic: Traffic | None
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.privacy.basis == "plan":
            return
        known = {
            "time.train_s": self.time.train_s,
            "time.overhead_s": self.time.overhead_s,
            "traffic": self.traffic,
        }
        for name, figure in known.items():
            require(
                figure is not None, f"missing '{name}', which is known where the sites' ledgers are"
            )

    @classmethod
    def from_mapping(cls, mapping: object, where: str = "summary.json") -> "Summary":
        """Return the summary that a JSON object holds.

        Args:
            mapping: what was read.
            where: the file, for messages.

        Raises:
            RunFolderError: for another schema, an unknown or missing key, or a value of another
                type.
        """
        return read_record(cls, mapping, SUMMARY_SCHEMA, where)

    def to_mapping(self) -> dict[str, Any]:
        """Return what stands in ``summary.json``, in its order."""
        made: dict[str, Any] = config.to_mapping(self)
        made["secagg"] = {k: v for k, v in made["secagg"].items() if v is not None}
        if self.released is not None and not self.released.scores:
            del made["released"]["scores"]
        if not self.classes:
            del made["classes"]
        made["time"] = {k: v for k, v in made["time"].items() if v is not None}
        told = self.privacy.basis == "ledgers"
        if told:
            del made["privacy"]["basis"]
        for site in made["privacy"]["sites"].values():
            if not (told and self.privacy.private):
                del site["epsilon_total"]
            for key in ("rounds", "ledger"):
                if site[key] is None:
                    del site[key]
        return made
