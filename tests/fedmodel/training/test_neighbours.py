"""What one patient can change: the clipped sum by C at most, and nothing else of a step."""

import dataclasses
import hashlib
import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmodel.accounting.plan import Plan
from fedmodel.gradients.clippers import Adaptive, make_clipper
from fedmodel.gradients.engines import make_engine
from fedmodel.job import Performance, Privacy, Train
from fedmodel.mechanisms import noise, sampling
from fedmodel.seeds import Entropy
from fedmodel.training import dpsgd, optim, replay
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round
from tests.examples import examples

F = NDArray[np.float64]
NAMES = ("a", "b", "c")
WORDS = ("patient", "has", "chest", "pain", "no", "acute", "distress", "cough", "wound", "clean")
CLIPPINGS = ["flat", "per-layer", "adaptive"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a site; its number makes the text, of 1 to 16 words, and the label."""

    patient: str
    number: int

    @property
    def text(self) -> str:
        generator = random.Random(self.number)
        return " ".join(generator.choices(WORDS, k=(1, 2, 4, 16)[self.number % 4]))

    @property
    def label(self) -> str:
        return NAMES[self.number // 4 % 3]


Site = list[Row]


def examples_at(learner: Learner, site: Site, unit: str) -> Examples:
    patients = [row.patient for row in site] if unit == "patient" else None
    texts, labels = [row.text for row in site], [row.label for row in site]
    return prepare(learner, texts, labels, NAMES, 16, patients=patients)


class Own(Entropy):
    """Bytes that hang on a name alone."""

    def __init__(self, name: str) -> None:
        self._state = hashlib.sha256(name.encode()).digest()

    def bytes(self, count: int) -> bytes:
        self._state = hashlib.sha256(self._state).digest()
        return (self._state * (count // 32 + 1))[:count]


def clipped_sum(
    learner: Learner,
    site: Site,
    privacy: Privacy,
    plan: Plan,
    physical: int,
    engine_name: Any = "fast",
) -> tuple[F, float]:
    """Return a step's clipped sum over all units of a site, and adaptive clipping's count.

    Which rows of a patient take part is that patient's own matter, and the same in every site.
    """
    examples, choose = examples_at(learner, site, privacy.unit), sampling.choose
    engine = make_engine(engine_name, learner.trained)
    clipper = make_clipper(privacy, plan, learner.trained, Entropy(), None)
    named = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
    for p in named.values():
        p.summed_grad = None  # type: ignore[attr-defined]

    def own(_: Entropy, rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        return choose(Own(site[rows[0]].patient), rows, limit)

    replay.prove_steps(learner, examples, Performance(engine=engine_name, physical_batch=physical))
    shapes = learner.steady.shapes(engine_name, physical)
    learner.module.train()
    with pytest.MonkeyPatch.context() as patch, engine.attached():
        patch.setattr(sampling, "choose", own)
        drawn = np.arange(len(examples.units))
        limit = plan.rows_per_patient
        for batch in examples.units.batches(drawn, limit, Entropy(), shapes):
            dpsgd.accumulate(learner, examples, batch, engine, clipper)
    parts = []
    for p in named.values():
        total: Any = p.summed_grad  # type: ignore[attr-defined]
        parts.append(np.zeros(p.numel()) if total is None else total.double().flatten().numpy())
        p.grad = p.summed_grad = None  # type: ignore[attr-defined]
    return np.concatenate(parts), clipper._count if isinstance(clipper, Adaptive) else 0.0


numbers = st.integers(0, 47)
others = st.lists(
    st.builds(Row, st.sampled_from("pqrs"), numbers), min_size=1, max_size=8, unique=True
)


@st.composite
def neighbours(draw: st.DrawFn, unit: str, replace: bool) -> tuple[Site, Site]:
    """Return two sites that differ in one unit: it is in one of them only, or another in each."""
    most = 20 if unit == "patient" else 1
    sites: list[Site] = []
    rest, mix = draw(others), draw(st.randoms(use_true_random=False))
    mix.shuffle(rest)
    for name in ("new", "old"):
        site = list(rest)
        if replace or name == "new":
            for number in draw(st.lists(numbers, min_size=1, max_size=most)):
                site.insert(mix.randint(0, len(site)), Row(name, number))
        sites.append(site)
    return sites[0], sites[1]


def far_apart(replace: bool) -> tuple[Site, Site]:
    """Return two sites: one has a row more, or each has one of another label in its place."""
    rest, new, old = [Row("p", 1)], Row("new", 0), Row("old", 4)
    return [*rest, new], [*rest, old] if replace else rest


# Both adjacencies and both units with the head, and each of them with another method; all: slow.
SOME = {("add-remove", "patient", "lora"), ("replace", "record", "full")}
WAYS = [
    pytest.param(*way, marks=() if way[2] == "head" or way in SOME else pytest.mark.slow)
    for way in itertools.product(
        ("add-remove", "replace"), ("patient", "record"), ("head", "lora", "full")
    )
]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(("adjacency", "unit", "method"), WAYS)
def test_neighbours_clipped_sums_are_at_most_a_sensitivity_apart(
    method: str, unit: Any, adjacency: Any, learner_of: Any, start_of: Any, plan_of: Any
) -> None:
    learner = learner_of(method)
    learner.load_vector(start_of(learner))
    replace = adjacency == "replace"
    reached: list[float] = []

    @settings(
        max_examples=examples({"head": 24, "lora": 8, "full": 4}[method]),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        neighbours(unit, replace),
        st.sampled_from(CLIPPINGS),
        st.sampled_from([1e-3, 0.05, 1.0, 100.0]),
        st.integers(1, 8),
        st.sampled_from([1, 3, 7, 64]),
        st.sampled_from(["fast", "fast", "hooks"]),
    )
    @example(far_apart(replace), "flat", 1e-3, 8, 64, "fast")  # it all but reaches the bound
    def check(
        sites: tuple[Site, Site], clipping: Any, clip: float, limit: int, physical: int, engine: Any
    ) -> None:
        privacy = Privacy(unit=unit, clipping=clipping)
        plan = plan_of(
            unit=unit, adjacency=adjacency, clipping=clipping, clip=clip, rows_per_patient=limit
        )
        (one, count), (other, rest) = (
            clipped_sum(learner, site, privacy, plan, physical, engine) for site in sites
        )
        apart = float(np.linalg.norm(one - other))
        reached.append(apart / plan.sensitivity)
        assert plan.sensitivity == (2 * clip if replace else clip)
        assert apart <= plan.sensitivity
        if clipping == "adaptive":
            # A count of ±1/2 each.
            assert abs(count - rest) in ((0.0, 1.0) if replace else (0.5,))

    check()
    assert max(reached) > 0.5  # the bound isn't idle


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("physical", [1, 4, 64])
def test_a_patient_with_more_rows_than_a_batch_weighs_no_more_than_another(
    clipping: Any, physical: int, learner_of: Any, start_of: Any, plan_of: Any
) -> None:
    learner = learner_of("lora")
    learner.load_vector(start_of(learner))
    rest = [Row("p", 3), Row("q", 4), Row("p", 9), Row("r", 2), Row("q", 7)]
    plan = plan_of(unit="patient", clip=1e-3, clipping=clipping)
    privacy = Privacy(unit="patient", clipping=clipping)
    # So small a norm clips everybody. Per layer, a layer without a gradient leaves its share.
    least = 0.5 if clipping == "per-layer" else 0.999
    for limit in (1, 5, 8):
        plan = dataclasses.replace(plan, rows_per_patient=limit)
        without, _ = clipped_sum(learner, rest, privacy, plan, physical)
        for count in (1, 20):
            site = [*rest[:2], *(Row("new", 4 * i + 3) for i in range(count)), *rest[2:]]
            whole, _ = clipped_sum(learner, site, privacy, plan, physical)
            assert least < float(np.linalg.norm(whole - without)) / 1e-3 <= 1


# -- what doesn't hang on the dataset -------------------------------------------------------------

SITES: list[Site] = [
    [Row("p", 1)],
    [Row("p", i) for i in range(20)],
    [Row("pqrs"[i % 4], i) for i in range(30)],
    [Row(f"p{i}", 4 * i + 3) for i in range(40)],
]


def private_steps(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    privacy: Privacy,
    entropy: Entropy,
    steps: int = 3,
    number: int = 2,
    **more: Any,
) -> None:
    train, four = Train(lr=1.0, head_lr=1.0), Performance(physical_batch=4)
    dpsgd.private_steps(
        learner,
        examples,
        plan,
        privacy,
        optim.make(learner.module, train),
        Round(number=number, entropy=entropy, performance=four, **more),
        steps=steps,
    )


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "lora"])
@pytest.mark.parametrize("unit", ["patient", "record"])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_noise_rate_divisor_and_steps_are_the_plans_whatever_the_dataset(
    method: str,
    unit: Any,
    clipping: Any,
    fake: Entropy,
    learner_of: Any,
    start_of: Any,
    plan_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = learner_of(method)
    start = start_of(learner)
    shapes = dict.fromkeys(learner.layout.shapes)
    plan = plan_of(unit=unit, clipping=clipping, rate=0.25, expected_batch=8, decay=0.5, steps=3)
    privacy, poisson = Privacy(unit=unit, clipping=clipping), sampling.poisson
    seen: list[Any] = []

    def sample(entropy: Entropy, units: int, rate: float) -> NDArray[np.int64]:
        seen.append(("rate", rate))
        return poisson(entropy, units, rate)

    def add(entropy: Entropy, total: torch.Tensor, std: float) -> None:
        assert tuple(total.shape) in shapes
        seen.append(("noise", tuple(total.shape), std))
        total.fill_(1.0)  # so that the parameters' change tells what it was divided by

    def count(entropy: Entropy, total: Any, std: float) -> Any:
        seen.append(("count", std))
        return np.zeros(1)  # the next norm is released; given that, nothing hangs on the rows

    monkeypatch.setattr(sampling, "poisson", sample)
    monkeypatch.setattr(noise, "add_gaussian_", add)
    monkeypatch.setattr(noise, "add_gaussian", count)
    traces = []
    for site in SITES:
        seen.clear()
        learner.load_vector(start)
        private_steps(
            learner,
            examples_at(learner, site, unit),
            plan,
            privacy,
            fake,
            before_step=lambda spend: seen.append(("spend", spend)),
            on_step=lambda: seen.append("step"),
        )
        traces.append(list(seen))
        np.testing.assert_allclose(learner.flatten() - start, -3 / 8, rtol=1e-5)
    assert all(trace == traces[0] for trace in traces)
    assert traces[0].count("step") == 3
    assert traces[0].count(("spend", plan.spend(2, 1))) == 3
    assert traces[0].count(("rate", 0.25)) == 3
    assert traces[0].count(("count", plan.clip_noise)) == (3 if clipping == "adaptive" else 0)
    first = [event[2] for event in traces[0] if event[0] == "noise"][: len(learner.layout.shapes)]
    assert set(first) == {plan.noise_std(2)}
    if clipping != "adaptive":
        assert plan.noise_std(2) == pytest.approx(1.25 * 0.5**0.5 * 0.5)


@pytest.mark.parametrize("method", ["head", "lora"])
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_a_step_over_nobody_releases_the_planned_noise_and_nothing_else(
    method: str, clipping: Any, fake: Entropy, learner_of: Any, start_of: Any, plan_of: Any
) -> None:
    learner, fresh = learner_of(method), type(fake)
    start = start_of(learner)
    plan = plan_of(clipping=clipping, rate=2.0**-60)
    std = plan.noise_std(1)
    released = []
    for site in SITES:
        learner.load_vector(start)
        examples = examples_at(learner, site, "record")
        privacy = Privacy(clipping=clipping)
        private_steps(learner, examples, plan, privacy, fresh(), number=1, steps=1)
        released.append(learner.flatten())
    assert all(np.array_equal(found, released[0]) for found in released)

    learner.load_vector(start)
    entropy = fresh()
    assert len(sampling.poisson(entropy, 10, plan.rate)) == 0
    with torch.no_grad():
        for group in optim.make(learner.module, Train()).param_groups:
            for p in group["params"]:
                alone = torch.zeros_like(p)
                noise.add_gaussian_(entropy, alone, std)
                assert float(alone.std()) == pytest.approx(std, rel=5 / (2 * p.numel()) ** 0.5)
                p -= alone / plan.expected_batch
    assert np.array_equal(learner.flatten(), released[0])
