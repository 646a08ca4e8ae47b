"""Neighbouring datasets: one patient (or record) more changes the clipped sum by at most C."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmodel.accounting.plan import Plan
from fedmodel.gradients import clippers
from fedmodel.gradients.clippers import Adaptive, Clipper
from fedmodel.gradients.engines import make_engine
from fedmodel.job import Performance, Privacy, Train
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.round import Round
from tests.examples import examples
from tests.fedmodel.gradients.shapes import any_shape

Sum = dict[str, torch.Tensor]


class Fixed(Entropy):
    """The same choice of a patient's rows whoever else is there."""

    def bytes(self, count: int) -> bytes:
        return bytes((37 * i * i + 11 * i) % 251 for i in range(count))


def clipped_sum(
    learner: Learner,
    examples: Examples,
    engine_name: str,
    clipper: Clipper,
    drawn: list[int],
    limit: int,
    physical: int,
) -> Sum:
    """Return a step's clipped sum, through the steps that training takes."""
    engine = make_engine(engine_name, learner.trained)
    for p in learner.module.parameters():
        p.summed_grad = None  # type: ignore[attr-defined]
    with engine.attached():
        units = np.array(drawn, dtype=np.int64)
        for batch in examples.units.batches(units, limit, Fixed(), any_shape(physical)):
            dpsgd.accumulate(learner, examples, batch, engine, clipper)
    out: Sum = {}
    for name, p in learner.module.named_parameters():
        if p.requires_grad:
            total = getattr(p, "summed_grad", None)
            out[name] = torch.zeros_like(p) if total is None else total
            p.summed_grad = None  # type: ignore[attr-defined]
    learner.module.zero_grad(set_to_none=True)
    return out


def distance(one: Sum, other: Sum) -> float:
    squares = [(one[n].double() - other[n].double()).square().sum() for n in one]
    return float(torch.stack(squares).sum().sqrt())


def clipper_of(privacy: Privacy, plan: Plan, learner: Learner) -> Clipper:
    return clippers.make_clipper(privacy, plan, learner.trained, Entropy(), None)


METHODS = ["head", "lora", "full"]
WAYS = [
    pytest.param(unit, clipping, method, marks=() if (i + j + k) % 3 == 0 else pytest.mark.slow)
    for i, unit in enumerate(["record", "patient"])
    for j, clipping in enumerate(["flat", "per-layer", "adaptive"])
    for k, method in enumerate(METHODS)
]


# Every unit with every clipping, and each with one of the methods in turns; the others are slow.
@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(("unit", "clipping", "method"), WAYS)
@settings(
    max_examples=max(4, examples(8)),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_one_unit_more_changes_the_clipped_sum_by_at_most_c(
    method: str,
    clipping: Any,
    unit: Any,
    data: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    examples = examples_of(learner, patients=True if unit == "patient" else None)
    learner.load_vector(start_of(learner))
    learner.module.train()
    clip = data.draw(st.sampled_from([1e-4, 0.05, 2.0, 50.0]))
    limit = data.draw(st.sampled_from([1, 2, 5, 8]))
    physical = data.draw(st.sampled_from([1, 3, 64]))
    engines = ["fast", "hooks"]
    engine = data.draw(st.sampled_from(engines))
    privacy = Privacy(unit=unit, clipping=clipping, rows_per_patient=limit)
    plan = plan_of(clip=clip, clipping=clipping, unit=unit, rows_per_patient=limit)
    everyone = range(len(examples.units))
    drawn = data.draw(st.lists(st.sampled_from(everyone), unique=True, min_size=1))
    sums, counts = [], []
    for chosen in (drawn, drawn[1:]):
        clipper = clipper_of(privacy, plan, learner)
        sums.append(
            clipped_sum(learner, examples, engine, clipper, sorted(chosen), limit, physical)
        )
        counts.append(clipper._count if isinstance(clipper, Adaptive) else 0.0)
    # Sums are float32: what others add is rounded too, by a few units in the last place.
    rounding = 3e-6 * distance(sums[0], {n: torch.zeros_like(t) for n, t in sums[0].items()})
    assert distance(*sums) <= clip * (1 + 1e-5) + rounding
    assert abs(counts[0] - counts[1]) == (0.5 if clipping == "adaptive" else 0.0)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("rows", [40, pytest.param(7, marks=pytest.mark.slow), 1])
@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_a_patient_with_many_rows_counts_as_much_as_one_with_one(
    rows: int, engine: Any, method: str, learner_of: Any, start_of: Any, plan_of: Any
) -> None:
    learner = learner_of(method)
    learner.load_vector(start_of(learner))
    learner.module.train()
    text = "blood pressure is stable after surgery and the wound is clean"
    texts = [*["no acute distress", "cough", "history of diabetes"], *[text] * rows]
    labels = ["a", "b", "c", *["c"] * rows]
    patients = ["p", "q", "p", *["many"] * rows]
    examples = prepare(learner, texts, labels, ("a", "b", "c"), 16, patients=patients)
    privacy = Privacy(unit="patient")
    plan, clip = plan_of(clip=1e-3, unit="patient"), 1e-3
    for limit in (1, 8, 64):
        sums = [
            clipped_sum(
                learner, examples, engine, clipper_of(privacy, plan, learner), drawn, limit, 4
            )
            for drawn in ([0, 1, 2], [0, 1])
        ]
        # So small a norm clips everybody: the patient's contribution is C long, whatever the rows.
        assert clip * (1 - 1e-3) <= distance(*sums) <= clip * (1 + 1e-5)


@pytest.mark.long
def test_a_patients_contribution_is_the_clipped_mean_of_its_rows(
    learner_of: Any, examples_of: Any, start_of: Any, plan_of: Any, alone_of: Any, norms_of: Any
) -> None:
    learner = learner_of("lora")
    learner.load_vector(start_of(learner))
    learner.module.train()
    examples = examples_of(learner, patients=True)
    rows_of = list(examples.units._rows or [])

    def losses(rows: torch.Tensor) -> torch.Tensor:
        numbers = rows.numpy()
        return example_losses(learner, examples.batch(numbers), examples.labels(numbers))

    alone = alone_of(learner.module, losses, torch.arange(len(examples)))
    means = [{n: sum(alone[i][n] for i in rows) / len(rows) for n in alone[0]} for rows in rows_of]
    norms = norms_of(means)
    clip = float(norms.median())
    plan, privacy = plan_of(clip=clip, unit="patient"), Privacy(unit="patient")
    for physical in (1, 4, 64):
        clipper = clipper_of(privacy, plan, learner)
        found = clipped_sum(learner, examples, "fast", clipper, [0, 1, 2, 3], 64, physical)
        for name, value in found.items():
            expected = sum(
                min(1.0, (1 - 1e-4) * clip / float(norm)) * mean[name]
                for norm, mean in zip(norms, means, strict=True)
            )
            torch.testing.assert_close(value.float(), expected, rtol=1e-4, atol=1e-6, msg=name)


def test_neighbours_through_the_whole_step(
    learner_of: Any, examples_of: Any, start_of: Any, plan_of: Any, monkeypatch: Any
) -> None:
    # Everybody drawn, no noise, plain SGD with rate 1: the parameters move by the sum over B.
    monkeypatch.setattr(noise, "add_gaussian_", lambda *_: None)
    learner = learner_of("lora")
    vector = start_of(learner)
    privacy = Privacy(unit="patient", rows_per_patient=3)
    plan = plan_of(clip=0.01, unit="patient", rows_per_patient=3, expected_batch=4)
    moved = []
    examples = examples_of(learner, patients=True)
    for drawn in ([0, 1, 2, 3], [1, 2, 3]):  # patient 0 has half of all rows
        monkeypatch.setattr(sampling, "poisson", lambda *_, d=drawn: np.array(d))
        learner.load_vector(vector)
        train = Train(method="lora", lr=1.0, head_lr=1.0)
        dpsgd.private_steps(
            learner,
            examples,
            plan,
            privacy,
            optim.make(learner.module, train),
            Round(entropy=Fixed(), performance=Performance(physical_batch=4)),
            steps=1,
        )
        moved.append(learner.flatten().astype(np.float64))
    assert float(np.linalg.norm(moved[0] - moved[1])) <= 0.01 / 4 * (1 + 1e-3)
    assert float(np.linalg.norm(moved[0] - moved[1])) >= 0.01 / 4 * (1 - 1e-2)
