"""The coordinator's steps on a head that starts from means."""

import math
from typing import Any

import numpy as np
import pytest

from fedmodel.accounting.planning import plan_of
from fedmodel.errors import RunFolderError
from fedmodel.heads.frame import BIAS, Frame, HeadShape
from fedmodel.heads.means import Centre, Sums, centred, head_of
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.training.staged import opening_scale
from fedmodel.update import Update
from server.head_optimizer import HeadOptimizer
from server.weighed import Weighed, weighs
from tests.jobs import make_job, summed

NAMES, WIDTH, SITES = ("a", "b", "c"), 30, 4
SHAPE = HeadShape(classes=3, width=WIDTH)
F = Any


def job(rounds: int = 8, **privacy: Any) -> Job:
    asked = {"mechanism": "dpsgd", "epsilon": 2.0, "delta": 1e-4, "rate": 1.0, "clip": 0.5}
    return make_job(
        model=Model(labels=NAMES, head_bias=True),
        train=Train(
            method="head", start="means", rounds=rounds, steps=1, batch_size=50, head_lr=20.0
        ),
        privacy=Privacy(**{**asked, **privacy}),
    )


def rows_of(site: int, count: int = 200) -> tuple[F, F]:
    """A site's vectors of length 1, nearly parallel to one another."""
    shared = np.random.default_rng(0)
    common, own = shared.normal(size=WIDTH) * 3, shared.normal(size=(3, WIDTH)) * 0.4
    rng = np.random.default_rng(100 + site)
    labels = rng.integers(0, 3, count)
    x = common + own[labels] + rng.normal(size=(count, WIDTH)) * 0.3
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


ROWS = [rows_of(site) for site in range(SITES)]


def site_gives(asked: Job, round_: int, vector: F, x: F, y: F, noise: F) -> F:
    """What a site gives in a round: a step at rate 1 on its noised, clipped sum, written anew."""
    stage, frame = asked.train.stage(round_), Frame.of(SHAPE, vector)
    seen = (x - frame.centre) * frame.scale
    rows, biases = frame.framed(SHAPE, vector)
    if stage == "steps":
        logits = seen @ rows.T / BIAS + biases
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights = p / p.sum(axis=1, keepdims=True) - np.eye(3)[y]
    else:
        weights = -np.eye(3)[y if stage == "class-sums" else np.zeros_like(y)]
        weights = weights * opening_scale(asked.privacy)
    clip = asked.privacy.clip
    sizes = np.linalg.norm(weights, axis=1) * np.hypot(np.linalg.norm(seen, axis=1), BIAS) + 1e-9
    weights = weights * np.minimum(1, clip / sizes)[:, None]
    total = SHAPE.vector(weights.T @ seen, BIAS * weights.sum(axis=0)) + noise
    return (-total / asked.train.batch_size).astype(np.float32)


def play(
    asked: Job, *, noisy: bool = True, seed: int = 0, lose: tuple[int, ...] = (), stop: Any = None
) -> F:
    plan, rng = plan_of(asked), np.random.default_rng(seed)
    optimizer = HeadOptimizer(asked, plan, None)
    vector = np.zeros(3 * (WIDTH + 1), np.float32)
    for round_ in range(1, asked.train.rounds + 1):
        gave = []
        for x, y in ROWS:
            std = plan.noise_std(round_) * noisy
            noise = rng.normal(0, std, vector.size)
            gave.append(site_gives(asked, round_, vector, x, y, noise))
        if round_ in lose:
            continue
        if weighs(asked, round_):
            together = Weighed(asked)
            for each in gave:
                together.add(Update.of(each))
            mean = together.result().vector
        else:
            mean = np.mean(gave, axis=0, dtype=np.float32)
        vector = optimizer.step(round_, vector, mean, len(gave))
        if round_ == stop:
            kept = optimizer.state()
            optimizer = HeadOptimizer(asked, plan, None)
            optimizer.restore(kept)
    return vector


def accuracy(vector: F) -> float:
    rows, biases = SHAPE.parts(vector)
    x, y = (np.concatenate([part[i] for part in ROWS]) for i in (0, 1))
    return float(((x @ rows.T + biases).argmax(axis=1) == y).mean())


@pytest.mark.parametrize("rounds", [1, 2, 3, 8])
def test_it_learns_vectors_that_are_nearly_parallel(rounds: int) -> None:
    assert np.linalg.norm(np.mean([x.mean(axis=0) for x, _ in ROWS], axis=0)) > 0.98
    found = [accuracy(play(job(rounds), seed=seed)) for seed in range(5)]
    assert np.mean(found) > (0.8 if rounds != 1 else 0.6), found


def test_in_the_limit_of_no_noise_it_is_all_but_right() -> None:
    assert accuracy(play(job(epsilon=50.0), noisy=False)) > 0.95


def test_a_run_that_is_continued_anywhere_ends_where_it_would_have() -> None:
    whole = play(job())
    for stop in range(1, 8):
        np.testing.assert_array_equal(play(job(), stop=stop), whole)


@pytest.mark.parametrize("lose", [(1,), (2,), (1, 2), (3,), (1, 2, 3)])
def test_a_round_that_is_lost_leaves_a_run_that_learns(lose: tuple[int, ...]) -> None:
    found = play(job(12, epsilon=8.0), lose=lose)
    assert np.isfinite(found).all()
    # Without centre nothing much can be learned of such vectors; with it, all but as before.
    assert accuracy(found) > (0.3 if 1 in lose and 2 in lose else 0.75)


def test_steps_are_smaller_where_their_noise_is_larger() -> None:
    rates = []
    for epsilon in (0.1, 1.0, 3.0, 50.0):
        asked = job(epsilon=epsilon)
        optimizer = HeadOptimizer(asked, plan_of(asked), None)
        optimizer.restore({n: np.array([v]) for n, v in OURS.items()})
        rates.append(optimizer.rate(3, SITES))
    assert sorted(rates) == rates
    assert rates[-1] == 20.0  # train.head_lr
    # All steps' noise together moves a logit by a third at most.
    asked = job(epsilon=1.0)
    std = plan_of(asked).noise_std(3) * math.sqrt(SITES) / (200 * SITES)
    assert rates[1] * std * math.sqrt(6) == pytest.approx(0.33)


OURS = {"error": 1e-4, "spread": 0.3, "rows": 200.0}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"error": np.array([0.0])},
        {n: np.array([]) for n in OURS},
        {n: np.array([v]) for n, v in {**OURS, "rows": math.nan}.items()},
        {n: np.array([v]) for n, v in {**OURS, "spread": -1.0}.items()},
    ],
)
def test_another_state_is_refused(state: dict[str, Any]) -> None:
    optimizer = HeadOptimizer(job(), plan_of(job()), None)
    with pytest.raises(RunFolderError, match="what a head's means have left"):
        optimizer.restore(state)


def test_with_shared_noise_a_sum_is_of_more_than_its_noise_is_accounted_for() -> None:
    """The noise that is taken for granted is that of the shares that are in a sum."""
    plan = plan_of(job())
    alone = HeadOptimizer(job(), plan, None)
    assert alone._noise(3, 4) == pytest.approx(plan.noise_std(3) * 2)


def test_only_an_openings_own_noise_is_weighed() -> None:
    assert [weighs(job(), r) for r in (1, 2, 3)] == [True, True, False]
    plain = make_job(
        model=Model(labels=NAMES, head_bias=True),
        train=Train(method="head", start="means", steps=3),
    )
    assert not any(weighs(plain, r) for r in (1, 2, 3))


def test_a_step_is_the_rate_times_the_gradient_of_the_mean_loss() -> None:
    """In the logits' own terms: rows that read s·(x − m) move by −rate · gradient, biases don't."""
    asked, rng = job(epsilon=8.0), np.random.default_rng(1)
    optimizer = HeadOptimizer(asked, plan_of(asked), None)
    optimizer.restore({n: np.array([v]) for n, v in OURS.items()})
    frame = Frame(rng.normal(size=WIDTH) * 0.1, 3.0)
    before = frame.plain(SHAPE, rng.normal(size=(3, WIDTH)), rng.normal(size=3))
    gradient = rng.normal(size=(3, WIDTH)) * 0.01
    gradient -= gradient.mean(axis=0)  # as a softmax's has it
    units = OURS["rows"] * SITES
    gave = SHAPE.vector(-gradient, rng.normal(size=3)) * np.float32(units / (50 * SITES))
    after = optimizer.step(3, before, gave, SITES)
    (old, _), (new, _) = SHAPE.parts(before), SHAPE.parts(after)
    moved = (new - old) / frame.scale
    np.testing.assert_allclose(moved, -optimizer.rate(3, SITES) * gradient, atol=1e-5)
    assert Frame.of(SHAPE, after).scale == pytest.approx(3.0, rel=1e-5)
    np.testing.assert_allclose(
        Frame.of(SHAPE, after).framed(SHAPE, after)[1],
        Frame.of(SHAPE, before).framed(SHAPE, before)[1],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("rounds", "stages"),
    [
        (1, ["class-sums"]),
        (2, ["mean", "class-sums"]),
        (4, ["mean", "class-sums", "steps", "steps"]),
    ],
)
def test_stages_follow_from_the_job(rounds: int, stages: list[str]) -> None:
    train = job(rounds).train
    assert [train.stage(r) for r in range(1, rounds + 1)] == stages
    assert Train(rounds=rounds).stage(1) == "steps"


def test_an_opening_takes_the_noise_for_what_it_is() -> None:
    """σ·C of each of four sites, seen through the scale at which a row fills C."""
    asked = job(epsilon=1.0)
    plan, optimizer = plan_of(asked), HeadOptimizer(asked, plan_of(asked), None)
    vector = np.zeros(3 * (WIDTH + 1), np.float32)
    through = 0.5 / math.hypot(1, 0.25)
    for round_ in (1, 2):
        gave = [site_gives(asked, round_, vector, x, y, np.zeros(vector.size)) for x, y in ROWS]
        mean: F = np.mean(gave, axis=0, dtype=np.float32)
        total: F = np.sum(gave, axis=0, dtype=np.float64) * 50 / through
        sums = Sums.of(
            SHAPE,
            total,
            plan.noise_multiplier * (1, math.sqrt(6 / 34))[round_ - 1] * 0.5 * 2 / through,
        )
        if round_ == 1:
            found = centred(sums)
            expected = found.frame.plain(SHAPE, np.zeros((3, WIDTH)), np.zeros(3))
        else:
            frame = Frame.of(SHAPE, vector)
            before = Centre(frame=frame, error=found.error, spread=found.spread)
            centre, rows, biases = head_of(sums, before, None)
            expected = centre.frame.plain(SHAPE, rows, biases)
        vector = optimizer.step(round_, vector, mean, SITES)
        np.testing.assert_allclose(vector, expected, atol=1e-4)
        assert optimizer.state()["rows"][0] == pytest.approx(200, rel=1e-3)


def test_sites_that_are_alike_weigh_alike() -> None:
    update = np.abs(np.random.default_rng(2).normal(size=3 * (WIDTH + 1))).astype(np.float32)
    together = Weighed(job())
    for _ in range(3):
        together.add(Update.of(update))
    np.testing.assert_allclose(together.result().vector, update, rtol=1e-5)


def test_a_sum_with_shared_noise_is_taken_as_it_is() -> None:
    shared = make_job(
        model=Model(labels=NAMES, head_bias=True),
        train=Train(method="head", start="means", rounds=5, steps=1),
        privacy=Privacy(mechanism="distributed", epsilon=2.0, delta=1e-4, rate=1.0),
        secagg=summed(5),
    )
    assert not any(weighs(shared, r) for r in (1, 2, 3))


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.03, 0.01])
def test_of_noise_alone_comes_a_head_that_sites_take(epsilon: float, lost: int) -> None:
    """Two sites of hardly a row, one round lost or none: their own promise, however small ε is."""
    asked = job(epsilon=epsilon)
    shape, plan = HeadShape(classes=3, width=384), plan_of(asked)
    for seed in range(30):
        optimizer, rng = HeadOptimizer(asked, plan, None), np.random.default_rng(seed)
        vector = np.zeros(3 * 385, np.float32)
        for round_ in range(1, 5):
            if round_ == lost:
                continue
            noise = rng.normal(0, plan.noise_std(round_) * math.sqrt(2), vector.size)
            mean = (noise / (plan.expected_batch * 2)).astype(np.float32)
            vector = optimizer.step(round_, vector, mean, 2)
            assert np.abs(vector).max() < 1000
            known = Frame.of(shape, vector)  # which a site would refuse where it is none
            assert 0.1 < known.scale < 150
