"""DP-SGD: the noise on the clipped sum, and who is asked before a step."""

from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.accounting.claims import Spend
from fedmodel.errors import PrivacyError
from fedmodel.gradients.clippers import Flat
from fedmodel.job import Privacy
from fedmodel.mechanisms import sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd
from tests.fedmodel.training.steps import (
    Noise,
    steps,
    watch,
)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Replace the noise by zero."""
    return watch(monkeypatch, adds=False)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Watch the noise."""
    return watch(monkeypatch, adds=True)


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize("rows", [[], [0], list(range(14))])
@pytest.mark.parametrize("clipping", ["flat", "per-layer", "adaptive"])
def test_the_noise_has_the_promised_size_whatever_the_batch(
    rows: list[int],
    clipping: Any,
    draw: Any,
    fake: Entropy,
    watched: Noise,
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of("full")
    job = job_of(Privacy(clipping=clipping), method="full", lr=1.0, head_lr=1.0)
    examples, vector = examples_of(learner), np.zeros(learner.layout.total, np.float32)
    plan = plan_of(clip=0.3, noise_multiplier=2.5, expected_batch=7, clipping=clipping)
    std = plan.noise_std(1)
    # Adaptive clipping pays for its count with a little more noise.
    assert std == pytest.approx(0.75, rel=0.02)
    assert (std > 0.75) == (clipping == "adaptive")
    draw(rows)
    change, _ = steps(learner, examples, plan, vector, job, entropy=fake)
    assert set(watched.stds) == {std}
    clipped = float(np.linalg.norm(watched.sums()[0]))
    assert clipped <= 0.3 * len(rows) + 1e-6
    drawn = change.astype(np.float64) * 7
    # 5 standard errors of a standard deviation, plus what the clipped sum itself can add.
    level = 5 / np.sqrt(2 * drawn.size) + (clipped / std) ** 2 / drawn.size
    assert drawn.std() == pytest.approx(std, rel=level)
    assert abs(drawn.mean()) < 5 * std / np.sqrt(drawn.size) + clipped / np.sqrt(drawn.size)


def test_a_schedules_noise_follows_the_round(
    draw: Any, watched: Noise, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, examples = learner_of("head"), examples_of(learner_of("head"))
    plan = plan_of(clip=0.3, noise_multiplier=2.0, decay=0.25, rounds=3)
    draw([1, 2])
    for round_ in (1, 2, 3):
        steps(learner, examples, plan, learner.initial, job_of(), number=round_)
    np.testing.assert_allclose(watched.stds, [0.6, 0.3, 0.15])


def test_an_empty_batch_is_a_step_of_noise_alone(
    draw: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, taken = learner_of("head"), []
    told: list[Spend] = []
    draw([])
    plan = plan_of(rate=0.01)
    change, private = steps(
        learner,
        examples_of(learner),
        plan,
        learner.initial,
        job_of(),
        count=3,
        before_step=told.append,
        on_step=lambda: taken.append(1),
    )
    assert len(taken) == 3
    assert told == [Spend(0.01, 1.25, 1)] * 3
    assert (change != 0).mean() > 0.98  # the noise's grid has a zero, hit once in 2,500 times
    assert private == dpsgd.Private(dropped=0, clips=(0.5, 0.5, 0.5))


def test_two_runs_never_share_noise(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    examples = examples_of(learner)
    one, two = (
        steps(learner, examples, plan_of(), learner.initial, job_of(), count=2)[0] for _ in "ab"
    )
    assert (one == two).mean() < 0.05
    correlation = np.corrcoef(one, two)[0, 1]
    assert correlation < 0.9


def test_steps_of_one_run_draw_fresh_noise(
    draw: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, seen = learner_of("head"), []
    draw([])
    steps(
        learner,
        examples_of(learner),
        plan_of(),
        learner.initial,
        job_of(),
        count=3,
        on_step=lambda: seen.append(learner.flatten()),
    )
    drawn = np.diff(np.stack([learner.initial, *seen]), axis=0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (drawn[i] == drawn[j]).mean() < 0.05


def test_the_sample_comes_from_the_plans_rate_and_the_sites_entropy(
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    plan_of: Any,
    fake: Entropy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, asked = learner_of("head"), []

    def remember(entropy: Entropy, rows: int, rate: float) -> Any:
        asked.append((entropy, rows, rate))
        return np.arange(0)

    monkeypatch.setattr(sampling, "poisson", remember)
    plan, job = plan_of(rate=0.25, unit="patient"), job_of(Privacy(unit="patient"))
    for patients, units in ((None, 14), (True, 4)):
        examples = examples_of(learner, patients=patients)
        steps(learner, examples, plan, learner.initial, job, count=2, entropy=fake)
        assert asked == [(fake, units, 0.25)] * 2
        asked.clear()


def test_who_may_refuse_a_step_is_asked_before_it(
    draw: Any, silent: Noise, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    draw([0])

    def refuse(spend: Spend) -> None:
        raise PrivacyError("the budget is spent")

    with pytest.raises(PrivacyError, match="the budget is spent"):
        steps(
            learner,
            examples_of(learner),
            plan_of(),
            learner.initial,
            job_of(),
            before_step=refuse,
        )
    assert silent.sums() == []
    assert (learner.flatten() == learner.initial).all()


def test_a_parameter_that_no_unit_reached_gets_noise(plan_of: Any, fake: Entropy) -> None:
    p = torch.nn.Parameter(torch.zeros(3, 1000))
    plan = plan_of(clip=0.5, noise_multiplier=2.0, expected_batch=4)
    private = dpsgd.PrivateOptimizer(torch.optim.SGD([p], lr=1.0), plan, 1, Flat(0.5), fake)
    private.step()
    assert float(p.detach().std()) == pytest.approx(2.0 * 0.5 / 4, rel=0.1)


def test_the_noise_follows_a_clip_norm_that_moves(plan_of: Any, fake: Entropy) -> None:
    # Trap 2: a norm that changes in one of the two places only.
    p, clipper = torch.nn.Parameter(torch.zeros(1)), Flat(0.5)
    plan = plan_of(clip=0.5, noise_multiplier=2.0)
    private = dpsgd.PrivateOptimizer(torch.optim.SGD([p]), plan, 1, clipper, fake)
    assert private.noise_std == 1.0
    clipper.clip = 0.05
    assert private.noise_std == pytest.approx(0.1)
