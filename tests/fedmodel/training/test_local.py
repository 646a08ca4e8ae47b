"""Plain local training against an ordinary PyTorch loop."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmodel.accounting.spends import Spend
from fedmodel.errors import PrivacyError, RunError
from fedmodel.job import Job, Performance, Privacy
from fedmodel.seeds import Seed
from fedmodel.training import local, optim
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round, Start

SEED = Seed(11)


def naive_change(
    learner: Learner, texts: list[str], labels: torch.Tensor, job: Job, vector: Any
) -> tuple[Any, list[str]]:
    """Train the whole network by the textbook; also return the parameters' names."""
    learner.load_vector(vector)
    module, train = learner.module.train(), job.train
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for n, p in named.items() if "classifier" in n], "lr": train.head_lr},
        {"params": [p for n, p in named.items() if "classifier" not in n], "lr": train.lr},
    ]
    kind: Any = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[train.optimizer]
    arguments: dict[str, Any] = {"weight_decay": train.weight_decay}
    if train.optimizer == "sgd":
        arguments["momentum"] = train.momentum
    optimizer = kind([g for g in groups if g["params"]], **arguments)
    for rows in local.shuffled(SEED.child("batches"), len(texts), train.batch_size, train.steps):
        picked = [texts[i] for i in rows]
        batch = learner.tokenizer(
            picked, padding=True, truncation=True, max_length=16, return_tensors="pt"
        )
        optimizer.zero_grad()
        out = module(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        torch.autograd.backward(cross_entropy(out.logits, labels[torch.from_numpy(rows)]))
        optimizer.step()
    module.zero_grad(set_to_none=True)
    return learner.flatten() - vector, sorted(named)


OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "lr": 0.05, "head_lr": 0.4, "momentum": 0.8, "weight_decay": 0.01},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "head_lr": 1e-2, "weight_decay": 0.1},
}


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize("method", ["head", "ffa", "lora", "full"])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_a_round_equals_a_plain_loop(
    method: str,
    optimizer: str,
    learner_of: Any,
    examples_of: Any,
    job_of: Any,
    start_of: Any,
    texts: list[str],
) -> None:
    learner: Learner = learner_of(method)
    examples, vector = examples_of(learner), start_of(learner)
    job = job_of(method=method, steps=4, batch_size=5, **OPTIMISERS[optimizer])
    start = Start(vector=vector)
    result = local.train(learner, examples, job, start, Round(), steps=4, plan=None, seed=SEED)
    labels = examples.labels(np.arange(len(texts)))
    expected, _ = naive_change(learner, texts, labels, job, vector)
    changed = learner.layout.named(result.change)
    for name, wanted in learner.layout.named(expected).items():
        if optimizer == "adamw" and name.endswith("key.bias"):
            continue  # its true gradient is zero, and AdamW turns the rounding into full steps
        scale = float(np.abs(expected).max())
        np.testing.assert_allclose(
            changed[name], wanted, rtol=2e-3, atol=2e-4 * scale, err_msg=name
        )
    assert np.abs(result.change).max() > 1e-4
    assert result.loss is not None
    assert 0 < result.loss < 5


@pytest.mark.parametrize("method", ["head", "lora"])
def test_the_size_of_physical_batches_has_no_effect(
    method: str, learner_of: Any, examples_of: Any, job_of: Any, start_of: Any
) -> None:
    learner = learner_of(method)
    examples, vector = examples_of(learner), start_of(learner)
    found = [
        local.train(
            learner,
            examples,
            job_of(method=method, steps=3, batch_size=8, lr=0.2),
            Start(vector=vector),
            Round(performance=Performance(physical_batch=size)),
            steps=3,
            plan=None,
            seed=SEED,
        )
        for size in (3, 64)
    ]
    np.testing.assert_allclose(found[0].change, found[1].change, atol=2e-6)
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)


@pytest.mark.parametrize(("rows", "batch"), [(10, 4), (7, 7), (5, 2), (3, 1)])
def test_every_epoch_has_each_row_once(rows: int, batch: int) -> None:
    epochs = 4
    parts = list(local.shuffled(SEED, rows, batch, rows * epochs // batch))
    assert all(len(p) == batch for p in parts)
    order = np.concatenate(parts)
    whole = len(order) // rows
    assert whole >= epochs - 1
    for epoch in order[: whole * rows].reshape(whole, rows):
        assert sorted(epoch) == list(range(rows))
    again = np.concatenate(list(local.shuffled(SEED, rows, batch, rows * epochs // batch)))
    np.testing.assert_array_equal(order, again)


def test_another_seed_gives_another_order() -> None:
    one, two = (np.concatenate(list(local.shuffled(Seed(s), 50, 10, 5))) for s in (1, 2))
    assert (one != two).any()


def test_training_does_not_disturb_the_processs_generator(
    learner_of: Any, examples_of: Any, job_of: Any
) -> None:
    learner = learner_of("head")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    local.train(
        learner,
        examples_of(learner),
        job_of(batch_size=4),
        Start(vector=learner.initial),
        Round(),
        steps=1,
        plan=None,
        seed=SEED,
    )
    assert torch.equal(torch.rand(3), expected)


def test_divergence_is_an_error_that_names_the_fix(
    learner_of: Any, examples_of: Any, job_of: Any, start_of: Any
) -> None:
    learner = learner_of("head")
    job = job_of(batch_size=4, head_lr=1e30, weight_decay=1.0, steps=5)
    with pytest.raises(RunError, match=r"lower train\.lr"):
        local.train(
            learner,
            examples_of(learner),
            job,
            Start(vector=start_of(learner)),
            Round(),
            steps=5,
            plan=None,
            seed=SEED,
        )


# -- private ------------------------------------------------------------------------------------


def private(
    learner: Learner,
    examples: Any,
    job: Job,
    plan: Any,
    clip: float | None = None,
    **more: Any,
) -> local.Result:
    start = Start(vector=learner.initial, clip=clip)
    return local.train(learner, examples, job, start, Round(**more), steps=2, plan=plan, seed=SEED)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adamw-bc"])
def test_a_private_round_tells_no_loss_and_moves_everything(
    optimizer: Any, learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("lora")
    asked: list[Spend] = []
    job = job_of(
        Privacy(mechanism="dpsgd"), method="lora", optimizer=optimizer, lr=0.01, head_lr=0.1
    )
    found = private(learner, examples_of(learner), job, plan_of(rate=0.5), before_step=asked.append)
    assert found.loss is None
    assert found.clip is None
    assert len(asked) == 2
    for name, part in learner.layout.named(found.change).items():
        assert part.any(), name
    assert np.isfinite(found.change).all()


def test_an_adaptive_norm_goes_on_from_round_to_round(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any
) -> None:
    learner = learner_of("head")
    privacy = Privacy(mechanism="dpsgd", clipping="adaptive", clip=0.5, clip_noise=0.5)
    few = {"noise_multiplier": 0.1, "clip_noise": 0.5, "expected_batch": 14}
    plan = plan_of(clipping="adaptive", clip=0.5, **few)
    job, examples = job_of(privacy), examples_of(learner)
    first = private(learner, examples, job, plan).clip
    assert first is not None
    assert first != 0.5
    second = private(learner, examples, job, plan, clip=1e-3).clip
    assert second is not None
    assert second == pytest.approx(1e-3 * math.exp(-0.4 * (0 - 0.5)), rel=0.1)


@pytest.mark.long
def test_a_parameter_that_stays_is_refused_unless_its_rate_is_zero(
    learner_of: Any, examples_of: Any, job_of: Any, plan_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of("lora")
    examples = examples_of(learner)
    asked = Privacy(mechanism="dpsgd")
    still = job_of(asked, method="lora", lr=0.0, head_lr=0.1)
    change = private(learner, examples, still, plan_of()).change
    assert not any(
        part.any() for name, part in learner.layout.named(change).items() if "lora" in name
    )
    # A hundredth of a coordinate's spacing: the step rounds to nothing.
    monkeypatch.setattr(optim, "make", lambda *_: Nothing(learner))
    with pytest.raises(PrivacyError, match="was to be trained, but didn't change"):
        private(learner, examples, job_of(asked, method="lora"), plan_of())


class Nothing(torch.optim.SGD):
    """Touches every parameter and changes none."""

    def __init__(self, learner: Learner) -> None:
        super().__init__([p for p in learner.module.parameters() if p.requires_grad], lr=0.1)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(0.0)
