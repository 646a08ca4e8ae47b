"""What the training tests share: a tiny network per method, a dozen short texts, and an oracle."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedmodel.accounting.plan import Plan
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Seed
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner
from tests.jobs import make_job

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
# Four patients, one of them with half of all rows.
PATIENTS = ("p", "q", "p", "r", "p", "p", "s", "q", "p", "r", "p", "p", "s", "q")

Gradients = dict[str, Tensor]


@functools.cache
def _learner(method: Any, precision: Any) -> Learner:
    train = Train(method=method, precision=precision)
    return Learner(Model(labels=NAMES, max_length=16), train, Seed(0), torch.device("cpu"))


@pytest.fixture(autouse=True)
def _unproven() -> Iterator[None]:
    yield
    for method in ("head", "lora", "ffa", "full"):
        for precision in ("float32", "bf16"):
            _learner(method, precision).preflights_passed.clear()


@pytest.fixture
def learner_of() -> Callable[..., Learner]:
    """Return a maker of learners; the same method gives the same object in every test."""

    def make(method: str = "head", precision: str = "float32") -> Learner:
        return _learner(method, precision)

    return make


@pytest.fixture
def examples_of() -> Callable[..., Examples]:
    """Return a maker of a learner's examples: all texts, or the first few; patients if asked."""

    def make(learner: Learner, count: int = len(TEXTS), patients: Any = None) -> Examples:
        whose = PATIENTS if patients is True else patients
        some = None if whose is None else whose[:count]
        return prepare(learner, TEXTS[:count], LABELS[:count], NAMES, 16, patients=some)

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

    def make(privacy: Privacy | None = None, **train: Any) -> Job:
        return make_job(
            model=Model(labels=NAMES, max_length=16),
            train=Train(**train),
            privacy=privacy or Privacy(),
        )

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
            "rounds": 3,
            "steps": 10,
            "delta": 1e-5,
            "epsilon": 8.0,
            "expected_batch": 4,
            "rows_per_patient": 8,
        }
        return Plan(**(values | change))

    return make


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], None]:
    """Return a function that decides which units are drawn."""

    def decide(units: list[int]) -> None:
        chosen = np.array(units, dtype=np.int64)
        monkeypatch.setattr(sampling, "poisson", lambda *_: chosen)

    return decide


@pytest.fixture
def texts() -> list[str]:
    return list(TEXTS)


# -- the oracle: plain autograd, one row at a time -----------------------------------------------


def _gradients(module: nn.Module, loss: Tensor) -> Gradients:
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    return {n: torch.zeros_like(p) if g is None else g.detach() for (n, p), g in pairs}


@pytest.fixture
def alone_of() -> Callable[..., list[Gradients]]:
    """Return the oracle: each unit's gradient of the sum of its rows' losses, by plain autograd.

    ``losses`` gets row numbers and returns a loss for each. Every row goes through the module
    alone, unless ``together``: then once all rows at a time, as dropout needs (it draws its masks
    for a whole batch), and only the backward pass is a unit's own.
    """

    def make(
        module: nn.Module,
        losses: Callable[[Tensor], Tensor],
        unit: Tensor,
        together: bool = False,
    ) -> list[Gradients]:
        rows = torch.arange(len(unit))
        whole = losses(rows) if together else None
        out: list[Gradients] = []
        for u in range(int(unit.max()) + 1):
            own = rows[unit == u]
            if whole is not None:
                out.append(_gradients(module, whole[own].sum()))
            else:
                parts = [_gradients(module, losses(own[i : i + 1]).sum()) for i in range(len(own))]
                out.append({n: sum(part[n] for part in parts) for n in parts[0]})  # type: ignore[misc]
        return out

    return make


@pytest.fixture
def norms_of() -> Callable[[list[Gradients]], Tensor]:
    """Return the L2 norms of gradients, float64."""

    def norms(gradients: list[Gradients]) -> Tensor:
        squares: list[Any] = [sum(g.double().square().sum() for g in x.values()) for x in gradients]
        return torch.stack(squares).sqrt()

    return norms
