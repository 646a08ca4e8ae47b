"""Stages of a head that starts from means: what a site sums in each, and that one row bounds it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmodel.errors import ProtocolError
from fedmodel.heads.frame import BIAS, Frame, HeadShape
from fedmodel.job import Job, Model, Performance, Privacy, Train
from fedmodel.seeds import Seed
from fedmodel.training import local, replay
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round, Start
from fedmodel.training.staged import opening_scale, site_train, staged
from tests.examples import examples as some
from tests.fedmodel.training.conftest import LABELS, NAMES, TEXTS
from tests.jobs import make_job

pytestmark = pytest.mark.long

PRIVATE = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-3, clip=0.5)
STAGES = {1: "mean", 2: "class-sums", 3: "steps"}


@pytest.fixture(scope="module")
def learner() -> Learner:
    model = Model(labels=NAMES, max_length=16, head_bias=True)
    return Learner(model, Train(method="head"), Seed(0), torch.device("cpu"))


def job(privacy: Privacy = PRIVATE, **train: Any) -> Job:
    values = {"method": "head", "start": "means", "rounds": 5, "steps": 1, "batch_size": 8}
    return make_job(
        model=Model(labels=NAMES, max_length=16, head_bias=True),
        train=Train(**{**values, **train}),
        privacy=privacy,
    )


def rows_of(learner: Learner, texts: Any = TEXTS, labels: Any = LABELS, **more: Any) -> Examples:
    return prepare(learner, texts, labels, NAMES, 16, **more)


def features(examples: Examples) -> np.ndarray:
    examples.run_frozen()
    found = examples.batch(np.arange(len(examples)))["features"].numpy().astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    return found


def a_head(learner: Learner) -> tuple[HeadShape, Frame, Any, np.ndarray, np.ndarray]:
    """A head of a frame, as a later round starts from one."""
    shape = HeadShape.of(learner.layout.total, len(NAMES))
    rng = np.random.default_rng(3)
    frame = Frame(rng.normal(size=shape.width) * 0.05, 1.7)
    rows, biases = rng.normal(size=(3, shape.width)) * 0.3, rng.normal(size=3)
    return shape, frame, frame.plain(shape, rows, biases), rows, biases


def contributions(
    learner: Learner, stage: str, x: np.ndarray, y: np.ndarray, head: Any
) -> np.ndarray:
    """What each row gives to a round's sum, before it is clipped: written down by hand."""
    shape, frame, _, rows, biases = head
    seen = x if stage == "mean" else (x - frame.centre) * frame.scale
    found = np.zeros((len(x), shape.classes * (shape.width + 1)))
    for i, (vector, label) in enumerate(zip(seen, y, strict=True)):
        if stage == "steps":
            logits = (rows - rows.mean(0)) @ vector / BIAS + biases - biases.mean()
            p = np.exp(logits - logits.max())
            weights = p / p.sum() - np.eye(3)[label]
        else:
            weights = -np.eye(3)[0 if stage == "mean" else label]
            weights = weights * opening_scale(PRIVATE)
        found[i] = shape.vector(weights[:, None] * vector, weights * BIAS)
    return found


@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("round_", STAGES)
def test_a_sum_is_of_what_its_stage_says(
    round_: int, engine: Any, learner: Learner, plan_of: Any
) -> None:
    examples = rows_of(learner)
    x, y = features(examples), np.array([NAMES.index(label) for label in LABELS])
    head = a_head(learner)
    vector = learner.initial if round_ == 1 else head[2]
    plan = plan_of(rate=1.0, rounds=5, steps=1, clip=0.5)
    performance = Performance(engine=engine, physical_batch=4)
    replay.prove_steps(learner, examples, performance)
    on = Round(performance=performance, number=round_)
    got = local.gradient(learner, examples, job(), vector, plan, on)
    each = contributions(learner, STAGES[round_], x, y, head)
    norms = np.linalg.norm(each, axis=1, keepdims=True)
    clipped = each * np.minimum(1, 0.5 / norms)
    # Clipping keeps a little below its norm, for rounding.
    np.testing.assert_allclose(got, clipped.sum(axis=0), rtol=3e-4, atol=3e-5)
    if STAGES[round_] == "mean":  # it is just within the bound, and fills it
        np.testing.assert_allclose(norms, 0.5, rtol=1e-5)
        shape = head[0]
        rows, biases = shape.parts(got)
        scale = -0.5 / math.hypot(1, BIAS)
        np.testing.assert_allclose(rows[0] / scale, x.sum(axis=0), rtol=3e-4, atol=1e-4)
        assert biases[0] / scale / BIAS == pytest.approx(len(x), rel=3e-4)
        assert not rows[1:].any()


rows = st.lists(
    st.tuples(st.integers(0, len(TEXTS) - 1), st.integers(0, 2)), min_size=1, max_size=6
)


@pytest.mark.parametrize("unit", ["record", "patient"])
@pytest.mark.parametrize("round_", STAGES)
def test_one_unit_more_changes_a_sum_by_the_clip_norm_at_most(
    round_: int, unit: Any, learner: Learner, plan_of: Any
) -> None:
    privacy = Privacy(mechanism="dpsgd", unit=unit, epsilon=3.0, delta=1e-3, clip=0.5)
    plan = plan_of(rate=1.0, rounds=5, steps=1, clip=0.5, unit=unit, rows_per_patient=8)
    performance, vector = Performance(physical_batch=64), a_head(learner)[2]
    reached: list[float] = []

    def summed(found: list[tuple[int, int, str]]) -> Any:
        texts, labels = [TEXTS[i] for i, _, _ in found], [NAMES[y] for _, y, _ in found]
        patients = [whose for _, _, whose in found] if unit == "patient" else None
        examples = rows_of(learner, texts, labels, patients=patients)
        replay.prove_steps(learner, examples, performance)
        start = learner.initial if round_ == 1 else vector
        on = Round(performance=performance, number=round_)
        return local.gradient(learner, examples, job(privacy), start, plan, on)

    @settings(
        max_examples=some(20),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows, rows)
    def check(others: Any, own: Any) -> None:
        rest = [(i, y, f"p{n}") for n, (i, y) in enumerate(others)]
        more = [(i, y, "new") for i, y in (own if unit == "patient" else own[:1])]
        apart = float(np.linalg.norm(summed([*rest, *more]) - summed(rest)))
        reached.append(apart)
        assert apart <= 0.5 * (1 + 1e-6)

    check()
    assert max(reached) > 0.25  # the bound isn't idle


def test_afterwards_a_network_is_as_any_other(learner: Learner) -> None:
    examples = rows_of(learner)
    examples.run_frozen()
    batch = examples.batch(np.arange(4))
    head = a_head(learner)[2]
    learner.load_vector(head)
    before = learner.logits(batch).detach().clone()
    with staged(learner, job(), 2, head):
        assert not torch.allclose(learner.logits(batch), before, atol=1e-3)
    assert learner.asked is None
    with pytest.raises(RuntimeError, match="in the midst"), staged(learner, job(), 2, head):
        raise RuntimeError("in the midst")
    assert learner.asked is None
    learner.load_vector(head)
    assert torch.equal(learner.logits(batch), before)


def test_a_round_within_a_round_is_refused(learner: Learner) -> None:
    with (
        staged(learner, job(), 1, learner.initial),
        pytest.raises(ProtocolError, match="another round of this network is under way"),
        staged(learner, job(), 1, learner.initial),
    ):
        pass
    assert learner.asked is None


def test_without_privacy_a_sites_rate_falls_in_equal_parts() -> None:
    plain = job(Privacy(), rounds=6, head_lr=8.0)
    assert [site_train(plain, r).head_lr for r in range(1, 7)] == [1, 1, 8, 6, 4, 2]
    assert {site_train(job(head_lr=8.0), r).head_lr for r in range(1, 6)} == {1}
    zero = job(Privacy(), start="zero", head_lr=8.0)
    assert site_train(zero, 3) == zero.train


def test_the_sums_of_an_opening_are_exact_without_privacy(learner: Learner) -> None:
    """Of all rows, however many a step takes, and once, however many steps a round has."""
    examples = rows_of(learner)
    x = features(examples)
    plain = job(Privacy(), steps=4, batch_size=3)
    start = Start(vector=learner.initial)
    on = Round(performance=Performance(physical_batch=5), number=1)
    result = local.train(learner, examples, plain, start, on, steps=4, plan=None, seed=Seed(1))
    found, biases = HeadShape.of(learner.layout.total, 3).parts(result.change)
    np.testing.assert_allclose(found[0], x.mean(axis=0), atol=1e-6)
    assert biases[0] == pytest.approx(BIAS, rel=1e-5)
    assert not found[1:].any()
    assert result.loss is None


def test_the_loss_that_is_told_is_the_tasks(learner: Learner) -> None:
    examples, head = rows_of(learner), a_head(learner)[2]
    examples.run_frozen()
    learner.load_vector(head)
    with torch.inference_mode():
        logits = learner.logits(examples.batch(np.arange(len(examples))))
    targets = examples.labels(np.arange(len(examples)))
    expected = float(torch.nn.functional.cross_entropy(logits, targets))
    plain = job(Privacy(), batch_size=len(examples))
    on = Round(performance=Performance(physical_batch=5), number=3)
    start = Start(vector=head)
    result = local.train(learner, examples, plain, start, on, steps=1, plan=None, seed=Seed(1))
    assert result.loss == pytest.approx(expected, rel=1e-4)
