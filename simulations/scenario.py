"""What a researcher asks for: the job plus what stands in for the real world around it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedmodel import config
from fedmodel.data import Partition, Source
from fedmodel.errors import ConfigError
from fedmodel.job import Aggregation, Federation, Job, Model, Privacy, SecAgg, Train
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.site_state import dataset_name
from fedmodel.secagg.agreement import Floors

__all__ = ["Homes", "Scenario"]

_DEFAULT_SITES = 5
_OUTSIDE = {"run", "resume"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """What the sites of a simulation have of their own.

    Args:
        state: folder of the sites' state, for runs to share; ``None``: in the run folder.
        dataset: name that each site gives to its rows.
        caps: of each site.
        floors: of each site, for secure sums.
    """

    state: Path | None = None
    dataset: str = "main"
    caps: Caps = field(default_factory=Caps)
    floors: Floors = field(default_factory=Floors)

    def __post_init__(self) -> None:
        dataset_name(self.dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One simulation.

    Args:
        job: what the parties agree on; its labels and model digest are filled in from the data.
        source: where the rows come from.
        partition: how they are spread over the sites.
        device: ``auto``, ``cpu`` or ``cuda``.
        homes: where the sites keep their own state, and what they allow.
    """

    job: Job
    source: Source
    partition: Partition
    device: Literal["auto", "cpu", "cuda"]
    homes: Homes = field(default_factory=Homes)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Scenario":
        """Build and check a scenario from the composed configuration.

        Raises:
            ConfigError: for an unknown key, a wrong value, or parts that don't go together.
        """
        rest = {k: v for k, v in mapping.items() if k not in _OUTSIDE}
        parts = {k: dict(_part(rest, k)) for k in ("model", "data", "federation", "aggregation")}
        privacy = config.build(Privacy, _part(rest, "privacy"), "privacy")
        source = config.build(Source, parts["data"], "data")
        partition = _partition(parts["federation"], source)
        job = config.build(
            Job,
            {
                "model": _model(parts["model"]),
                "train": config.build(Train, _part(rest, "train"), "train"),
                "privacy": privacy,
                "secagg": _secagg(dict(_part(rest, "secagg")), privacy),
                "aggregation": _aggregation(parts["aggregation"], privacy),
                "federation": config.build(
                    Federation,
                    {**parts["federation"], "sites": partition.sites or _DEFAULT_SITES},
                    "federation",
                ),
                "seed": rest.pop("seed", 0),
            },
        )
        device, state = rest.pop("device", "auto"), rest.pop("state", None)
        budget = dict(_part(rest, "budget"))
        dataset = str(budget.pop("dataset", "main"))
        caps = config.build(Caps, budget, "budget")
        groups = ["model", "data", "train", "privacy", "secagg", "aggregation", "federation"]
        floors = config.build(Floors, _part(rest, "floors"), "floors")
        homes = Homes(
            state=None if state is None else Path(state),
            dataset=dataset,
            caps=caps,
            floors=floors,
        )
        for known in (*groups, "budget", "floors"):
            rest.pop(known, None)
        if rest:
            known_keys = [*groups, "seed", "device", "run", "resume", "state", "budget", "floors"]
            key = next(iter(rest))
            raise ConfigError(f"unknown key '{key}'{config.suggest(key, known_keys)}")
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device must be auto, cpu or cuda, got {device!r}")
        return cls(
            job=job,
            source=source,
            partition=partition,
            device=device,
            homes=homes,
        )


def _part(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = mapping.get(name) or {}
    if not isinstance(part, Mapping):
        raise ConfigError(f"{name}={part!r} isn't a choice; see fedmodel simulate --help")
    return part


def _model(part: dict[str, Any]) -> Model:
    # `model.path=…` alone says clearly enough that another model is meant.
    if part.get("path"):
        part["source"] = "hub"
    return config.build(Model, part, "model")


def _partition(federation: dict[str, Any], source: Source) -> Partition:
    kind = federation.pop("partition", "natural")
    sites = federation.pop("sites", None)
    if sites is None and (kind != "natural" or source.kind == "synthetic"):
        sites = _DEFAULT_SITES
    alpha = federation.pop("alpha", 0.5)
    return config.build(Partition, {"kind": kind, "alpha": alpha, "sites": sites}, "federation")


def _secagg(part: dict[str, Any], privacy: Privacy) -> SecAgg:
    if part.get("mode") == "auto":
        part["mode"] = "on" if privacy.shared else "off"
    return config.build(SecAgg, part, "secagg")


def _aggregation(part: dict[str, Any], privacy: Privacy) -> Aggregation:
    if part.get("weights") == "auto":
        alike = privacy.private or part.get("optimizer") in ("fedmedian", "krum")
        part["weights"] = "uniform" if alike else "examples"
    return config.build(Aggregation, part, "aggregation")
