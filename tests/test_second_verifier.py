"""A verifier written from the formats' page agrees with ours: on honest runs, forged ones, and ε.

Where the two differ, one of them has a fault, or the page.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from _pytest.mark.structures import ParameterSet

from fedmodel import config
from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.planning import plan_at
from fedmodel.accounting.spends import Adjacency, Spend
from fedmodel.job import Privacy, Train
from tests import second_verifier
from tests.fedmodel.audit.conftest import failures
from tests.fedmodel.audit.forged import GOLDEN, OLD, Forged
from tests.fedmodel.audit.zoo import TAMPERINGS, Tampering
from tests.jobs import make_job
from tests.second_verifier.formats import epsilon as second_epsilon
from tests.second_verifier.formats import steps_of
from tests.second_verifier.sites import noise_of_rounds

T = TypeVar("T")

RUNS = [*sorted(GOLDEN.iterdir(), reverse=True), *sorted(OLD.iterdir())]
# Out of its scope, each with why; the fewer, the more the page says.
OUT_OF_SCOPE: dict[str, str] = {}


def name_of(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def some(cases: Iterable[T], every: int) -> list[ParameterSet]:
    """Return cases of which one in so many is tried each time, and all by `make test-all`."""
    rest = pytest.mark.soak
    return [pytest.param(c, marks=rest if i % every else ()) for i, c in enumerate(cases)]


@pytest.mark.sample(1)
@pytest.mark.parametrize("path", some(RUNS, 2), ids=name_of)
def test_it_passes_what_ours_passes(path: Path) -> None:
    assert second_verifier.verify(path) == []
    assert failures(path) == {}


@pytest.mark.sample(1)
@pytest.mark.parametrize("path", some(RUNS, 6), ids=name_of)
def test_it_passes_what_is_signed_anew(path: Path, tmp_path: Path) -> None:
    forged = Forged(path.name, tmp_path / "run", path.parent)
    assert second_verifier.verify(forged.path) == []


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", some(TAMPERINGS, 8), ids=str)
def test_it_refuses_what_ours_refuses(case: Tampering, tmp_path: Path) -> None:
    forged = Forged(case.kind, tmp_path / "run")
    case.tamper(forged)
    assert set(failures(forged.path)) == {case.check}
    assert bool(second_verifier.verify(forged.path)) == (str(case) not in OUT_OF_SCOPE)


def test_what_is_out_of_its_scope_is_in_the_zoo() -> None:
    assert OUT_OF_SCOPE.keys() <= {str(case) for case in TAMPERINGS}


# -- ε -------------------------------------------------------------------------------------------

# Published and measured points of DP-SGD: rate, noise multiplier, steps, δ → ε by PLD, as
# dp_accounting computed it. The first two are those of TensorFlow Privacy's tutorial, the third is
# that of Abadi et al. 2016, arXiv 1607.00133; others are as large as a hospital.
PINS = [
    (256 / 60000, 1.1, 14062, 1e-5, 2.382),
    (256 / 60000, 0.7, 10546, 1e-5, 5.639),
    (0.01, 4.0, 10000, 1e-5, 0.947),
    (1024 / 67349, 0.6, 197, 1e-5, 5.900),
    (64 / 2000, 1.0, 300, 1e-4, 3.003),
    (0.1, 2.0, 500, 1e-3, 3.980),
    (1.0, 10.0, 100, 1e-5, 4.377),
    (0.05, 0.4, 2000, 1e-5, 183.2),
]
REPLACED = [
    (64 / 2000, 1.0, 300, 1e-4, 4.66),
    (256 / 60000, 1.1, 14062, 1e-5, 4.22),
    (0.1, 2.0, 500, 1e-3, 8.70),
]


def agree(spends: list[Spend], delta: float, adjacency: Adjacency) -> float:
    """Return an ε that both accountants come to."""
    entries = [
        {"rate": repr(s.rate), "noise_multiplier": repr(s.noise_multiplier), "steps": s.steps}
        for s in spends
    ]
    second = second_epsilon(steps_of(entries), delta, adjacency)
    ours = epsilon(spends, delta, "pld", adjacency)
    assert ours == pytest.approx(second, rel=1e-3)
    return second


@pytest.mark.sample(1)
@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "known"), PINS)
def test_a_known_epsilon(rate: float, noise: float, steps: int, delta: float, known: float) -> None:
    found = agree([Spend(rate, noise, steps)], delta, "add-remove")
    assert found == pytest.approx(known, abs=0.0006 if known < 100 else 0.06)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "known"), REPLACED)
def test_a_known_epsilon_where_a_unit_is_exchanged(
    rate: float, noise: float, steps: int, delta: float, known: float
) -> None:
    assert agree([Spend(rate, noise, steps)], delta, "replace") == pytest.approx(known, abs=0.006)


def schedule(seed: int) -> tuple[list[Spend], float, Adjacency]:
    """Return some rounds whose noise may decay, and perhaps an evaluation."""
    draw = random.Random(seed)
    rate, noise = draw.choice([1.0, draw.uniform(0.01, 0.5)]), draw.uniform(0.6, 6)
    decay, rounds = draw.choice([1.0, draw.uniform(0.5, 1.8)]), draw.randint(1, 8)
    spends = [
        Spend(rate, noise * decay ** (r / max(rounds - 1, 1)), draw.randint(1, 12))
        for r in range(rounds)
    ]
    if draw.random() < 0.5:
        spends.append(Spend(1.0, draw.uniform(3, 20), 1))
    adjacency: Adjacency = "replace" if draw.random() < 0.5 else "add-remove"
    return spends, 10 ** draw.uniform(-6, -3), adjacency


@pytest.mark.sample(2)
@pytest.mark.parametrize("seed", some(range(6, 56), 7))
def test_any_schedule_costs_the_same_by_both(seed: int) -> None:
    assert agree(*schedule(seed)) > 0


@pytest.mark.parametrize("clipping", ["flat", "adaptive"])
@pytest.mark.parametrize("decay", [0.5, 1.0, 1.8])
def test_the_noise_of_each_round_is_the_plans(
    clipping: Literal["flat", "adaptive"], decay: float
) -> None:
    privacy = Privacy(mechanism="dpsgd", rate=0.2, decay=decay, clipping=clipping)
    job = make_job(train=Train(rounds=4, steps=2), privacy=privacy)
    plan = plan_at(job, 1.25)
    noises = {r: plan.noise_at(r) for r in range(1, 5)}
    parts = [{"kind": "train", "noise_multiplier": repr(z)} for z in sorted(noises.values())]
    assert noise_of_rounds(config.to_mapping(job), parts) == pytest.approx(noises, rel=1e-12)
