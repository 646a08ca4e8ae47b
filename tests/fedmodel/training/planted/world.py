"""A site that every planted bug meets: rows, patients, and each row's own gradient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fedmodel.accounting.plan import Plan
from fedmodel.job import Model, Performance, Privacy, Train
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim, replay
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round

F = NDArray[np.float64]
Named = dict[str, F]

TEXTS = (
    "patient has chest pain and fever",
    "no acute distress",
    "cough",
    "blood pressure is stable after surgery and the wound is clean",
    "history of diabetes",
    "x ray shows a fracture of the left arm",
    "headache and nausea since monday",
    "discharged home",
    "the scan shows no sign of disease",
    "pain in the knee after a fall",
)
LABELS = ("a", "b", "c", "a", "a", "b", "c", "c", "b", "a")
PATIENTS = ("p", "q", "p", "p", "q", "r", "p", "q", "s", "p")
MODEL = Model(labels=("a", "b", "c"), max_length=16)
TRAIN = Train(method="lora", lr=1.0, head_lr=1.0)
PLAN = Plan(
    unit="record",
    adjacency="add-remove",
    mechanism="dpsgd",
    clip=0.5,
    noise_multiplier=1.25,
    decay=2.0,
    rate=0.5,
    rounds=3,
    steps=2,
    delta=1e-5,
    epsilon=8.0,
    expected_batch=4,
    rows_per_patient=8,
)
TWICE = "base_model.model.encoder.encoder.layer.1.attention.self.value.lora_B.default"
EVERYONE = tuple(range(len(TEXTS)))


@dataclass(frozen=True)
class World:
    """A site: rows, the same rows by patient, and each row's own gradient by plain autograd."""

    learner: Learner
    rows: Examples
    patients: Examples
    start: Any
    alone: list[Named]
    entropy: Entropy

    def step(
        self,
        *draws: Sequence[int],
        plan: Plan = PLAN,
        privacy: Privacy = Privacy(),  # noqa: B008
        examples: Examples | None = None,
        entropy: Entropy | None = None,
        physical: int = 64,
        steps: int | None = None,
        clip: float | None = None,
        **more: Any,
    ) -> Named:
        """Take a step over each draw (without any: one, over who is sampled).

        Returns:
            The noised sum of the clipped gradients, as the change of the weights tells it.
        """
        examples, learner, left = examples or self.rows, self.learner, iter(draws)
        performance = Performance(physical_batch=physical)
        replay.prove_steps(learner, examples, performance)  # so that units share their passes
        learner.load_vector(self.start)
        with pytest.MonkeyPatch.context() as patch:
            if draws:
                patch.setattr(sampling, "poisson", lambda *_: _noted(next(left)))
            dpsgd.private_steps(
                learner,
                examples,
                plan,
                privacy,
                optim.make(learner.module, TRAIN),
                Round(
                    entropy=entropy or self.entropy,
                    performance=performance,
                    **more,
                ),
                steps=len(draws) or 1 if steps is None else steps,
                clip=clip,
            )
        return self.released(self.start, plan)

    def released(self, before: Any, plan: Plan = PLAN) -> Named:
        """Return the sum that made the weights what they are."""
        change = self.learner.layout.named(self.learner.flatten() - before)
        return {n: -v.astype(np.float64) * plan.expected_batch for n, v in change.items()}

    def clipped(self, units: Iterable[Sequence[int]], clip: float) -> Named:
        """Return the oracle's clipped sum of units, each the mean of its rows."""
        total = {name: np.zeros_like(value) for name, value in self.alone[0].items()}
        for rows in units:
            mean = {n: np.mean([self.alone[i][n] for i in rows], axis=0) for n in total}
            factor = min(1.0, clip / norm(mean))
            total = {name: total[name] + factor * mean[name] for name in total}
        return total


realised: list[int] = []  # units of the step: what some bugs need to know


def _noted(drawn: Sequence[int]) -> NDArray[np.int64]:
    realised[:] = [len(drawn)]
    return np.array(drawn, dtype=np.int64)


def norm(values: Named) -> float:
    return float(np.sqrt(sum(float((v**2).sum()) for v in values.values())))


def joined(values: Named) -> F:
    return np.concatenate([values[name].ravel() for name in sorted(values)])


def alone_of(learner: Learner, examples: Examples) -> list[Named]:
    named = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    out = []
    for row in range(len(examples)):
        one = np.array([row])
        loss = cross_entropy(learner.logits(examples.batch(one)), examples.labels(one))
        grads = torch.autograd.grad(loss, list(named.values()))
        out.append({n: g.double().numpy() for n, g in zip(named, grads, strict=True)})
    return out
