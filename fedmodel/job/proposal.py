"""The proposal: what somebody asks for, with what may be left to be agreed on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.job.checks import require
from fedmodel.job.federation import ProposedAggregation, ProposedFederation
from fedmodel.job.performance import Performance
from fedmodel.job.privacy import ProposedPrivacy
from fedmodel.job.secagg import ProposedSecAgg
from fedmodel.job.start import check_start
from fedmodel.job.together import check_together
from fedmodel.job.train import ProposedModel, ProposedTrain

__all__ = ["Proposal"]

# What only machines care for stands in these groups on the command line.
_PERFORMANCE = {
    "train": ("physical_batch", "gradient_checkpointing"),
    "privacy": ("engine",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is asked for: a job that may leave things open, and how machines should go about it.

    Args:
        model: which network.
        train: how sites train.
        privacy: what is promised.
        secagg: how updates are kept from the coordinator.
        aggregation: what the coordinator does with what it gets.
        federation: who takes part.
        performance: proposed to every site.
        seed: of everything but noise.
    """

    model: ProposedModel = field(default_factory=ProposedModel)
    train: ProposedTrain = field(default_factory=ProposedTrain)
    privacy: ProposedPrivacy = field(default_factory=ProposedPrivacy)
    secagg: ProposedSecAgg = field(default_factory=ProposedSecAgg)
    aggregation: ProposedAggregation = field(default_factory=ProposedAggregation)
    federation: ProposedFederation = field(default_factory=ProposedFederation)
    performance: Performance = field(default_factory=Performance)
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**53, f"seed must be in [0, 2**53), got {self.seed}")
        check_together(self.privacy, self.train, self.aggregation, self.secrecy)
        check_start(self.model, self.train, self.privacy, self.aggregation)
        self.performance.check(self.privacy)

    @property
    def secrecy(self) -> Literal["off", "on", "seal"]:
        """How updates are kept from the coordinator, with ``auto`` decided."""
        if self.secagg.mode == "auto":
            return "on" if self.privacy.shared else "off"
        return self.secagg.mode

    @property
    def weights(self) -> Literal["uniform", "examples"]:
        """How updates are weighted, with ``auto`` decided: under DP no site tells its size."""
        if self.aggregation.weights == "auto":
            alike = self.privacy.private or self.aggregation.robust
            return "uniform" if alike else "examples"
        return self.aggregation.weights

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Proposal":
        """Build and check a proposal from composed groups.

        Args:
            mapping: ``model``, ``train``, ``privacy``, ``secagg``, ``aggregation``,
                ``federation``, ``seed`` and ``device``, each of them optional.

        Raises:
            ConfigError: for an unknown key, a wrong value, or parts that don't go together.
        """
        parts = {name: dict(group(mapping, name)) for name in _GROUPS}
        performance: dict[str, Any] = {"device": mapping.get("device", "auto")}
        for name, keys in _PERFORMANCE.items():
            performance |= {key: parts[name].pop(key) for key in keys if key in parts[name]}
        # `model.path=…` alone says clearly enough that another model is meant.
        if parts["model"].get("path"):
            parts["model"]["source"] = "hub"
        built = {name: config.build(kind, parts[name], name) for name, kind in _GROUPS.items()}
        return config.build(
            cls,
            {
                **built,
                "performance": _performance(performance),
                "seed": mapping.get("seed", 0),
            },
        )


_GROUPS: dict[str, type[Any]] = {
    "model": ProposedModel,
    "train": ProposedTrain,
    "privacy": ProposedPrivacy,
    "secagg": ProposedSecAgg,
    "aggregation": ProposedAggregation,
    "federation": ProposedFederation,
}


def group(mapping: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a group of a composed configuration; empty where there is none.

    Raises:
        ConfigError: when it is something else than keys with values.
    """
    part = mapping.get(name) or {}
    if not isinstance(part, Mapping):
        raise ConfigError(f"{name}={part!r} isn't a choice; see fedmodel simulate --help")
    return part


def _performance(values: dict[str, Any]) -> Performance:
    # Messages name each key where a person finds it.
    if values["device"] not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu or cuda, got {values['device']!r}")
    for name, keys in _PERFORMANCE.items():
        own = {key: values[key] for key in keys if key in values}
        config.build(Performance, own, name)
    return config.build(Performance, values)
