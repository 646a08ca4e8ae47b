"""What the training tests share: a tiny network per method, and a dozen short texts."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.job import Job, Model, Train
from fedmodel.privacy import Plan
from fedmodel.seeds import Seed
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner

NAMES = ("a", "b", "c")
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
    "allergic to penicillin",
    "follow up in two weeks with the clinic",
    "short of breath at night",
    "routine check",
)
LABELS = tuple(NAMES[(i * i + i // 3) % 3] for i in range(len(TEXTS)))


@functools.cache
def _learner(method: Any, precision: Any) -> Learner:
    train = Train(method=method, precision=precision)
    return Learner(Model(labels=NAMES, max_length=16), train, Seed(0), torch.device("cpu"))


@pytest.fixture(autouse=True)
def _unproven() -> Iterator[None]:
    yield
    for method in ("head", "lora", "ffa", "full"):
        _learner(method, "float32").preflight_passed = False


@pytest.fixture
def learner_of() -> Callable[..., Learner]:
    """Return a maker of learners; the same method gives the same object in every test."""

    def make(method: str = "head", precision: str = "float32") -> Learner:
        return _learner(method, precision)

    return make


@pytest.fixture
def examples_of() -> Callable[..., Examples]:
    """Return a maker of a learner's examples: all texts, or the first few."""

    def make(learner: Learner, count: int = len(TEXTS)) -> Examples:
        return prepare(learner, TEXTS[:count], LABELS[:count], NAMES, 16)

    return make


@pytest.fixture
def start_of() -> Callable[[Learner], Any]:
    """Return a maker of starting parameters where neither the head nor B is zero."""

    def make(learner: Learner) -> Any:
        nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
        return (learner.initial + nudge).astype(np.float32)

    return make


@pytest.fixture
def job_of() -> Callable[..., Job]:
    """Return a maker of jobs from keys of ``train``."""

    def make(**train: Any) -> Job:
        return Job(model=Model(labels=NAMES, max_length=16), train=Train(**train))

    return make


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Return a maker of plans; nothing is calibrated."""

    def make(**change: Any) -> Plan:
        values: dict[str, Any] = {
            "unit": "record",
            "adjacency": "add-remove",
            "mechanism": "dpsgd",
            "clip": 0.5,
            "noise_multiplier": 1.25,
            "rate": 1.0,
            "steps": 10,
            "delta": 1e-5,
            "epsilon": 8.0,
            "expected_batch": 4,
        }
        return Plan(**(values | change))

    return make


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)
