"""A learner and examples for each row of the table; text classifiers and others."""

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from fedmodel import models, tasks
from fedmodel.gradients.units import Units
from fedmodel.job import Lora, Model, Train
from fedmodel.models.families import TARGETS, head_names
from fedmodel.seeds import Seed
from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner
from tests.checkpoints import write_checkpoint
from tests.fedmodel.training.families import (
    CONFIGS,
    CPU,
    DROPOUT,
    LABELS,
    TEXTS,
    Row,
)


class Bare:
    """As much of a learner as preflight and the comparison need."""

    def __init__(self, module: nn.Module, task: str) -> None:
        self.module, self.task = module, _task(task)
        self.layout = models.Layout.of(module)
        self.device, self.precision = CPU, "float32"
        self.preflights_passed: set[tuple[str, bool]] = set()
        self.dropout = 1.0  # some rows have it
        self.asked = None

    @property
    def trained(self) -> nn.Module:
        return self.module

    @property
    def initial(self) -> Any:
        return self.flatten()

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.module(**models.with_positions(self.module, batch)).logits
        return out

    def flatten(self) -> Any:
        return self.layout.flatten(self.module)

    def load_vector(self, vector: Any) -> None:
        self.layout.load_vector(self.module, vector)


class Rows:
    """As much of examples: token ids of several lengths, or pictures."""

    def __init__(self, task: str) -> None:
        made = torch.Generator().manual_seed(3)
        self.task = task
        lengths = [9, 5, 12, 7, 9]
        self.tokens = [torch.randint(5, 300, (n,), generator=made) for n in lengths]
        self.targets = [torch.randint(5, 300, (n,), generator=made) for n in lengths]
        self.pictures = torch.randn(5, 3, 16, 16, generator=made)
        self.lengths = np.array(lengths)
        self.units = Units(self.lengths, None)

    def __len__(self) -> int:
        return 5

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        if self.task != "tokens":
            return {"pixel_values": self.pictures[torch.from_numpy(rows)]}
        ids = pad_sequence([self.tokens[i] for i in rows], batch_first=True)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def run_frozen(self) -> None:
        """Do nothing: no layer of these is skipped."""

    def labels(self, rows: NDArray[np.int64]) -> Tensor:
        if self.task != "tokens":
            return torch.from_numpy(rows) % 3
        return pad_sequence([self.targets[i] for i in rows], True, -100)


def tokens(logits: Tensor, labels: Tensor) -> Tensor:
    """Return every row's loss: the mean over its own tokens, whatever the others' number."""
    losses = cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    return losses.sum(1) / (labels != -100).sum(1)


def _task(name: str) -> tasks.Task:
    known = tasks.of("sequence-classification")
    return replace(known, name=name, losses=tokens) if name == "tokens" else known


def _drop(config: Any) -> Any:
    for name in config.to_dict():
        if "dropout" in name or name.endswith("pdrop"):
            setattr(config, name, DROPOUT)
    return config


def _bare(row: Row, method: str) -> tuple[Any, Any]:
    from peft import LoraConfig, get_peft_model

    assert row.bare is not None
    with torch.random.fork_rng():
        torch.manual_seed(7)
        module = row.bare()
        module = type(module)(_drop(module.config))
    heads = list(head_names(module))
    if method == "lora":
        saved = heads if row.kind == "vit" else None  # a tied head isn't to be copied
        lora = LoraConfig(
            r=4,
            target_modules=list(TARGETS[row.kind]),
            modules_to_save=saved,
            fan_in_fan_out=row.kind == "gpt2",
        )
        module = get_peft_model(module, lora)
    else:
        module.requires_grad_(method == "full")
        for name in heads if method == "head" else ():
            module.get_submodule(name).requires_grad_(True)
    task = "sequence-classification" if row.kind == "vit" else "tokens"
    return Bare(module, task), Rows(task)


@functools.cache
def _folder(kind: str) -> str:
    folder = Path(tempfile.mkdtemp(prefix=f"fedmodel-{kind}-"))
    return str(write_checkpoint(folder, CONFIGS[kind]()))


def made(row: Row, method: str) -> tuple[Any, Any]:
    if row.bare is not None:
        return _bare(row, method)
    model = Model(
        labels=("a", "b", "c"),
        source="hub",
        path=_folder(row.kind),
        max_length=16,
        pooling=row.pooling,  # type: ignore[arg-type]
        dropout=DROPOUT,
    )
    lora = Lora(target_modules=row.targets)
    train = Train(method=method, frozen=row.frozen, lora=lora)  # type: ignore[arg-type]
    learner = Learner(model, train, Seed(0), CPU)
    return learner, prepare(learner, TEXTS, LABELS, ("a", "b", "c"), 16)
