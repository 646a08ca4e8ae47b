"""DP-SGD: the clipped sum against a loop over single examples, and the noise on it."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from fedmodel.accounting.claims import Spend
from fedmodel.accounting.plan import Plan
from fedmodel.errors import PrivacyError
from fedmodel.gradients.clippers import Flat
from fedmodel.job import Job, Privacy
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner

F = NDArray[np.float64]
METHODS = ["head", "lora", "full"]
ENGINES = ["fast", "hooks", "ghost"]


class Noise:
    """Stands for the noise: keeps each step's clipped sum and adds noise, or nothing."""

    def __init__(self, adds: bool) -> None:
        self.adds, self.real = adds, noise.add_gaussian_
        self.totals: list[list[torch.Tensor]] = []
        self.stds: list[float] = []

    def __call__(self, entropy: Entropy, total: Any, std: float) -> None:
        if isinstance(total, torch.Tensor):  # else it is adaptive clipping's count
            self.totals[-1].append(total.clone())
            self.stds.append(std)
        if self.adds:
            self.real(entropy, total, std)

    def sums(self) -> list[F]:
        """Return each step's clipped sum, in the optimiser's order."""
        return [
            torch.cat([t.flatten() for t in step]).double().numpy() for step in self.totals if step
        ]


def _watch(monkeypatch: pytest.MonkeyPatch, adds: bool) -> Noise:
    made, step = Noise(adds), dpsgd.PrivateOptimizer.add_noise

    def add_noise(self: dpsgd.PrivateOptimizer) -> None:
        made.totals.append([])
        step(self)

    monkeypatch.setattr(noise, "add_gaussian_", made)
    monkeypatch.setattr(dpsgd.PrivateOptimizer, "add_noise", add_noise)
    return made


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Replace the noise by zero."""
    return _watch(monkeypatch, adds=False)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Noise:
    """Watch the noise."""
    return _watch(monkeypatch, adds=True)


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that decides which units every step takes."""

    def decide(rows: list[int]) -> None:
        chosen = np.array(rows, dtype=np.int64)
        monkeypatch.setattr(sampling, "poisson", lambda *_: chosen)

    return decide


def steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    vector: Any,
    job: Job,
    count: int = 1,
    entropy: Entropy | None = None,
    physical: int = 64,
    **more: Any,
) -> tuple[Any, dpsgd.Private]:
    learner.load_vector(vector)
    private = dpsgd.private_steps(
        learner,
        examples,
        plan,
        job.privacy,
        optim.make(learner.module, job.train),
        steps=count,
        physical_batch=physical,
        entropy=entropy or Entropy(),
        **({"round_": 1} | more),
    )
    return learner.flatten() - vector, private


def lone_gradients(learner: Learner, examples: Examples, vector: Any, job: Job) -> F:
    """Return each example's gradient by plain autograd, in the optimiser's order."""
    learner.load_vector(vector)
    optimizer = optim.make(learner.module.train(), job.train)
    params = [p for group in optimizer.param_groups for p in group["params"]]
    out = []
    for i in range(len(examples)):
        row = np.array([i])
        loss = cross_entropy(learner.logits(examples.batch(row)), examples.labels(row))
        grads = torch.autograd.grad(loss, params)
        out.append(torch.cat([g.flatten() for g in grads]).double().numpy())
    return np.stack(out)


def lengths_of(gradients: F) -> F:
    return np.asarray(np.sqrt((gradients**2).sum(axis=1)))


# -- the clipped sum -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("physical", [4, 64])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_clipped_sum_equals_a_loop_over_single_examples(
    method: str,
    physical: int,
    engine: Any,
    silent: Noise,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method), job_of(Privacy(engine=engine), method=method)
    examples, vector = examples_of(learner), start_of(learner)
    alone = lone_gradients(learner, examples, vector, job)
    clip = float(np.median(lengths_of(alone)))
    steps(learner, examples, plan_of(clip=clip), vector, job, physical=physical)
    factors = np.minimum(1, clip / lengths_of(alone))
    assert 0 < (factors < 1).sum() < len(factors)
    expected = (factors[:, None] * alone).sum(axis=0)
    np.testing.assert_allclose(silent.sums()[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_no_single_contribution_is_longer_than_the_clip_norm(
    method: str,
    precision: str,
    silent: Noise,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of(method, precision), job_of(method=method)
    examples, vector = examples_of(learner), start_of(learner)
    for row in range(0, len(examples), 3):
        draw([row])
        steps(learner, examples, plan_of(clip=0.013), vector, job)
    found = lengths_of(np.stack(silent.sums()))
    assert (found <= 0.013).all()
    assert found.max() > 0.013 * (1 - 1e-3)


def test_a_poisoned_row_leaves_the_others_contributions_as_they_were(
    silent: Noise,
    draw: Any,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner, job = learner_of("head"), job_of()
    examples, vector = examples_of(learner), start_of(learner)
    draw([0, 1, 2, 4])
    steps(learner, examples, plan_of(), vector, job)
    features = examples._features.clone()
    features[3] = float("inf")
    examples._features = features
    draw([0, 1, 2, 3, 4])
    change, private = steps(learner, examples, plan_of(), vector, job, physical=2)
    assert private.dropped == 1
    one, two = silent.sums()
    np.testing.assert_allclose(two, one, atol=1e-6)
    assert np.isfinite(change).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_noise_and_clip_a_private_step_is_a_plain_one(
    method: str,
    optimizer: str,
    silent: Noise,
    learner_of: Any,
    examples_of: Any,
    start_of: Any,
    job_of: Any,
    plan_of: Any,
) -> None:
    learner = learner_of(method)
    rates = {"lr": 0.1, "head_lr": 0.4} if optimizer == "sgd" else {"lr": 1e-3, "head_lr": 1e-2}
    job = job_of(method=method, optimizer=optimizer, momentum=0.5, **rates)
    examples, vector = examples_of(learner), start_of(learner)
    plan = plan_of(clip=1e6, expected_batch=5)
    change, _ = steps(learner, examples, plan, vector, job, count=2, physical=5)

    learner.load_vector(vector)
    plain = optim.make(learner.module.train(), job.train)
    everyone = np.arange(len(examples))
    for _ in range(2):
        plain.zero_grad()
        logits = learner.logits(examples.batch(everyone))
        loss = cross_entropy(logits, examples.labels(everyone), reduction="sum") / 5
        torch.autograd.backward(loss)
        plain.step()
    expected = learner.flatten() - vector
    learner.module.zero_grad(set_to_none=True)
    named, wanted = learner.layout.named(change), learner.layout.named(expected)
    for name, value in wanted.items():
        if optimizer == "adamw" and name.endswith("key.bias"):
            continue  # its true gradient is zero, and AdamW turns the rounding into full steps
        scale = 1e-4 * np.abs(expected).max() + 2e-3 * np.abs(value).max()
        if optimizer == "adamw":  # where a gradient is tiny, its rounding's sign is a full step
            agree = np.abs(named[name] - value) <= scale
            assert agree.mean() > 0.995, name
        else:
            np.testing.assert_allclose(named[name], value, rtol=1e-3, atol=scale, err_msg=name)


def test_gradient_checkpointing_and_dropouts_change_nothing_of_the_bound(
    silent: Noise, draw: Any, texts: list[str], job_of: Any, plan_of: Any
) -> None:
    from fedmodel.job import Model, Train
    from fedmodel.seeds import Seed
    from fedmodel.training.examples import prepare

    train = Train(method="full", gradient_checkpointing=True)
    model = Model(labels=("a", "b"), max_length=16, dropout=0.1)
    learner = Learner(model, train, Seed(0), torch.device("cpu"))
    examples = prepare(learner, texts, ["a", "b"] * 7, ("a", "b"), 16)
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    vector = (learner.initial + nudge).astype(np.float32)
    for row in (0, 3):
        draw([row])
        steps(learner, examples, plan_of(clip=0.013), vector, job_of(method="full"))
    found = lengths_of(np.stack(silent.sums()))
    assert (found <= 0.013).all()
    assert found.max() > 0.013 * (1 - 1e-3)


# -- the noise -----------------------------------------------------------------------------------


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
        steps(learner, examples, plan, learner.initial, job_of(), round_=round_)
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
    assert private == dpsgd.Private(dropped=0, clip=0.5)


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


# -- what is left behind -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_are_gone_afterwards(
    engine: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner, job = learner_of("lora"), job_of(Privacy(engine=engine), method="lora")
    own = [set(m.__dict__) for m in learner.module.modules()]
    steps(learner, examples_of(learner), plan_of(), learner.initial, job)
    assert [set(m.__dict__) for m in learner.module.modules()] == own
    for p in learner.module.parameters():
        for name in ("grad", "grad_sample", "summed_grad", "_norm_sample"):
            assert getattr(p, name, None) is None


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
