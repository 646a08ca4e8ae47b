"""The network a party holds in memory: built once, loaded with new parameters every round."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmodel import config, models, tasks
from fedmodel.errors import ConfigError, ModelError
from fedmodel.job import Job, Model, Performance, ProposedTrain, Train
from fedmodel.seeds import Seed
from fedmodel.training import made_up
from fedmodel.training.padded import padded
from fedmodel.training.steady import ROWS, Bits, Steady, Witness
from fedmodel.update import Vector

__all__ = ["Learner", "network", "pick_device", "resident"]

logger = logging.getLogger(__name__)

NUDGE = 0.02  # of parameters that start at zero, so that a self-check has something to see


def pick_device(choice: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: if ``cuda`` is asked for and there is none.
    """
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but PyTorch sees no CUDA device; use device=auto or cpu")
    return torch.device(choice)


class Asks(Protocol):
    """What a round asks of a head, where that isn't the task's own loss of its own logits."""

    def features(self, features: Tensor) -> Tensor:
        """Return vectors as the round's head reads them, ``[B, H]``."""

    def losses(self, logits: Tensor, targets: Tensor, entropies: Tensor) -> Tensor:
        """Return each row's loss, ``[B]``, given the task's."""

    def told(self, loss: float) -> float | None:
        """Return the task's mean loss where that is what such a mean is of."""


class Learner:
    """A model with its adapters, the order of its trainable parameters, and a forward pass.

    A batch is a dict of tensors: ``input_ids`` and ``attention_mask`` of shape ``[B, T]``, with
    ``hidden`` ``[B, T, H]`` when frozen layers are skipped; or, when only a linear head trains on a
    frozen body, just ``features`` ``[B, H]``.
    """

    def __init__(
        self,
        model: Model,
        train: ProposedTrain,
        seed: Seed,
        device: torch.device,
        *,
        checkpointing: bool = False,
    ) -> None:
        base = models.load(model, seed.child("model"))
        self.task = tasks.of(model.task)
        self.labels = model.labels
        self.module = models.attach(
            base, train, seed.child("adapters"), peft_type=self.task.head.peft_type
        )
        self.digest = models.digest(self.module)
        # Names all that decides what a frozen body makes of a text, besides its weights.
        self.reading = config.digest(replace(model, labels=())) + str(device)
        self.module.to(device)
        if checkpointing:
            inner: Any = models.unwrap(self.module)
            new = getattr(inner, "activation_checkpointing_enable", None)  # transformers 5.23
            (new or inner.gradient_checkpointing_enable)({"use_reentrant": False})
        self.tokenizer = models.load_tokenizer(model)
        self.layout = models.Layout.of(self.module)
        self.head = models.head_only(self.module) if train.method == "head" else None
        # With dropout the frozen layers' output differs each time, so it can't be kept.
        self.dropout = model.dropout
        skip = self.head is None and model.dropout == 0
        self.frozen = models.frozen_prefix(self.module) if skip else None
        self.precision = train.precision
        self.device = device
        self.initial = self.flatten()
        self.preflights_passed: set[tuple[str, bool]] = set()  # engine, whether units have rows
        whole = models.unwrap(self.module).config
        own = getattr(whole, "encoder", whole)
        self.hidden_size: int | None = getattr(own, "hidden_size", None)
        self.steady = Steady(device.type, self.hidden_size)
        self.padding_seen: bool | None = None  # see :mod:`.padding`
        self.longest = model.max_length
        self.asked: Asks | None = None  # see :mod:`.staged`
        self._settled = False

    @property
    def trained(self) -> nn.Module:
        """The smallest module that holds every trainable parameter."""
        return self.module if self.head is None else self.head.linear

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Return float32 logits ``[B, classes]``; under autocast when the job says bf16."""
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        ):
            if self.head is not None:
                features = batch["features"]
                out = self.head.logits(
                    features if self.asked is None else self.asked.features(features)
                )
            elif self.frozen is not None and "hidden" in batch:
                with self.frozen.skipped(batch["hidden"]):
                    out = self.module(**self._inputs(batch)).logits
            else:
                out = self.module(**self._inputs(batch)).logits
        return out.float()

    def whole_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Return float32 logits of token inputs, with no layer skipped and nothing in bf16."""
        logits: Tensor = self.module(**self._inputs(batch)).logits
        return logits.float()

    def _inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = {name: value for name, value in batch.items() if name != "hidden"}
        return models.with_positions(self.module, tokens)

    def settle(self) -> None:
        """Check, once, that skipping the frozen layers changes nothing; else they aren't skipped.

        On made-up rows, so that every site comes to the same end.
        """
        if self._settled:
            return
        self._settled = True
        if self.frozen is not None and not self._skipping_agrees(self._made_up((9, 16, 5), 16)):
            self.frozen = None

    def frozen_output(self, batch: dict[str, Tensor]) -> Tensor:
        """Return what the frozen part makes of token inputs, float32.

        That is ``[B, H]`` for a linear head, else what the lowest trained layer reads,
        ``[B, T, H]``.
        """
        if self.head is not None:
            return self.head.features(batch).float()
        if self.frozen is None:
            raise ModelError(
                "this network has no layers that are run once and then skipped; check first that "
                "`frozen` isn't None"
            )
        return self.frozen.hidden(self._inputs(batch)).float()

    def prove_frozen(self, width: int, count: int, size: int) -> None:
        """Find which shapes of the frozen part's passes are steady (see :class:`.Steady`).

        Args:
            width: tokens of each row.
            count: rows there are of it.
            size: rows in one pass at most.
        """
        if not self.steady.due("frozen", width, size, count):
            return
        rows = self._made_up([max(1, width - i) for i in range(ROWS)], width)

        def run(indices: NDArray[np.int64], filled: int) -> Bits:
            some = {name: value[torch.from_numpy(indices)] for name, value in rows.items()}
            idle = {n: v[:1].expand(filled - len(indices), -1) for n, v in some.items()}
            batch = {n: torch.cat([v, idle[n]]) for n, v in some.items()}
            with Witness(self.module, filled, len(indices)) as seen:
                seen.note("output", self.frozen_output(batch))
            return seen.bits

        self.steady.prove("frozen", width, size, count, run)

    def _made_up(self, lengths: Sequence[int], width: int) -> dict[str, Tensor]:
        width = min(width, self.longest)
        lengths = [min(length, width) for length in lengths]
        rows = made_up.texts(self.tokenizer, lengths, f"frozen {width}")
        return padded(rows, width, self.tokenizer.pad_token_id or 0, self.device)

    def _skipping_agrees(self, batch: dict[str, Tensor]) -> bool:
        # A head of zeros would answer zero to anything; the weights are nudged for the comparison.
        before = self.flatten()
        noise = Seed(0).child("skipping").numpy().standard_normal(before.size)
        self.load_vector((self.initial + NUDGE * noise).astype(np.float32))
        try:
            return self.frozen is not None and self.frozen.agrees(self._inputs(batch))
        finally:
            self.load_vector(before)

    def flatten(self) -> Vector:
        """Return the trainable parameters as one float32 vector."""
        return self.layout.flatten(self.module)

    def load_vector(self, vector: Vector) -> None:
        """Set the trainable parameters from one float32 vector."""
        self.layout.load_vector(self.module, vector)


@functools.lru_cache(maxsize=2)
def _resident(
    model: Model, train: ProposedTrain, seed: Seed, device: torch.device, checkpointing: bool
) -> Learner:
    return Learner(model, train, seed, device, checkpointing=checkpointing)


def network(model: Model, train: ProposedTrain, seed: Seed, performance: Performance) -> Learner:
    """Return this process's learner for a network, made on first use.

    In a simulation the coordinator and all sites share it: every use begins by loading a vector.

    Args:
        model: which network.
        train: which of its parameters train, and in which precision.
        seed: of everything that isn't read from files.
        performance: of this machine.

    Raises:
        ModelError: if it can't be loaded, or its parameters can't learn.
    """
    # Only what shapes the network may be part of the key, so that a sweep reuses the body.
    shaping = ("method", "lora", "precision", "frozen")
    # Of the rates only whether they are 0: what starts at zero must not stay there.
    shape = Train(
        **{name: getattr(train, name) for name in shaping},
        lr=float(train.lr > 0),
        head_lr=float(train.head_lr > 0),
    )
    device = pick_device(performance.device)
    return _resident(model, shape, seed, device, performance.gradient_checkpointing)


def resident(job: Job, performance: Performance) -> Learner:
    """Return this process's learner for a job (see :func:`network`).

    Raises:
        ModelError: if the starting weights are not the ones the job names.
    """
    learner = network(job.model, job.train, job.root_seed, performance)
    if learner.digest != job.weights:
        raise ModelError(
            f"the starting weights differ from the job's: expected SHA-256 "
            f"{job.weights[:16]}…, got {learner.digest[:16]}…; every party needs the same "
            "model files and package versions"
        )
    return learner
