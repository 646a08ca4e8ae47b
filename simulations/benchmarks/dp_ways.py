"""The work of ``dp_step``: one optimiser step of eight physical batches, with and without DP."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import make_plan
from fedmodel.gradients.clippers import make_clipper
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.job import Lora, Model, Privacy, Train
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import optim
from fedmodel.training.dpsgd import PrivateOptimizer
from fedmodel.training.learner import Learner
from simulations.benchmarks.opacus_ghost import Ghost

__all__ = ["ACCUMULATED", "Method", "Step", "Work", "peak_memory"]

ACCUMULATED = 8
Method = Literal["full", "lora"]
Step = Callable[[], None]

_LABELS = tuple("abcdefghijk")
_VOCABULARY = 1000  # of the tiny model the smallest; which tokens makes no difference


class Work:
    """One network and batches of one shape.

    Args:
        method: what trains.
        batch: rows in a physical batch.
        length: tokens in a row.
        device: ``cpu`` or ``cuda``.
        source: ``minilm``, or ``tiny`` for a quick try.
        precision: of forward and backward.
        accumulated: physical batches in a step.
    """

    def __init__(
        self,
        method: Method,
        batch: int,
        length: int,
        *,
        device: str = "cpu",
        source: Literal["minilm", "tiny"] = "minilm",
        precision: Literal["float32", "bf16"] = "float32",
        accumulated: int = ACCUMULATED,
    ) -> None:
        self._train = Train(
            method=method,
            optimizer="adamw",
            lr=1e-5,
            head_lr=1e-5,
            precision=precision,
            lora=Lora(),
        )
        model = Model(source=source, labels=_LABELS, max_length=length)
        self.device = torch.device(device)
        self.learner = Learner(model, self._train, Seed(0), self.device)
        self.learner.module.train()
        generator = Seed(1).torch()
        shape = (accumulated, batch, length)
        self._ids = torch.randint(5, _VOCABULARY, shape, generator=generator).to(self.device)
        self._labels = torch.randint(0, len(_LABELS), shape[:2], generator=generator)
        self._labels = self._labels.to(self.device)
        self._rows = accumulated * batch
        self._privacy = Privacy(mechanism="dpsgd", rate=0.1, clip=1.0)

    def plan(self) -> Plan:
        """Return a plan of some noise."""
        return make_plan(self._privacy, batch_size=self._rows, rounds=10, steps=1, evaluate=False)

    def _losses(self, number: int) -> Tensor:
        ids = self._ids[number]
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return cross_entropy(self.learner.logits(batch), self._labels[number], reduction="none")

    def plain(self) -> Step:
        """Return a step without privacy."""
        optimizer = optim.make(self.learner.module, self._train)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            for number in range(len(self._ids)):
                torch.autograd.backward(self._losses(number).sum() / self._rows)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def private(self, name: str, entropy: Entropy) -> Step:
        """Return a step with an engine's clipping and real noise, as training takes it."""
        optimizer: Optimizer = optim.make(self.learner.module, self._train)
        plan = self.plan()
        trained = self.learner.trained
        clipper = make_clipper(self._privacy, plan, trained, entropy, None)
        private = PrivateOptimizer(optimizer, plan, 1, clipper, entropy)
        groups = Groups.records(self._ids.shape[1], self.device)

        def step() -> None:
            engine = Ghost(trained) if name == "ghost" else make_engine(name, trained)
            with engine.attached():
                private.zero_grad(set_to_none=True)
                for number in range(len(self._ids)):
                    engine.begin(groups.rows)
                    engine.backward(self._losses(number), groups)
                    engine.add(clipper.factors(engine.squares()))
                private.step()
                private.zero_grad(set_to_none=True)

        return step

    def seconds(self, step: Step) -> float:
        """Return what a step costs: CPU seconds, or wall seconds on a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            torch.cuda.synchronize()
            return time.perf_counter() - start
        start = time.process_time()
        step()
        return time.process_time() - start


def peak_memory(work: Work, step: Step) -> float:
    """Return the bytes that two steps take at most beyond the loaded model (Linux)."""
    if work.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        step()
        return float(torch.cuda.max_memory_allocated() - before)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before_rss = _status("VmRSS")
    step()
    step()
    return _status("VmHWM") - before_rss


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024.0 * float(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")
