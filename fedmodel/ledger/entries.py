"""The entries of a ledger: what they say. How they are written: :mod:`fedmodel.ledger.lines`.

Real numbers are text that ``float`` reads exactly, for JSON's own may be read as something else.
Every entry carries 128 random bits: a tree head, which others see, is a hash over the lines, and
without them its reader could guess what a line says and compare.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel import config
from fedmodel.accounting.spends import Adjacency, Kind, Spend
from fedmodel.errors import ConfigError
from fedmodel.job import Unit
from fedmodel.ledger.fields import real, require_counts, require_reals
from fedmodel.ledger.grounds import Grounds
from fedmodel.ledger.line import Line, Torn
from fedmodel.ledger.mechanism import Mechanism, require_fits
from fedmodel.ledger.outcome import OutcomeEntry
from fedmodel.ledger.site_line import SCHEMA, Schema, SiteLine, WitnessLine

__all__ = [
    "SCHEMA",
    "AbortEntry",
    "DatasetEntry",
    "Entry",
    "GiveBackEntry",
    "OpenEntry",
    "OutcomeEntry",
    "Part",
    "RepeatEntry",
    "ReserveEntry",
    "Schema",
    "SpendEntry",
    "TornEntry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEntry(SiteLine):
    """The beginning: whose ledger it is, and of what.

    Args:
        type: ``open``.
        ledger: its name to others: fingerprint of the key / dataset.
        key: the site's public Ed25519 key, hex; it signs the tree heads.
        site: the site's name.
        dataset: the dataset's declared name.
    """

    type: Literal["open"] = "open"
    ledger: str
    key: str
    site: str
    dataset: str

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("key", self.key, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetEntry(SiteLine):
    """Which rows a run finds. One is written at every join, changed rows or not.

    Were it written only when rows changed, then the number of entries, which a tree head shows,
    would tell whether they have.

    Args:
        type: ``dataset``.
        root: Merkle root over the rows' salted hashes, sorted, hex.
        rows: how many.
        patients: how many different ones; ``None`` where rows don't name theirs.
        added: rows that weren't there before; ``None`` where that isn't known any more.
        removed: rows that were there before and aren't now; ``None`` likewise.
    """

    type: Literal["dataset"] = "dataset"
    root: str
    rows: int
    patients: int | None
    added: int | None
    removed: int | None

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("root", self.root, 64)
        require_counts(self, "rows", "patients", "added", "removed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Equal steps in a reservation.

    Args:
        kind: what they are taken for.
        mechanism: that makes them private; ``None`` only where a line of ``fedmodel.ledger/2``
            doesn't say.
        rate: sampling rate.
        noise_multiplier: σ, over the clip norm, of the mechanism as a whole.
        steps: how many.
    """

    kind: Kind
    mechanism: Mechanism | None
    rate: str
    noise_multiplier: str
    steps: int

    def __post_init__(self) -> None:
        require_reals(self, "rate", "noise_multiplier")
        self.spend()

    @classmethod
    def of(cls, spend: Spend, mechanism: Mechanism | None) -> "Part":
        """Return a spend's steps as a part."""
        return cls(
            kind=spend.kind,
            mechanism=mechanism,
            rate=real(spend.rate),
            noise_multiplier=real(spend.noise_multiplier),
            steps=spend.steps,
        )

    def spend(self) -> Spend:
        """Return what the accountant needs of it."""
        return Spend(float(self.rate), float(self.noise_multiplier), self.steps, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReserveEntry(SiteLine):
    """What a job may spend here. It counts as spent until it is given back.

    Args:
        type: ``reserve``.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        unit: whose presence is hidden.
        adjacency: of neighbouring datasets.
        epsilon: ε that the job promises, at ``delta``.
        delta: δ of that promise.
        parts: what is held.
        code: which program reserves: version and SHA-256 of its sources.
        grounds: on what it rests: the job whole, and the site's own side; ``None`` where a line of
            an earlier schema doesn't say, or what isn't a site in a run reserves.
    """

    type: Literal["reserve"] = "reserve"
    run: str
    job: str
    unit: Unit
    adjacency: Adjacency
    epsilon: str
    delta: str
    parts: tuple[Part, ...]
    code: str
    grounds: Grounds | None = None

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("job", self.job, 64)
        if self.grounds is not None:
            self.grounds.require_job(self.job)
        require_reals(self, "epsilon", "delta")
        _require_said(self, *self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendEntry(WitnessLine):
    """Steps that a site is about to take.

    Args:
        type: ``spend``.
        reservation: ``seq`` of the reservation that it draws on.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        kind: what the steps are taken for.
        mechanism: that makes them private; ``None`` only where a line of ``fedmodel.ledger/2``
            doesn't say.
        round: of the run.
        attempt: 1, or more when a round is taken again.
        rate: sampling rate.
        noise_multiplier: σ, over ``clip``, of the mechanism as a whole.
        steps: how many.
        clip: C, the largest norm of a unit's contribution to a step.
        unit: whose presence is hidden.
        adjacency: of neighbouring datasets.
        delta: δ that the job promises its ε at.
        given_up: steps of the reservation that won't be taken because these are: a round that a
            crash made necessary again takes the place of later ones.
        model: SHA-256 (hex) of the parameters that they start from; empty where a line of an
            earlier schema doesn't say.
    """

    type: Literal["spend"] = "spend"
    reservation: int
    run: str
    job: str
    kind: Kind
    mechanism: Mechanism | None
    round: int
    attempt: int
    rate: str
    noise_multiplier: str
    steps: int
    clip: str
    unit: Unit
    adjacency: Adjacency
    delta: str
    given_up: tuple[Part, ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        WitnessLine.__post_init__(self)
        config.require_hex("job", self.job, 64)
        _require_model(self.model)
        require_reals(self, "rate", "noise_multiplier", "clip", "delta")
        require_counts(self, "reservation", "round", "attempt")
        self.spend()
        _require_said(self, self, *self.given_up)

    def spend(self) -> Spend:
        """Return what the accountant needs of it."""
        return Spend(float(self.rate), float(self.noise_multiplier), self.steps, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatEntry(WitnessLine):
    """Another attempt of a round whose steps are spent, by noise in shares: it costs nothing.

    Each attempt is masked anew, and its sum is opened only when enough sites have consented. So
    many must that two attempts of a round would share an honest site, which consents once
    (:meth:`fedmodel.secagg.agreement.Agreement.one_set_of`): of all attempts together at most one
    is ever opened, whichever it is.

    Args:
        type: ``repeat``.
        reservation: ``seq`` of the reservation that the round was drawn on.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        round: of the run.
        attempt: 2 or more.
        model: as of a spend.
    """

    type: Literal["repeat"] = "repeat"
    reservation: int
    run: str
    job: str
    round: int
    attempt: int
    model: str = ""

    def __post_init__(self) -> None:
        WitnessLine.__post_init__(self)
        config.require_hex("job", self.job, 64)
        _require_model(self.model)
        require_counts(self, "reservation", "round", "attempt")


@dataclass(frozen=True, slots=True, kw_only=True)
class _End(WitnessLine):
    """The end of a reservation: what it still held is free again.

    Args:
        reservation: its ``seq``.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        by: ``site`` when the run says so, or its ``operator``.
    """

    reservation: int
    run: str
    job: str
    by: Literal["site", "operator"]

    def __post_init__(self) -> None:
        WitnessLine.__post_init__(self)
        config.require_hex("job", self.job, 64)
        require_counts(self, "reservation")


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBackEntry(_End):
    """A job came to its end, or its operator gave it up."""

    type: Literal["give-back"] = "give-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortEntry(_End):
    """A job failed."""

    type: Literal["abort"] = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class TornEntry(Torn):
    """What an append that crashed has left; nothing was spent by it."""

    schema: Schema = SCHEMA


Entry: TypeAlias = (
    OpenEntry
    | DatasetEntry
    | ReserveEntry
    | SpendEntry
    | RepeatEntry
    | OutcomeEntry
    | GiveBackEntry
    | AbortEntry
    | TornEntry
)


def _require_model(model: str) -> None:
    if model:
        config.require_hex("model", model, 64)


def _require_said(entry: ReserveEntry | SpendEntry, *steps: Part | SpendEntry) -> None:
    """Check that steps name their mechanism, and that it is one for their kind and unit."""
    for each in steps:
        if each.mechanism is not None:
            require_fits(each.mechanism, each.kind, entry.unit)
        elif entry.schema != "fedmodel.ledger/2":
            raise ConfigError(f"in {entry.schema} a spend names its mechanism, got none")
