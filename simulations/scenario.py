"""The scenario of a simulation: a proposal, and what stands in for the real world around it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clients.policy import Policy
from fedmodel import config
from fedmodel.data import Partition, Source
from fedmodel.errors import ConfigError
from fedmodel.job import Proposal
from fedmodel.job.proposal import group
from fedmodel.ledger.site_state import dataset_name

__all__ = ["Asked", "Homes", "Scenario"]

_DEFAULT_SITES = 5
_PROPOSAL = ("model", "train", "privacy", "secagg", "aggregation", "federation")
_OWN = ("data", "budget", "floors", "policy")
_SCALARS = (
    *("seed", "device", "state", "run", "resume", "purpose"),
    *("approval", "approvers", "needed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Where a simulation is kept, whether it goes on with one that was begun, and who is asked.

    Args:
        run: name or path of the run folder; ``None``: the date and time.
        state: folder of the sites' state, for runs to share; ``None``: in the run folder.
        resume: go on with a run that was begun.
        purpose: of the run, for the sites' people.
        approval: as in :class:`clients.policy.Policy`. Who simulates the hospitals is all of their
            people.
        approvers: likewise.
        needed: likewise.
    """

    run: str | None = None
    state: str | None = None
    resume: bool = False
    purpose: str = ""
    approval: Literal["each", "auto"] = "auto"
    approvers: tuple[str, ...] = ()
    needed: int = 1

    def __post_init__(self) -> None:
        if self.state is not None and not self.state.strip():
            raise ConfigError("state is empty; give a folder, or leave it out")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Asked":
        """Return what a composed configuration asks for.

        Raises:
            ConfigError: for a value of another type, such as a number that stands for a name.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        return config.build(cls, {key: mapping[key] for key in known if key in mapping})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Excluded:
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """What the parties of a simulation decide for themselves.

    Args:
        state: folder of the sites' state, for runs to share; ``None``: in the run folder.
        dataset: name that each site gives to its rows.
        policy: of each site. Unless it says otherwise, a simulation's sites approve every run.
        exclude: names of sites that the coordinator's operator leaves out.
        purpose: of the run, for the sites' people.

    Raises:
        ConfigError: for a dataset's name that can't name a file.
    """

    state: Path | None = None
    dataset: str = "main"
    policy: Policy = field(default_factory=lambda: Policy(approval="auto"))
    exclude: tuple[str, ...] = ()
    purpose: str = ""

    def __post_init__(self) -> None:
        dataset_name(self.dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One simulation.

    Args:
        proposal: what is asked for; it is completed from the data.
        source: where the rows come from.
        partition: how they are spread over the sites.
        homes: where the sites keep their own state, and what they allow.
    """

    proposal: Proposal
    source: Source
    partition: Partition
    homes: Homes = field(default_factory=Homes)

    @property
    def sites(self) -> int:
        """How many sites made-up rows come from."""
        return self.partition.sites or _DEFAULT_SITES

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Scenario":
        """Build and check a scenario from the composed configuration.

        Raises:
            ConfigError: for an unknown key, a wrong value, or parts that don't go together.
        """
        _check_keys(mapping)
        source = config.build(Source, dict(group(mapping, "data")), "data")
        federation = dict(group(mapping, "federation"))
        exclude = config.build(_Excluded, {"exclude": federation.pop("exclude", ())}, "federation")
        partition = _partition(federation, source)
        return cls(
            # How many sites there are is for the data to say.
            proposal=Proposal.from_mapping({**mapping, "federation": federation}),
            source=source,
            partition=partition,
            homes=dataclasses.replace(_homes(mapping), exclude=exclude.exclude),
        )


def _check_keys(mapping: Mapping[str, Any]) -> None:
    known = (*_PROPOSAL, *_OWN, *_SCALARS)
    for key in mapping:
        if key not in known:
            raise ConfigError(f"unknown key '{key}'{config.suggest(key, known)}")


def _partition(federation: dict[str, Any], source: Source) -> Partition:
    kind = federation.pop("partition", "natural")
    sites = federation.pop("sites", None)
    if sites is None and (kind != "natural" or source.kind == "synthetic"):
        sites = _DEFAULT_SITES
    alpha = federation.pop("alpha", 0.5)
    return config.build(Partition, {"kind": kind, "alpha": alpha, "sites": sites}, "federation")


def _homes(mapping: Mapping[str, Any]) -> Homes:
    budget = dict(group(mapping, "budget"))
    named = {"dataset": budget.pop("dataset")} if "dataset" in budget else {}
    rules = {"budget": budget, **{name: group(mapping, name) for name in ("floors", "policy")}}
    asked = Asked.of(mapping)
    people = {name: getattr(asked, name) for name in ("approval", "approvers", "needed")}
    return config.build(
        Homes,
        {
            **named,
            "state": None if asked.state is None else Path(asked.state),
            "policy": Policy.of(rules, people),
            "purpose": asked.purpose,
        },
        "budget",
    )
