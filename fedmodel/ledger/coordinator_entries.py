"""Entries of a coordinator's ledger: what it asked, got, summed, released and left out in one run.

They name sites by their numbers in the roster, parameters and updates by their SHA-256, and why
something failed by a kind: no text of a site's is in them, and nothing that is about rows. What a
site and the coordinator both write of one round has to agree; that is for an auditor to compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fedmodel import config
from fedmodel.accounting.spends import Kind
from fedmodel.errors import ConfigError
from fedmodel.ledger.fields import require_counts
from fedmodel.ledger.line import Line, Torn

__all__ = [
    "SCHEMA",
    "AttemptEntry",
    "CoordinatorEntry",
    "CoordinatorTornEntry",
    "EndEntry",
    "EvaluationEntry",
    "Failed",
    "FailedKind",
    "Given",
    "JoiningEntry",
    "ResultEntry",
    "RoundEntry",
    "RunEntry",
    "Schema",
    "StartEntry",
    "UnmaskEntry",
]

FailedKind: TypeAlias = Literal["refused", "budget", "away", "wrong", "excluded", "failed"]

SCHEMA: Literal["fedmodel.coordinator/2"] = "fedmodel.coordinator/2"

Schema: TypeAlias = Literal["fedmodel.coordinator/1", "fedmodel.coordinator/2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line(Line):
    schema: Schema = SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry(_Line):
    """The beginning: whose ledger it is, and of which run.

    Args:
        type: ``run``.
        ledger: its name to others: fingerprint of the key / run.
        key: the coordinator's public Ed25519 key, hex; it signs the tree heads.
        run: the run's name.
    """

    type: Literal["run"] = "run"
    ledger: str
    key: str
    run: str

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("key", self.key, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEntry(_Line):
    """A start of the coordinator: the first, or one that goes on.

    Args:
        type: ``start``.
        job: the job as plain data, in the format that it names itself.
        job_sha256: SHA-256 (hex) of its canonical form.
        roster: SHA-256 (hex) of the roster.
        members: numbers of the sites in it → name.
        round: the last that is finished.
        model: SHA-256 (hex) of the parameters that it goes on from.
        code: which program: version and SHA-256 of its sources.
        packages: name → version, of those that decide what a run computes.
    """

    type: Literal["start"] = "start"
    job: Mapping[str, Any]
    job_sha256: str
    roster: str
    members: Mapping[str, str]
    round: int
    model: str
    code: str
    packages: Mapping[str, str]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        for name in ("job_sha256", "roster", "model"):
            config.require_hex(name, getattr(self, name), 64)
        require_counts(self, "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A site that didn't give what it was asked for.

    Args:
        member: its number in the roster.
        kind: why: ``refused``, ``budget`` (it is spent), ``away`` (no answer), ``wrong`` (what came
            was itself wrong), ``excluded`` (by the coordinator's operator) or ``failed``.
    """

    member: int
    kind: FailedKind

    def __post_init__(self) -> None:
        require_counts(self, "member")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoiningEntry(_Line):
    """A joining: the job was offered to all sites.

    Args:
        type: ``joining``.
        joining: names it, 256 bits, hex; empty where updates are neither hidden nor signed for.
        nodes: who takes part: node of the grid → number of the site in the roster.
        failed: who doesn't, and why.
    """

    type: Literal["joining"] = "joining"
    joining: str
    nodes: Mapping[str, int]
    failed: tuple[Failed, ...]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        if len(set(self.nodes.values())) != len(self.nodes):
            raise ConfigError(f"no site takes part at two nodes, got {dict(self.nodes)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry(_Line):
    """What sites are about to be asked for.

    Args:
        type: ``round``.
        kind: to train, or to evaluate after the last round.
        round: of the run; for an evaluation, the last one.
        model: SHA-256 (hex) of the parameters that they start from.
        members: who is asked.
    """

    type: Literal["round"] = "round"
    kind: Kind
    round: int
    model: str
    members: tuple[int, ...]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("model", self.model, 64)
        require_counts(self, "round")
        _require_rising("members", self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEntry(_Line):
    """An attempt at a secure sum that is about to be opened.

    Args:
        type: ``attempt``.
        round: of the run.
        attempt: of the round, from 1.
        manifest: what the sites are told and sign, as plain data.
        digest: SHA-256 (hex) by which the sites name it.
    """

    type: Literal["attempt"] = "attempt"
    round: int
    attempt: int
    manifest: Mapping[str, Any]
    digest: str

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("digest", self.digest, 64)
        require_counts(self, "round", "attempt")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmaskEntry(_Line):
    """A sum that is about to be unmasked: enough sites have signed for who is in it.

    Args:
        type: ``unmask``.
        round: of the run.
        attempt: of the round.
        digest: of the attempt's manifest.
        takers: who had got the others' shares.
        survivors: whose updates are in the sum.
        vectors: number of a survivor → SHA-256 (hex) of its masked vector, as it has signed it.
        consents: number of a site → its signature over takers and survivors, hex.
    """

    type: Literal["unmask"] = "unmask"
    round: int
    attempt: int
    digest: str
    takers: tuple[int, ...]
    survivors: tuple[int, ...]
    vectors: Mapping[str, str]
    consents: Mapping[str, str]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("digest", self.digest, 64)
        require_counts(self, "round", "attempt")
        _require_rising("takers", self.takers)
        _require_rising("survivors", self.survivors)
        for vector in self.vectors.values():
            config.require_hex("a vector's SHA-256", vector, 64)
        for signature in self.consents.values():
            config.require_hex("a consent", signature, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A site that gave something: an update that is in a mean, counts, or a last answer.

    Args:
        member: its number in the roster.
        entries: how many its ledger had by the tree head that came with the update; 0: none came.
        root: Merkle root over them, hex; empty likewise.
        update: SHA-256 (hex) of what it gave, as its own ledger has it of that
            (:class:`fedmodel.ledger.outcome.OutcomeEntry`); empty where it gave nothing but its
            answer, or the line is of an earlier schema.
    """

    member: int
    entries: int = 0
    root: str = ""
    update: str = ""

    def __post_init__(self) -> None:
        require_counts(self, "member", "entries")
        if self.root or self.entries:
            config.require_hex("root", self.root, 64)
        if self.update:
            config.require_hex("update", self.update, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultEntry(_Line):
    """What came of a round. It is on disk before the new parameters are told to anybody.

    Args:
        type: ``result``.
        round: of the run.
        given: whose updates are in the mean; nobody's where there is none.
        absent: so many more sites' updates are in it, of a sum that was recovered.
        failed: who was asked and gave none.
        mean: SHA-256 (hex) of the mean update; empty: there is none, and nothing changes.
        model: SHA-256 (hex) of the parameters after it.
        finished: whether the run goes on from here; else the round is asked again, or the run ends.
        stopped: whether no further round follows, before the job's last one.
    """

    type: Literal["result"] = "result"
    round: int
    given: tuple[Given, ...]
    absent: int
    failed: tuple[Failed, ...]
    mean: str
    model: str
    finished: bool
    stopped: bool

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        for name in ("mean", "model"):
            if name == "model" or self.mean:
                config.require_hex(name, getattr(self, name), 64)
        require_counts(self, "round", "absent")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationEntry(_Line):
    """Noised counts that sites were asked for after the last round.

    Args:
        type: ``evaluation``.
        round: the last one.
        model: SHA-256 (hex) of the parameters that they are about.
        given: who gave some.
        failed: who was asked and gave none.
    """

    type: Literal["evaluation"] = "evaluation"
    round: int
    model: str
    given: tuple[Given, ...]
    failed: tuple[Failed, ...]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("model", self.model, 64)
        require_counts(self, "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEntry(_Line):
    """The end of the run.

    Args:
        type: ``end``.
        failed: whether it didn't come to its end.
        round: the last that is finished.
        model: SHA-256 (hex) of the last parameters.
        told: who has heard of the end; of each, where its ledger stood then.
    """

    type: Literal["end"] = "end"
    failed: bool
    round: int
    model: str
    told: tuple[Given, ...]

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("model", self.model, 64)
        require_counts(self, "round")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorTornEntry(Torn):
    """What an append that crashed has left; nothing was asked or told on its account."""

    schema: Schema = SCHEMA


CoordinatorEntry: TypeAlias = (
    RunEntry
    | StartEntry
    | JoiningEntry
    | RoundEntry
    | AttemptEntry
    | UnmaskEntry
    | ResultEntry
    | EvaluationEntry
    | EndEntry
    | CoordinatorTornEntry
)


def _require_rising(name: str, members: tuple[int, ...]) -> None:
    if any(member < 1 for member in members) or list(members) != sorted(set(members)):
        raise ConfigError(f"{name} must be numbers of sites, each once and rising, got {members}")
