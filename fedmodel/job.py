"""The Job: all that a federated run means, agreed by every party.

It holds no path on anybody's machine (a model folder in a simulation excepted), no secret and no
fact about one site's data. Two jobs with the same canonical JSON (RFC 8785) are the same job, and
``job.sha256`` names it. Checks that need only the job happen here, at construction.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.seeds import Seed

__all__ = [
    "Aggregation",
    "Federation",
    "Job",
    "Lora",
    "Model",
    "Privacy",
    "SecAgg",
    "Train",
    "show_epsilon",
]

_FEWEST = 3  # honest sites in a sum: of two, each learns the other's


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def show_epsilon(epsilon: float) -> str:
    """Return an ε with three decimals, rounded up: it is an upper bound.

    >>> show_epsilon(7.9951)
    '7.996'
    """
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which network, for which task.

    Args:
        task: what the network is trained to do.
        source: ``tiny`` (made from a configuration, random weights), ``minilm`` (the pretrained
            weights in the optional package) or ``hub`` (``path``: a hub id or a folder).
        path: hub id or folder, for ``hub``.
        revision: commit, tag or branch of a hub model.
        pooling: ``mean`` (attention-masked mean of the last hidden state and a linear head) or
            ``cls`` (the architecture's own classification head).
        normalize: scale the mean-pooled vector to length 1 before the head.
        head_bias: whether the mean-pooled head adds a bias. Without one, less noise is added.
        max_length: tokens kept of each text.
        dropout: replaces every dropout probability of the architecture.
        labels: class names in the order of the logits.
        digest: SHA-256 of the starting weights; a site whose own differ refuses.
    """

    task: Literal["sequence-classification"] = "sequence-classification"
    source: Literal["tiny", "minilm", "hub"] = "tiny"
    path: str | None = None
    revision: str | None = None
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    head_bias: bool = False
    max_length: int = 128
    dropout: float = 0.0
    labels: tuple[str, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        _require(
            self.source != "hub" or bool(self.path),
            "model=hub needs model.path=<hub id or folder>",
        )
        _require(
            self.max_length >= 2, f"model.max_length must be at least 2, got {self.max_length}"
        )
        _require(0 <= self.dropout < 1, f"model.dropout must be in [0, 1), got {self.dropout}")
        _require(
            len(set(self.labels)) == len(self.labels),
            f"model.labels must differ from one another, got {list(self.labels)}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Shape of the low-rank adapters (arXiv 2106.09685).

    Args:
        rank: r, of A and B.
        alpha: the adapters' output is scaled by alpha / rank.
        target_modules: names of the layers that get one; ``None``: the family's query and value.
        layers: transformer layers that get adapters, -1 for the last; ``None``: all.
    """

    rank: int = 4
    alpha: float = 4.0
    target_modules: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.rank >= 1, f"train.lora.rank must be at least 1, got {self.rank}")
        _require(self.alpha > 0, f"train.lora.alpha must be > 0, got {self.alpha}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """How each site trains.

    Args:
        method: which parameters train: ``lora``, ``ffa`` (LoRA with A frozen, arXiv 2403.12313),
            ``full`` or ``head``. Only they travel.
        rounds: rounds of the federation.
        steps: optimiser steps at each site in a round.
        batch_size: rows in a step. Under DP each row is drawn independently, on average so many or
            the whole site if that is smaller, and the sum is always divided by this public number,
            never by one that depends on the site's size.
        physical_batch: rows in one forward pass; a performance knob without effect on the result.
        optimizer: of the site. ``adamw-bc`` is AdamW whose second moment has the noise's known
            variance taken off (DP-AdamBC, arXiv 2312.14334); it needs DP.
        lr: learning rate of the adapters or the body.
        head_lr: learning rate of the classification head.
        momentum: of SGD, or the first beta of AdamW.
        weight_decay: decoupled for AdamW, L2 for SGD.
        optimizer_state: ``reset`` at each round, or ``keep`` it at the site between rounds.
        precision: ``bf16`` runs forward and backward under autocast.
        frozen: modules that stay as they are under any method: names or their last parts, such as
            ``relative_attention_bias``.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
    """

    method: Literal["lora", "ffa", "full", "head"] = "head"
    rounds: int = 10
    steps: int = 5
    batch_size: int = 64
    physical_batch: int = 32
    optimizer: Literal["sgd", "adamw", "adamw-bc"] = "sgd"
    lr: float = 0.1
    head_lr: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer_state: Literal["reset", "keep"] = "reset"
    precision: Literal["float32", "bf16"] = "float32"
    frozen: tuple[str, ...] = ()
    gradient_checkpointing: bool = False
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "batch_size", "physical_batch"):
            value = getattr(self, name)
            _require(value >= 1, f"train.{name} must be at least 1, got {value}")
        for name in ("lr", "head_lr", "weight_decay"):
            value = getattr(self, name)
            _require(value >= 0, f"train.{name} must not be negative, got {value}")
        _require(0 <= self.momentum < 1, f"train.momentum must be in [0, 1), got {self.momentum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """What is promised to whom. Every number here is public, and none follows from a site's rows.

    Args:
        mechanism: ``none``; ``dpsgd``: DP-SGD at each site (arXiv 1607.00133), every site keeping
            the promise by itself; ``distributed``: DP-SGD on the union of all sites' rows, each
            step one secure sum to which every site adds its share of the noise; ``site``: each
            site's whole update is clipped and summed in that way.
        unit: whose presence is hidden: one ``record`` (a row), or one ``patient`` with all rows;
            with ``mechanism=site`` a whole ``site``.
        adjacency: neighbouring datasets differ by adding or removing one unit (``add-remove``), or
            by exchanging one for another (``replace``, which costs more noise at equal ε).
        epsilon: the whole run's ε at each site.
        delta: the δ it holds at; must be below 1/units at every site.
        clip: C, the L2 norm each unit's gradient is clipped to.
        rate: probability with which a unit takes part in a step, the same at every site; the noise
            is calibrated for it. ``None`` only until a job is complete.
        rows_per_patient: at most so many rows of one patient enter a step, and an evaluation.
        engine: how per-unit gradients are clipped: ``fast`` (one backward pass), or Opacus's
            ``hooks`` or ``ghost``. The results agree; only time and memory differ.
        clipping: one norm for all parameters (``flat``), C/√layers for each layer
            (``per-layer``), or a norm that follows a quantile of the norms, found out under DP
            (``adaptive``, arXiv 1905.03871).
        clip_quantile: share of units that adaptive clipping leaves unclipped.
        clip_rate: learning rate of the adaptive norm's logarithm, per step.
        clip_noise: standard deviation of the noise on adaptive clipping's count of units.
        decay: noise multiplier of the last round over that of the first; between them it
            changes geometrically. 1: constant.
        evaluation: when test rows are a site's own: ``noised`` counts after the last round, paid
            for from the same ε, or ``suppressed``.
        evaluation_noise: noise multiplier of that release.
    """

    mechanism: Literal["none", "dpsgd", "distributed", "site"] = "none"
    unit: Literal["record", "patient", "site"] = "record"
    adjacency: Literal["add-remove", "replace"] = "add-remove"
    epsilon: float = 8.0
    delta: float = 1e-5
    clip: float = 1.0
    rate: float | None = None
    rows_per_patient: int = 8
    engine: Literal["fast", "hooks", "ghost"] = "fast"
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    clip_quantile: float = 0.5
    clip_rate: float = 0.2
    clip_noise: float = 10.0
    decay: float = 1.0
    evaluation: Literal["noised", "suppressed"] = "noised"
    evaluation_noise: float = 10.0

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip", "clip_rate", "clip_noise", "decay", "evaluation_noise"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"privacy.{name} must be > 0, got {value}")
        for name in ("delta", "clip_quantile"):
            value = getattr(self, name)
            _require(0 < value < 1, f"privacy.{name} must be in (0, 1), got {value}")
        _require(
            self.rate is None or 0 < self.rate <= 1,
            f"privacy.rate must be in (0, 1], got {self.rate}",
        )
        _require(
            self.rows_per_patient >= 1,
            f"privacy.rows_per_patient must be at least 1, got {self.rows_per_patient}",
        )
        _require(
            self.engine != "ghost" or (self.unit == "record" and self.clipping == "flat"),
            "privacy.engine=ghost clips rows by one norm only; use privacy.engine=fast for "
            f"privacy.unit={self.unit} with privacy.clipping={self.clipping}",
        )
        _require(
            (self.unit == "site") == (self.mechanism == "site"),
            "privacy.unit=site and privacy.mechanism=site go together, got "
            f"unit={self.unit} with mechanism={self.mechanism}; use privacy=site",
        )
        if self.shared:
            self._check_shared()

    def _check_shared(self) -> None:
        _require(
            self.clipping != "adaptive",
            "privacy.clipping=adaptive releases a count at each site, which noise in shares doesn't "
            f"cover; use flat or per-layer with privacy.mechanism={self.mechanism}",
        )
        if self.mechanism == "site":
            _require(
                self.rate in (None, 1.0),
                "with privacy=site nobody outside may learn which sites a round takes, and the "
                f"coordinator does: privacy.rate must be 1 or null, got {self.rate}",
            )
            _require(
                self.clipping == "flat" and self.evaluation == "suppressed",
                "privacy=site clips a site's whole update by one norm and hides the whole site; it "
                "needs privacy.clipping=flat and privacy.evaluation=suppressed",
            )

    @property
    def private(self) -> bool:
        """Whether any differential privacy is promised."""
        return self.mechanism != "none"

    @property
    def shared(self) -> bool:
        """Whether the sites share the noise, so that only their sum keeps the promise."""
        return self.mechanism in ("distributed", "site")

    @property
    def steps_local(self) -> bool:
        """Whether a site takes its own optimiser steps, and sends what they changed."""
        return self.mechanism != "distributed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """What the coordinator does with the mean of the updates.

    Args:
        optimizer: ``fedavg`` (arXiv 1602.05629), ``fedavgm`` (arXiv 1909.06335) or ``fedadam``
            (arXiv 2003.00295).
        weights: ``uniform``, or by the number of ``examples``. A private site doesn't tell its
            size, so only ``uniform`` goes with DP.
        lr: server learning rate of ``fedavgm`` and ``fedadam``.
        momentum: of ``fedavgm``.
        beta1: of ``fedadam``.
        beta2: of ``fedadam``.
        tau: adaptivity of ``fedadam``.
    """

    optimizer: Literal["fedavg", "fedavgm", "fedadam"] = "fedavg"
    weights: Literal["uniform", "examples"] = "uniform"
    lr: float = 1.0
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"aggregation.lr must be > 0, got {self.lr}")
        for name in ("momentum", "beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"aggregation.{name} must be in [0, 1), got {value}")
        _require(self.tau > 0, f"aggregation.tau must be > 0, got {self.tau}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Who takes part in a round, and when the run stops.

    Args:
        sites: how many sites take part.
        fraction: share of the sites that is sampled for each round.
        quorum: share of the sampled sites whose updates a round needs.
        below_quorum: ``stop`` the run, or ``skip`` the round (the model stays as it was).
        min_rows: a site with fewer rows takes no part.
        patience: stop when the public test loss hasn't improved for so many rounds; needs a
            public test set.
        test: which rows the model is tested on: ``public`` ones, rows ``held-out`` at each site,
            or ``none``. Filled in from the data.
    """

    sites: int = 5
    fraction: float = 1.0
    quorum: float = 0.5
    below_quorum: Literal["stop", "skip"] = "stop"
    min_rows: int = 16
    patience: int | None = None
    test: Literal["public", "held-out", "none"] = "public"

    def __post_init__(self) -> None:
        _require(self.sites >= 1, f"federation.sites must be at least 1, got {self.sites}")
        _require(self.min_rows >= 1, f"federation.min_rows must be at least 1, got {self.min_rows}")
        for name in ("fraction", "quorum"):
            value = getattr(self, name)
            _require(0 < value <= 1, f"federation.{name} must be in (0, 1], got {value}")
        _require(
            self.patience is None or self.patience >= 1,
            f"federation.patience must be at least 1 or null, got {self.patience}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAgg:
    """How updates are kept from the coordinator, and from what lies between.

    Args:
        mode: ``on``: the coordinator learns the sum of the sites' updates and nothing else of
            them (arXiv ePrint 2017/281); ``seal``: each update is encrypted to the coordinator,
            who reads it; ``off``.
        colluders: so many sites may work together with the coordinator without the others'
            updates being exposed. ``None`` until a job is complete.
        survivors: a round needs so many sites to the end. ``None`` until a job is complete.
        threshold: so many sites must agree on who survived before anything is unmasked, and so
            many shares make a secret. ``None`` until a job is complete.
        attempts: how often one round may be begun, with fresh masks each time.
        bits: of a number as it travels; ``None`` until a job is complete.
        range: largest absolute value of a coordinate of an update (of a mean update, where sites
            have weights). Without effect on steps of ``privacy=distributed``, whose range follows
            from the clip norm.
        max_weight: largest weight of a site, in rows; ``None`` until a job is complete.
        overflow: what a site does with a coordinate beyond the range: ``refuse`` the round, or
            ``clip`` it.
    """

    mode: Literal["off", "on", "seal"] = "off"
    colluders: int | None = None
    survivors: int | None = None
    threshold: int | None = None
    attempts: int = 2
    bits: int | None = None
    range: float = 8.0
    max_weight: int | None = None
    overflow: Literal["refuse", "clip"] = "refuse"

    def __post_init__(self) -> None:
        for name, least in (
            ("colluders", 0),
            ("survivors", 1),
            ("threshold", 1),
            ("max_weight", 1),
            ("attempts", 1),
        ):
            value = getattr(self, name)
            _require(
                value is None or value >= least,
                f"secagg.{name} must be at least {least}, got {value}",
            )
        _require(
            self.bits in (None, 16, 20, 24, 28, 32),
            f"secagg.bits must be 16, 20, 24, 28, 32 or null, got {self.bits}",
        )
        _require(0 < self.range < 2**31, f"secagg.range must be > 0, got {self.range}")
        if self.on and self.survivors is not None and self.colluders is not None:
            _require(
                self.honest >= _FEWEST,
                f"secagg=on needs secagg.survivors - secagg.colluders to be at least {_FEWEST}, "
                f"got {self.survivors} - {self.colluders}: with fewer, the honest sites' updates "
                "follow from their sum and what the others know",
            )
            _require(
                self.threshold is None or self.threshold <= self.survivors,
                f"secagg.threshold ({self.threshold}) must not be above secagg.survivors "
                f"({self.survivors}): so many sites must be left to unmask the sum",
            )

    @property
    def on(self) -> bool:
        """Whether the coordinator sees sums only."""
        return self.mode == "on"

    @property
    def honest(self) -> int:
        """Sites that are left at least and don't collude: h. Their noise is what is counted."""
        if self.survivors is None or self.colluders is None:
            raise ConfigError("secagg.survivors and secagg.colluders aren't filled in yet")
        return self.survivors - self.colluders

    def completed(self, sites: int, *, weighted: int | None = None) -> "SecAgg":
        """Return what is agreed on for so many sites in a round; what was given stays.

        Args:
            sites: in a round.
            weighted: a public bound on a site's rows, where updates are weighted by them.

        Raises:
            ConfigError: when there are too few sites.
        """
        if not self.on:
            return self
        colluders = self.colluders if self.colluders is not None else int(sites > _FEWEST)
        least = max(math.ceil(0.8 * sites), _FEWEST + colluders)
        survivors = self.survivors if self.survivors is not None else least
        _require(
            sites >= survivors,
            f"secagg=on needs {survivors} sites in a round (secagg.survivors: at least "
            f"{_FEWEST} more than the {colluders} tolerated colluders), and this job has {sites}; "
            "take part with more sites, or use secagg=off or secagg=seal",
        )
        threshold = self.threshold
        if threshold is None:
            threshold = (sites + colluders) // 2 + 1
        _require(
            2 * threshold > sites + colluders,
            f"secagg.threshold must be above (sites + colluders) / 2 = {(sites + colluders) / 2:g} "
            f"so that two sets of survivors can't both be agreed on, got {threshold}",
        )
        return replace(
            self,
            colluders=colluders,
            survivors=survivors,
            threshold=threshold,
            bits=self.bits if self.bits is not None else (32 if weighted else 24),
            max_weight=self.max_weight if self.max_weight is not None else weighted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One federated run. See the parts for what each means."""

    format: Literal["fedmodel.job/1"] = "fedmodel.job/1"
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    privacy: Privacy = field(default_factory=Privacy)
    secagg: SecAgg = field(default_factory=SecAgg)
    aggregation: Aggregation = field(default_factory=Aggregation)
    federation: Federation = field(default_factory=Federation)
    seed: int = 0

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**53, f"seed must be in [0, 2**53), got {self.seed}")
        _require(
            not (self.privacy.private and self.aggregation.weights == "examples"),
            "aggregation.weights=examples tells every site's number of rows, which DP promises to "
            "hide; use aggregation.weights=uniform with privacy.mechanism="
            f"{self.privacy.mechanism}",
        )
        _require(
            not (
                self.privacy.private
                and self.train.gradient_checkpointing
                and self.privacy.engine != "fast"
            ),
            "train.gradient_checkpointing goes with privacy.engine=fast, not with "
            f"{self.privacy.engine}",
        )
        _require(
            self.privacy.private or self.train.optimizer != "adamw-bc",
            "train.optimizer=adamw-bc corrects for the noise of DP, and this job has none; use "
            "train.optimizer=adamw",
        )
        _require(
            self.train.optimizer != "adamw-bc" or self.privacy.mechanism != "site",
            "train.optimizer=adamw-bc corrects for noise in a site's own steps, and with "
            "privacy=site there is none; use train.optimizer=adamw",
        )
        _require(
            self.secagg.on or not self.privacy.shared,
            f"privacy.mechanism={self.privacy.mechanism} spreads the noise over the sites, so that "
            "one site's update alone has too little; it needs secagg=on, got "
            f"secagg={self.secagg.mode}",
        )
        if self.privacy.mechanism == "distributed":
            self._check_distributed()

    def _check_distributed(self) -> None:
        _require(
            self.train.steps == 1,
            "with privacy=distributed every optimiser step is one secure sum, so train.steps must "
            f"be 1, got {self.train.steps}: use train.rounds={self.total_steps} train.steps=1. "
            "Several local steps per sum are FedAvg: privacy=record secagg=on, where each site "
            "keeps its own ε and secure sums add protection from the coordinator, but no ε",
        )
        _require(
            self.train.optimizer == "sgd"
            and self.train.momentum == 0
            and self.train.optimizer_state == "reset",
            "with privacy=distributed the coordinator takes the optimiser's step: use "
            "train.optimizer=sgd train.momentum=0 train.optimizer_state=reset, and "
            "aggregation=fedavg (SGD), fedavgm (momentum) or fedadam (Adam)",
        )

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the job's canonical JSON: its name."""
        return config.digest(self)

    @property
    def total_steps(self) -> int:
        """Optimiser steps a site takes in a whole run: what its noise is calibrated for."""
        return self.train.rounds * self.train.steps

    @property
    def releases_evaluation(self) -> bool:
        """Whether each site is asked once, after the last round, for noised counts of its own."""
        noised = self.privacy.private and self.privacy.evaluation == "noised"
        return noised and self.federation.test == "held-out"

    @property
    def root_seed(self) -> Seed:
        """Root of the reproducible randomness (never of noise)."""
        return Seed(self.seed)

    def to_json(self) -> bytes:
        """Return the canonical JSON that travels and is hashed."""
        return config.canonical(self)

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> "Job":
        """Build and check a job from a plain mapping (see :func:`fedmodel.config.build`)."""
        return config.build(cls, mapping)
