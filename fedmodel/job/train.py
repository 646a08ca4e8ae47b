"""Network and training: what is trained, and how each site trains it."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fedmodel.config import ABSENT
from fedmodel.job.checks import require

__all__ = ["HeadStart", "Lora", "Model", "ProposedModel", "ProposedTrain", "Stage", "Train"]

# What steps start from: the starting weights, or a head of released means.
HeadStart: TypeAlias = Literal["zero", "means"]
# What a round of training the head asks the sites for.
Stage: TypeAlias = Literal["mean", "class-sums", "steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedModel:
    """Which network, for which task.

    Args:
        task: what the network is trained to do: to give a text one label (``sequence-``) or any
            number of them (``multi-label-classification``).
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
        labels: names of the labels in the order of the logits; ``None``: those in the data.
    """

    task: Literal["sequence-classification", "multi-label-classification"] = (
        "sequence-classification"
    )
    source: Literal["tiny", "minilm", "hub"] = "tiny"
    path: str | None = None
    revision: str | None = None
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    head_bias: bool = False
    max_length: int = 128
    dropout: float = 0.0
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        require(
            self.source != "hub" or bool(self.path),
            "model=hub needs model.path=<hub id or folder>",
        )
        require(self.max_length >= 2, f"model.max_length must be at least 2, got {self.max_length}")
        require(0 <= self.dropout < 1, f"model.dropout must be in [0, 1), got {self.dropout}")
        labels = self.labels or ()
        require(
            len(set(labels)) == len(labels),
            f"model.labels must differ from one another, got {list(labels)}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(ProposedModel):
    """Which network, for which task, complete: see :class:`ProposedModel`.

    Args:
        labels: names of the labels in the order of the logits.
    """

    labels: tuple[str, ...] = ()


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
        require(self.rank >= 1, f"train.lora.rank must be at least 1, got {self.rank}")
        require(self.alpha > 0, f"train.lora.alpha must be > 0, got {self.alpha}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedTrain:
    """How each site is to train.

    Args:
        method: which parameters train: ``lora``, ``ffa`` (LoRA with A frozen, arXiv 2403.12313),
            ``full`` or ``head``. Only they travel.
        rounds: rounds of the federation.
        steps: optimiser steps at each site in a round.
        batch_size: rows in a step. Under DP each row is drawn independently, on average so many or
            the whole site if that is smaller, and the sum is always divided by this public number,
            never by one that depends on the site's size.
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
        lora: shape and place of the adapters, with ``lora`` and ``ffa``.
        start: what the steps start from. ``zero``: the starting weights. ``means``, with ``head``:
            the first round releases the mean of the texts' vectors, the second the sum of each
            class's around it; a head is made of those, and the other rounds go on from there
            (:meth:`Train.stage`). ``auto``: means where they can be had.
    """

    method: Literal["lora", "ffa", "full", "head"] = "head"
    rounds: int = 10
    steps: int = 5
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw", "adamw-bc"] = "sgd"
    lr: float = 0.1
    head_lr: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    optimizer_state: Literal["reset", "keep"] = "reset"
    precision: Literal["float32", "bf16"] = "float32"
    frozen: tuple[str, ...] = ()
    lora: Lora = field(default_factory=Lora)
    start: Literal["auto", "zero", "means"] = "auto"

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"train.{name} must be at least 1, got {value}")
        for name in ("lr", "head_lr", "weight_decay"):
            value = getattr(self, name)
            require(value >= 0, f"train.{name} must not be negative, got {value}")
        rates = ("head_lr",) if self.method == "head" else ("lr", "head_lr")
        require(
            any(getattr(self, name) for name in rates),
            f"nothing would be learned with {' and '.join(f'train.{name}=0' for name in rates)}",
        )
        require(0 <= self.momentum < 1, f"train.momentum must be in [0, 1), got {self.momentum}")

    @property
    def total_steps(self) -> int:
        """Optimiser steps a site takes in a whole run."""
        return self.rounds * self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Train(ProposedTrain):
    """How each site trains, complete: see :class:`ProposedTrain`.

    Args:
        start: ``zero`` or ``means``.
    """

    # Later than the format of a job: absent from its JSON where it is as it was before.
    start: HeadStart = field(default="zero", metadata=ABSENT)

    def stage(self, round_: int) -> Stage:
        """Return what a round asks for (1, 2, …).

        With ``start=means`` that is the mean first, then the class sums, then steps; a lone round
        asks for the class sums at once.
        """
        if self.start == "zero":
            return "steps"
        opening: tuple[Stage, ...] = ("class-sums",) if self.rounds == 1 else _OPENING
        return opening[round_ - 1] if round_ <= len(opening) else "steps"


_OPENING: tuple[Stage, ...] = ("mean", "class-sums")
