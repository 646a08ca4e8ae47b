"""Bugs that would break the promise, planted one at a time: each is noticed.

A bug replaces one function or method. What notices it is a guard, which raises on every private
run, or a check: a function below that passes on the real code and not on the bug's.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmodel.accounting.guard import StepGuard
from fedmodel.accounting.plan import Plan, make_plan
from fedmodel.accounting.remaining import Remaining
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, PrivacyError
from fedmodel.gradients.clippers import Adaptive, Flat
from fedmodel.gradients.fastclip import FastClip, Groups, engine, parts
from fedmodel.gradients.fastclip.notes import Notes
from fedmodel.gradients.units import Batch, Units
from fedmodel.job import Job, Model, Privacy, Train
from fedmodel.mechanisms import clipping, noise, sampling
from fedmodel.models import adapters
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import dpsgd, local, optim, preflight, tasks
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner

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
        **more: Any,
    ) -> Named:
        """Take a step over each draw (without any: one, over who is sampled).

        Returns:
            The noised sum of the clipped gradients, as the change of the weights tells it.
        """
        examples, learner, left = examples or self.rows, self.learner, iter(draws)
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
                **({"round_": 1, "steps": len(draws) or 1} | more),
                physical_batch=physical,
                entropy=entropy or self.entropy,
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


def _alone(learner: Learner, examples: Examples) -> list[Named]:
    named = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    out = []
    for row in range(len(examples)):
        one = np.array([row])
        loss = cross_entropy(learner.logits(examples.batch(one)), examples.labels(one))
        grads = torch.autograd.grad(loss, list(named.values()))
        out.append({n: g.double().numpy() for n, g in zip(named, grads, strict=True)})
    return out


@pytest.fixture(scope="module")
def built() -> World:
    learner = Learner(MODEL, TRAIN, Seed(0), torch.device("cpu"))
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    start = (learner.initial + nudge).astype(np.float32)
    learner.load_vector(start)
    rows = prepare(learner, TEXTS, LABELS, MODEL.labels, 16)
    patients = prepare(learner, TEXTS, LABELS, MODEL.labels, 16, patients=PATIENTS)
    learner.module.train()
    return World(learner, rows, patients, start, _alone(learner, rows), Entropy())


@pytest.fixture
def world(built: World, fake: Entropy) -> Iterator[World]:
    yield dataclasses.replace(built, entropy=fake)
    built.learner.preflights_passed.clear()
    for p in built.learner.module.parameters():  # what a refused step left behind
        p.grad = p.summed_grad = None  # type: ignore[attr-defined]


# -- the checks ----------------------------------------------------------------------------------

Check = Callable[[World], None]


def whose() -> list[list[int]]:
    """Return each patient's rows."""
    return [[i for i, p in enumerate(PATIENTS) if p == q] for q in dict.fromkeys(PATIENTS)]


def the_clipped_sum_is_the_oracles(world: World) -> None:
    records = [[i] for i in EVERYONE]
    for examples, units in ((world.rows, records), (world.patients, whose())):
        means = [world.clipped([rows], np.inf) for rows in units]
        clip = float(np.median([norm(mean) for mean in means]))
        expected = joined(world.clipped(units, clip))
        for physical in (3, 64):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(noise, "add_gaussian_", lambda *_: None)
                plan = dataclasses.replace(PLAN, clip=clip)
                drawn = range(len(units))
                found = joined(world.step(drawn, plan=plan, examples=examples, physical=physical))
            error = np.abs(found - expected).max() / np.abs(expected).max()
            assert error <= 1e-3, "another clipped sum"


def _assert_noise(found: Named, std: float) -> None:
    for name, value in {**found, "all": joined(found)}.items():
        level = 5 / np.sqrt(2 * value.size)  # five standard errors
        assert abs(value.std() / std - 1) < level, f"another noise: {name}"
        assert abs(value.mean() / std) < 5 / np.sqrt(value.size), f"another noise: {name}"


def the_noise_is_the_plans(world: World) -> None:
    for drawn in ((), (0,), (1, 2, 4, 5, 6), EVERYONE):
        for round_, std in ((1, 1.25 * 0.5), (3, 2.5 * 0.5)):
            found = world.step(drawn, round_=round_)
            clean = world.clipped([[i] for i in drawn], PLAN.clip)
            _assert_noise({n: found[n] - clean[n] for n in found}, std)


def the_noise_follows_an_adaptive_norm(world: World) -> None:
    plan = dataclasses.replace(PLAN, clipping="adaptive")
    seen: list[Any] = [world.start]
    world.step(
        *((), ()),
        plan=plan,
        privacy=Privacy(clipping="adaptive", clip_rate=1.0),
        clip=0.125,
        on_step=lambda: seen.append(world.learner.flatten()),
    )
    stds = [(before - after).std() * 4 for before, after in pairwise(seen)]
    assert abs(stds[0] / plan.noise_std(1, 0.125) - 1) < 0.06, "another noise"
    assert abs(stds[1] / stds[0] - 1) > 0.06, "another noise"  # the norm has moved


def every_step_takes_noise(world: World) -> None:
    seen: list[Any] = []

    def remember() -> None:
        seen.append(world.learner.flatten())

    world.step(EVERYONE, (), (3,), on_step=remember)
    assert len(seen) == 3
    change = world.learner.layout.named(seen[1] - seen[0])
    _assert_noise({n: -4.0 * v.astype(np.float64) for n, v in change.items()}, 1.25 * 0.5)


def two_runs_have_other_noise(world: World) -> None:
    one, two = (joined(world.step(EVERYONE, entropy=Entropy())) for _ in range(2))
    assert (one == two).mean() < 0.05, "the same noise"


def two_steps_have_other_noise(world: World) -> None:
    seen: list[Any] = [world.start]

    def remember() -> None:
        seen.append(world.learner.flatten())

    world.step((), (), entropy=Entropy(), on_step=remember)
    one, two = np.diff(np.stack(seen), axis=0)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.2, "the same noise"


def parameters_have_other_noise(world: World) -> None:
    found = world.step((), entropy=Entropy())
    parts = [v.ravel()[:256] for v in found.values() if v.size >= 256]
    together = np.corrcoef(np.stack(parts)) - np.eye(len(parts))
    assert np.abs(together).max() < 0.5, "the same noise"


def two_runs_have_other_counts(world: World) -> None:
    # So large a batch that no share is below 0 or above 1: these are cut, and look alike.
    plan, norms = dataclasses.replace(PLAN, clipping="adaptive", expected_batch=1000), []
    for _ in range(2):
        clipper = Adaptive(plan, Entropy(), clip=0.5, quantile=0.5, rate=0.2)
        clipper.end_step()
        norms.append(clipper.clip)
    assert norms[0] != norms[1], "the same noise"


def two_runs_have_other_samples(world: World) -> None:
    plan = dataclasses.replace(PLAN, rows_per_patient=2)
    real = Units.batches
    for examples, draws in ((world.rows, []), (world.patients, [(0, 1, 2, 3)] * 12)):
        runs: list[list[list[int]]] = []

        def watch(self: Units, *args: Any, runs: Any = runs) -> Iterator[Batch]:
            batches = list(real(self, *args))
            runs[-1].append(sorted(int(row) for batch in batches for row in batch.rows))
            return iter(batches)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Units, "batches", watch)
            for _ in range(2):
                runs.append([])
                world.step(*draws, examples=examples, plan=plan, entropy=Entropy(), steps=12)
        assert runs[0] != runs[1], "the same sample"
        assert len({tuple(rows) for rows in runs[0]}) > 1, "the same sample"


def the_sample_is_poissons(world: World) -> None:
    sizes = [len(sampling.poisson(world.entropy, 400, 0.25)) for _ in range(100)]
    assert abs(np.mean(sizes) - 100) < 5 * np.sqrt(75 / 100), "another sample"
    assert abs(np.var(sizes) / 75 - 1) < 5 * np.sqrt(2 / 100), "another sample"
    few = [len(sampling.poisson(world.entropy, 4, 0.25)) for _ in range(100)]
    assert abs(np.mean(np.equal(few, 0)) - 0.75**4) < 0.25, "another sample"


def dropout_is_nobodys_to_know(world: World) -> None:
    # A mask that another row's presence hands on is a row's own only if nobody knows the masks.
    job, masks = _job(steps=1), []
    for _ in range(2):
        dropped: list[Tensor] = []
        real = world.learner.logits

        def forget(batch: Any, real: Any = real, dropped: Any = dropped) -> Tensor:
            logits: Tensor = nn.functional.dropout(real(batch), 0.5)
            dropped.append(logits.detach() == 0)
            return logits

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.learner, "logits", forget)
            patch.setattr(sampling, "poisson", lambda *_: np.array(EVERYONE))
            _train(world, job)
        masks.append(torch.cat(dropped))
    assert not torch.equal(*masks), "the same dropout"


def a_broken_row_adds_nothing(world: World) -> None:
    # Its factor is 0, but 0 times infinity isn't.
    real, words = tasks.example_losses, world.rows._tokens
    (unique,) = {int(i) for i in words[2]}.difference(*words[:2], *words[3:])

    def losses(learner: Learner, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
        found = real(learner, batch, labels)
        broken = (batch["input_ids"] == unique).any(1)
        return found * torch.ones_like(found).masked_fill(broken, torch.inf)

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpsgd, "example_losses", losses)
        for draws in ((0, 1, 3), (0, 1, 2, 3)):
            change = world.step(draws, entropy=type(world.entropy)())
            found.append(joined(change))
    difference = np.abs(found[0] - found[1]).max()
    assert difference < 2 * 2.0**-10 * 1.25 * 0.5, "the broken row is in the sum"


def _train(world: World, job: Job) -> None:
    local.train(
        world.learner,
        world.rows,
        job,
        vector=world.start,
        steps=job.train.steps,
        plan=PLAN,
        seed=Seed(3),
        entropy=world.entropy,
    )


def _job(**train: Any) -> Job:
    return Job(
        model=MODEL,
        train=dataclasses.replace(TRAIN, **train),
        privacy=Privacy(mechanism="dpsgd", rate=0.5),
    )


def a_round_is_let_pass(world: World) -> None:
    _train(world, _job(steps=2))


def an_empty_step_is_let_pass(world: World) -> None:
    world.step(())


def a_step_over_patients_is_let_pass(world: World) -> None:
    world.step((0, 1, 2, 3), examples=world.patients, physical=3)


def the_preflight_is_passed(world: World) -> None:
    for examples in (world.rows, world.patients):
        world.learner.preflights_passed.clear()
        preflight.preflight(world.learner, examples, "fast")


def the_preflight_of_a_layer_used_twice_is_passed(world: World) -> None:
    layer: Any = dict(world.learner.module.named_modules())[TWICE]
    real, taken = world.learner.logits, list[Tensor]()

    def twice(batch: dict[str, Tensor]) -> Tensor:
        taken.clear()
        hook = layer.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
        logits = real(batch)
        hook.remove()
        more: Tensor = 0.01 * layer(taken[0])[:, 0, :3]  # the first token is never padding
        return logits + more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.learner, "logits", twice)
        the_preflight_is_passed(world)


class Tied(nn.Module):
    """Reads a table of words at the beginning, and compares with it in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 5), nn.Linear(5, 9, bias=False)
        self.inner = nn.Linear(5, 5)
        values = torch.linspace(-1, 1, 45).view(9, 5).sin()
        self.words.weight = self.out.weight = nn.Parameter(values)
        with torch.no_grad():
            self.inner.weight.copy_(torch.linspace(-1, 1, 25).view(5, 5).cos())

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.out(self.inner(self.words(ids)).tanh())
        return logits


def a_tied_weight_counts_with_all_it_does(world: World) -> None:
    net, ids = Tied(), torch.tensor([[1, 2, 1], [3, 4, 0], [5, 5, 5]])

    def losses(rows: Tensor) -> Tensor:
        logits = net(rows)[:, :-1].flatten(0, 1)
        each = cross_entropy(logits, rows[:, 1:].flatten(), reduction="none")
        return each.view(len(rows), -1).sum(1)

    params = list(net.parameters())
    alone = [torch.autograd.grad(losses(ids[i : i + 1]).sum(), params) for i in range(3)]
    clip, factors = FastClip(net), torch.tensor([0.5, 0.0, 1.0])
    with clip.attached():
        clip.begin(3)
        clip.backward(losses(ids), Groups.records(3, torch.device("cpu")))
        squares = clip.squares()
        clip.add(factors)
    for place, p in enumerate(params):
        norms = torch.stack([grads[place].double().norm() for grads in alone])
        assert torch.allclose(squares[p].sqrt(), norms, rtol=1e-3), "another norm"
        total = torch.stack([f * g[place] for f, g in zip(factors, alone, strict=True)]).sum(0)
        found: Any = p.summed_grad  # type: ignore[attr-defined]
        assert torch.allclose(found.float(), total, atol=1e-5), "another clipped sum"


_PLANNED: list[Plan] = []


def planned() -> Plan:
    """Return a plan whose ε is just what its steps need."""
    if not _PLANNED:
        privacy = Privacy(mechanism="dpsgd", epsilon=3.0, delta=1e-4, clip=0.5, rate=0.3)
        _PLANNED.append(make_plan(privacy, batch_size=4, rounds=3, steps=2, evaluate=False))
    return _PLANNED[0]


def _play(world: World, guarded: bool, budgeted: bool) -> int:
    """Play one round after the other, and the last one for ever; return the steps taken."""
    plan, spent, taken = planned(), list[Spend](), 0
    for round_ in (1, 2, 3, 3, 3):
        steps = Remaining(plan, spent).affordable(round_, plan.steps) if budgeted else plan.steps
        if steps == 0:
            break
        guard = StepGuard(plan, spent)
        told = guard.before_step if guarded else lambda spend: None
        world.step(*[(0,)] * steps, plan=plan, round_=round_, before_step=told)
        spent.append(plan.spend(round_, steps))
        taken += steps
    return taken


def the_budget_ends(world: World) -> None:
    assert _play(world, guarded=False, budgeted=True) == 6, "more steps than planned"


def the_guard_ends_it(world: World) -> None:
    with pytest.raises(BudgetError, match="isn't covered by the plan"):
        _play(world, guarded=True, budgeted=False)


def a_site_plays_no_more_than_planned(world: World) -> None:
    assert _play(world, guarded=True, budgeted=True) == 6, "more steps than planned"


CHECKS: list[Check] = [
    a_broken_row_adds_nothing,
    a_round_is_let_pass,
    a_site_plays_no_more_than_planned,
    a_step_over_patients_is_let_pass,
    a_tied_weight_counts_with_all_it_does,
    an_empty_step_is_let_pass,
    dropout_is_nobodys_to_know,
    every_step_takes_noise,
    parameters_have_other_noise,
    the_budget_ends,
    the_clipped_sum_is_the_oracles,
    the_noise_follows_an_adaptive_norm,
    the_noise_is_the_plans,
    the_preflight_is_passed,
    the_preflight_of_a_layer_used_twice_is_passed,
    the_sample_is_poissons,
    two_runs_have_other_counts,
    two_runs_have_other_noise,
    two_runs_have_other_samples,
    two_steps_have_other_noise,
]


@pytest.mark.parametrize("check", [*CHECKS, the_guard_ends_it], ids=lambda check: check.__name__)
def test_the_real_code_passes(check: Check, world: World) -> None:
    check(world)


# -- the bugs ------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch, World], None]


@dataclass(frozen=True)
class Bug:
    """What is planted, what notices it, and what it says then."""

    plant: Plant
    check: Check
    says: str
    guard: bool


BUGS: list[Bug] = []


def guarded(says: str, check: Check) -> Callable[[Plant], Plant]:
    """Mark a bug that a guard refuses during ``check``."""

    def mark(plant: Plant) -> Plant:
        BUGS.append(Bug(plant, check, says, guard=True))
        return plant

    return mark


def checked(says: str, check: Check) -> Callable[[Plant], Plant]:
    """Mark a bug that ``check`` doesn't pass on."""

    def mark(plant: Plant) -> Plant:
        BUGS.append(Bug(plant, check, says, guard=False))
        return plant

    return mark


# Noise of another size.

NOISE = "another noise"
SUM = "another clipped sum"
SAME = "the same noise"


@checked(NOISE, the_noise_is_the_plans)
def noise_grows_with_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda *a: real(*a) * max(realised[0], 1) / 4)


@checked(NOISE, the_noise_is_the_plans)
def noise_is_that_of_a_mean(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, *a: real(self, *a) / self.expected_batch)


@checked(NOISE, the_noise_is_the_plans)
def noise_shrinks_with_the_dataset(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda *a: real(*a) * 4 / len(world.rows))


@checked(NOISE, the_noise_is_the_plans)
def the_sum_is_divided_by_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        for p in self.params:
            p.grad /= max(realised[0], 1)

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


@checked(NOISE, the_noise_is_the_plans)
def noise_isnt_over_the_clip_norm(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Plan, "noise_std", lambda self, *a: self.gradient_noise_multiplier(a[0]))


@checked(NOISE, the_noise_is_the_plans)
def noise_of_the_first_round_for_ever(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, round_, clip: real(self, 1, clip))


@checked(NOISE, the_noise_follows_an_adaptive_norm)
def noise_of_the_first_clip_norm(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Plan.noise_std
    patch.setattr(Plan, "noise_std", lambda self, round_, clip: real(self, round_))


@checked(NOISE, the_noise_is_the_plans)
def one_parameter_without_noise(patch: pytest.MonkeyPatch, world: World) -> None:
    real, last = noise.add_gaussian_, world.learner.layout.shapes[-1]

    def add(entropy: Entropy, total: Any, std: float) -> None:
        if tuple(total.shape) != tuple(last):
            real(entropy, total, std)

    patch.setattr(noise, "add_gaussian_", add)


@guarded("no step changed it", a_round_is_let_pass)
def one_parameter_without_a_gradient(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.scale_grad

    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        real(self)
        self.params[-1].grad = None

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


@guarded("no step changed it", an_empty_step_is_let_pass)
@checked(NOISE, every_step_takes_noise)
def an_empty_batch_is_skipped(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.step

    def step(self: dpsgd.PrivateOptimizer) -> None:
        if any(p.summed_grad is not None for p in self.params):
            real(self)

    patch.setattr(dpsgd.PrivateOptimizer, "step", step)


@checked(NOISE, every_step_takes_noise)
def an_empty_batch_takes_no_noise(patch: pytest.MonkeyPatch, world: World) -> None:
    real = noise.add_gaussian_

    def add(entropy: Entropy, total: Any, std: float) -> None:
        if bool(total.any()):
            real(entropy, total, std)

    patch.setattr(noise, "add_gaussian_", add)


# Noise and samples that somebody can know.


class Seeded(Entropy):
    """The same bytes whenever it is made."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def bytes(self, count: int) -> bytes:
        return self._rng.bytes(count)


@checked(SAME, two_runs_have_other_noise)
def noise_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = dpsgd.PrivateOptimizer.__init__

    def init(self: dpsgd.PrivateOptimizer, *args: Any) -> None:
        real(self, *args[:-1], Seeded())

    patch.setattr(dpsgd.PrivateOptimizer, "__init__", init)


@checked(SAME, two_steps_have_other_noise)
@checked(SAME, parameters_have_other_noise)
def noise_from_a_generator_that_is_made_anew(patch: pytest.MonkeyPatch, world: World) -> None:
    def add(entropy: Entropy, total: Tensor, std: float) -> None:
        total += std * torch.randn(total.numel(), generator=Seed(0).torch()).view(total.shape)

    patch.setattr(noise, "add_gaussian_", add)


@checked(SAME, two_runs_have_other_noise)
@checked(SAME, two_runs_have_other_counts)
@checked("the same sample", two_runs_have_other_samples)
@checked("the same dropout", dropout_is_nobodys_to_know)
def entropy_without_entropy(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Entropy, "bytes", lambda self, count: bytes(count))
    patch.setattr(type(world.entropy), "bytes", lambda self, count: bytes(count))


@checked(SAME, two_runs_have_other_counts)
def a_seeded_count(patch: pytest.MonkeyPatch, world: World) -> None:
    real = noise.add_gaussian
    patch.setattr(noise, "add_gaussian", lambda _, *rest: real(Seeded(), *rest))


@checked("the same sample", two_runs_have_other_samples)
def a_sample_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.poisson
    patch.setattr(sampling, "poisson", lambda _, *rest: real(Seeded(), *rest))


@checked("the same sample", two_runs_have_other_samples)
def a_patients_rows_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.choose
    patch.setattr(sampling, "choose", lambda _, *rest: real(Seeded(), *rest))


@checked("another sample", the_sample_is_poissons)
def a_sample_of_a_fixed_size(patch: pytest.MonkeyPatch, world: World) -> None:
    def shuffled(entropy: Entropy, rows: int, rate: float) -> NDArray[np.int64]:
        return sampling.choose(entropy, np.arange(rows), max(1, round(rate * rows)))

    patch.setattr(sampling, "poisson", shuffled)


@checked("another sample", the_sample_is_poissons)
def a_sample_is_never_empty(patch: pytest.MonkeyPatch, world: World) -> None:
    real = sampling.poisson
    first = np.zeros(1, dtype=np.int64)
    patch.setattr(sampling, "poisson", lambda *a: drawn if len(drawn := real(*a)) else first)


@checked("the same dropout", dropout_is_nobodys_to_know)
def dropout_from_a_seed(patch: pytest.MonkeyPatch, world: World) -> None:
    real = local._seed_dropout
    patch.setattr(local, "_seed_dropout", lambda _, device: real(Seed(3).value, device))


# Contributions that aren't bounded, or bounded twice.


@checked(SUM, the_clipped_sum_is_the_oracles)
def clipping_after_averaging(patch: pytest.MonkeyPatch, world: World) -> None:
    def accumulate(
        learner: Learner, examples: Examples, batch: Batch, clip: Any, clipper: Any
    ) -> None:
        one = Groups(torch.zeros(len(batch.rows), dtype=torch.int64))
        clip.begin(len(batch.rows))
        losses = tasks.example_losses(
            learner, examples.batch(batch.rows), examples.labels(batch.rows)
        )
        clip.backward(losses / len(losses), one)
        clip.add(clipper.factors(clip.squares()) * batch.count)

    patch.setattr(dpsgd, "_accumulate", accumulate)


@checked(SUM, the_clipped_sum_is_the_oracles)
def one_factor_for_the_whole_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = Flat.factors
    patch.setattr(Flat, "factors", lambda *a: torch.full_like(f := real(*a), float(f.mean())))


@checked(SUM, the_clipped_sum_is_the_oracles)
def no_clipping(patch: pytest.MonkeyPatch, world: World) -> None:
    real: Any = Flat.factors
    patch.setattr(Flat, "factors", lambda *a: torch.ones_like(real(*a)))


def _shorten(params: Iterable[Any], clip: float) -> None:
    sums = [p.summed_grad for p in params if p.summed_grad is not None]
    length = torch.stack([s.norm() for s in sums]).norm()
    for s in sums:
        s *= min(1.0, clip / float(length))


@checked(SUM, the_clipped_sum_is_the_oracles)
def the_sum_is_clipped_after_every_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd._accumulate

    def accumulate(learner: Learner, *rest: Any) -> None:
        real(learner, *rest)
        _shorten([p for p in learner.module.parameters() if p.requires_grad], rest[-1].clip)

    patch.setattr(dpsgd, "_accumulate", accumulate)


@checked(SUM, the_clipped_sum_is_the_oracles)
def the_clipped_sum_is_clipped_again(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.add_noise

    def add_noise(self: dpsgd.PrivateOptimizer) -> None:
        _shorten(self.params, self.max_grad_norm)
        real(self)

    patch.setattr(dpsgd.PrivateOptimizer, "add_noise", add_noise)


@checked(SUM, the_clipped_sum_is_the_oracles)
def factors_are_applied_twice(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.add
    patch.setattr(FastClip, "add", lambda self, factors: real(self, factors.square()))


@checked(SUM, the_clipped_sum_is_the_oracles)
def a_batch_replaces_the_one_before(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.begin

    def begin(self: FastClip, rows: int) -> None:
        real(self, rows)
        for p in self.parameters:
            p.summed_grad = None  # type: ignore[attr-defined]

    patch.setattr(FastClip, "begin", begin)


@guarded("the norm of a row's gradient is wrong", the_preflight_is_passed)
@checked(SUM, the_clipped_sum_is_the_oracles)
def a_norm_without_one_parameter(patch: pytest.MonkeyPatch, world: World) -> None:
    real = FastClip.squares

    def squares(self: FastClip) -> dict[nn.Parameter, Tensor]:
        found = real(self)
        found.pop(next(p for p in found if p.shape == (3, 128)))
        return found

    patch.setattr(FastClip, "squares", squares)


@guarded("is wrong for this model", the_preflight_of_a_layer_used_twice_is_passed)
@checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weight_counts_once(patch: pytest.MonkeyPatch, world: World) -> None:
    def note(self: Notes, parameter: nn.Parameter, part: Any) -> None:
        self.parts.setdefault(parameter, [part])

    patch.setattr(Notes, "note", note)


@guarded("is wrong for this model", the_preflight_of_a_layer_used_twice_is_passed)
@checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weights_last_use_counts(patch: pytest.MonkeyPatch, world: World) -> None:
    def note(self: Notes, parameter: nn.Parameter, part: Any) -> None:
        self.parts[parameter] = [part]

    patch.setattr(Notes, "note", note)


@guarded("the norm of a row's gradient is wrong", the_preflight_of_a_layer_used_twice_is_passed)
@checked("another norm", a_tied_weight_counts_with_all_it_does)
def a_tied_weights_uses_are_squared_alone(patch: pytest.MonkeyPatch, world: World) -> None:
    real = parts.squares

    def squares(parameter: nn.Parameter, noted: list[Any], grams: Any) -> Tensor:
        return torch.stack([real(parameter, [part], grams) for part in noted]).sum(0)

    patch.setattr(engine, "squares", squares)


@guarded("aren't finite", a_broken_row_adds_nothing)
def a_broken_row_gets_a_factor(patch: pytest.MonkeyPatch, world: World) -> None:
    def factors(norms: F, clip: float) -> F:
        return np.asarray(np.minimum(1.0, clip / norms))

    patch.setattr(clipping, "factors", factors)


@guarded("aren't finite", a_broken_row_adds_nothing)
def a_broken_row_is_multiplied_by_zero(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Groups.spread
    patch.setattr(
        Groups, "spread", lambda *a: v + 1e-45 if (v := real(*a)).is_floating_point() else v
    )


@guarded("is wrong for this model", the_preflight_is_passed)
def losses_over_the_realised_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none") / len(labels)

    patch.setitem(tasks.TASK_LOSSES, MODEL.task, loss)


@guarded("a row's loss changes when another row", the_preflight_is_passed)
def the_batchs_mean_for_every_row(patch: pytest.MonkeyPatch, world: World) -> None:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels).expand(len(labels))

    patch.setitem(tasks.TASK_LOSSES, MODEL.task, loss)


@checked(SUM, the_clipped_sum_is_the_oracles)
def steps_divide_losses_by_the_batch(patch: pytest.MonkeyPatch, world: World) -> None:
    real = tasks.example_losses
    patch.setattr(dpsgd, "example_losses", lambda *a: (found := real(*a)) / len(found))


@guarded("numbered from 0", a_step_over_patients_is_let_pass)
def the_loss_of_a_unit_is_a_row(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Groups.__init__
    patch.setattr(Groups, "__init__", lambda self, unit: real(self, torch.arange(len(unit))))


# Units that aren't whole.

COUNT = "another number of units than were sampled"


def _batches(patch: pytest.MonkeyPatch, change: Callable[[list[Batch]], list[Batch]]) -> None:
    real = Units.batches
    patch.setattr(Units, "batches", lambda *a: iter(change(list(real(*a)))))


@guarded(COUNT, a_step_over_patients_is_let_pass)
def the_last_batch_is_dropped(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: found[:-1])


@guarded(COUNT, a_step_over_patients_is_let_pass)
def a_batch_is_repeated(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: [*found, found[0]])


@checked(SUM, the_clipped_sum_is_the_oracles)
def a_unit_stands_in_for_another(patch: pytest.MonkeyPatch, world: World) -> None:
    def change(found: list[Batch]) -> list[Batch]:
        return [*found[:-1], dataclasses.replace(found[-1], rows=found[-1].rows[::-1] * 0)]

    _batches(patch, change)


def _halves(batch: Batch) -> list[Batch]:
    middle = len(batch.rows) // 2
    parts = [(batch.rows[s], batch.unit[s]) for s in (slice(middle), slice(middle, None))]
    return [
        Batch(rows, unit - unit[0], len(set(unit.tolist()))) for rows, unit in parts if len(rows)
    ]


@guarded(COUNT, a_step_over_patients_is_let_pass)
def a_patient_is_split_over_two_batches(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(patch, lambda found: [part for batch in found for part in _halves(batch)])


@guarded("numbered from 0", a_step_over_patients_is_let_pass)
def a_split_patients_second_half_isnt_counted(patch: pytest.MonkeyPatch, world: World) -> None:
    def change(found: list[Batch]) -> list[Batch]:
        first, second = _halves(found[-1])
        return [*found[:-1], first, dataclasses.replace(second, count=second.count - 1)]

    _batches(patch, change)


@guarded(COUNT, a_step_over_patients_is_let_pass)
def every_row_of_a_patient_is_a_unit(patch: pytest.MonkeyPatch, world: World) -> None:
    _batches(
        patch, lambda found: [Batch(b.rows, np.arange(len(b.rows)), len(b.rows)) for b in found]
    )


@checked(SUM, the_clipped_sum_is_the_oracles)
def a_batch_is_counted_but_not_added(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd._accumulate

    def accumulate(learner: Learner, examples: Examples, batch: Batch, *rest: Any) -> None:
        if batch.count != 3:
            real(learner, examples, batch, *rest)

    patch.setattr(dpsgd, "_accumulate", accumulate)


# Weights that move, or don't.

HOLDS = "expected the optimiser to hold each of"


@guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_is_made_before_the_adapters(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups
    patch.setattr(adapters, "parameter_groups", lambda module: (real(module)[0], []))


@guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_holds_what_was_replaced(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups

    def groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        head, rest = real(module)
        return head, [nn.Parameter(p.detach().clone()) for p in rest]

    patch.setattr(adapters, "parameter_groups", groups)


@guarded(HOLDS, a_round_is_let_pass)
def the_optimiser_holds_a_frozen_weight(patch: pytest.MonkeyPatch, world: World) -> None:
    real = adapters.parameter_groups

    def groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        head, rest = real(module)
        return head, [*rest, next(p for p in module.parameters() if not p.requires_grad)]

    patch.setattr(adapters, "parameter_groups", groups)


def _after_a_batch(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    real = FastClip.add

    def add(self: FastClip, *args: Any, **kwargs: Any) -> None:
        real(self, *args, **kwargs)
        with torch.no_grad():
            change()

    patch.setattr(FastClip, "add", add)


@guarded("isn't trained, but changed", a_round_is_let_pass)
def a_frozen_weight_is_written(patch: pytest.MonkeyPatch, world: World) -> None:
    frozen = next(p for p in world.learner.module.parameters() if not p.requires_grad)
    _after_a_batch(patch, lambda: frozen.mul_(1.0))  # or else the next test would see it


@guarded("isn't trained, but changed", a_round_is_let_pass)
def a_buffer_is_written(patch: pytest.MonkeyPatch, world: World) -> None:
    buffer = next(world.learner.module.buffers())
    _after_a_batch(patch, lambda: buffer.add_(0))


@guarded("isn't trained, but changed", a_round_is_let_pass)
def a_buffer_is_exchanged(patch: pytest.MonkeyPatch, world: World) -> None:
    name, buffer = next(world.learner.module.named_buffers())
    path, _, last = name.rpartition(".")
    held: dict[str, Any] = world.learner.module.get_submodule(path)._buffers
    patch.setitem(held, last, buffer)  # puts it back in the end
    _after_a_batch(patch, lambda: held.update({last: buffer.flip(1)}))


@guarded("no step changed it", a_round_is_let_pass)
def a_trained_weight_is_exchanged(patch: pytest.MonkeyPatch, world: World) -> None:
    name = next(n for n, _ in world.learner.module.named_parameters() if "lora_A" in n)
    path, _, last = name.rpartition(".")
    held: dict[str, Any] = world.learner.module.get_submodule(path)._parameters
    patch.setitem(held, last, weight := held[last])
    _after_a_batch(patch, lambda: held.update({last: nn.Parameter(weight.clone())}))


@guarded("was to be trained, but didn't change", a_round_is_let_pass)
def a_trained_weight_is_written_as_it_was(patch: pytest.MonkeyPatch, world: World) -> None:
    real = dpsgd.PrivateOptimizer.scale_grad

    def scale_grad(self: dpsgd.PrivateOptimizer) -> None:
        real(self)
        self.params[-1].grad.zero_()

    patch.setattr(dpsgd.PrivateOptimizer, "scale_grad", scale_grad)


# An accountant that forgets.


@guarded("isn't covered by the plan", a_site_plays_no_more_than_planned)
@checked("more steps than planned", the_budget_ends)
def every_round_has_a_new_budget(patch: pytest.MonkeyPatch, world: World) -> None:
    real = Remaining.__init__
    patch.setattr(Remaining, "__init__", lambda self, plan, spent: real(self, plan))


@checked("DID NOT RAISE", the_guard_ends_it)
def every_round_has_a_new_guard(patch: pytest.MonkeyPatch, world: World) -> None:
    real = StepGuard.__init__
    patch.setattr(StepGuard, "__init__", lambda self, plan, spent: real(self, plan))


@checked("DID NOT RAISE", the_guard_ends_it)
def the_guard_isnt_asked(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(StepGuard, "before_step", lambda self, spend: None)


@guarded("isn't covered by the plan", a_site_plays_no_more_than_planned)
def the_budget_is_never_spent(patch: pytest.MonkeyPatch, world: World) -> None:
    patch.setattr(Remaining, "affordable", lambda self, round, steps: steps)


@pytest.mark.parametrize(
    "bug", BUGS, ids=lambda bug: f"{bug.plant.__name__}-{'guard' if bug.guard else 'check'}"
)
def test_a_planted_bug_is_noticed(bug: Bug, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch, world)
    kinds: Any = (
        (PrivacyError, BudgetError) if bug.guard else (AssertionError, pytest.fail.Exception)
    )
    with pytest.raises(kinds, match=bug.says):
        bug.check(world)
