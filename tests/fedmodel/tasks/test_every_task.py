"""What every task owes the rest, checked on all of them: a new one is tested by being there."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmodel import tasks
from fedmodel.job import Model
from fedmodel.models import load
from fedmodel.seeds import Seed
from fedmodel.tasks import Label, Task

EVERY = pytest.mark.parametrize("task", tasks.TASKS.values(), ids=list(tasks.TASKS))


def labels_of(task: Task, names: tuple[str, ...]) -> list[Label]:
    """Return every label that a row may have."""
    if not task.label_sets:
        return list(names)
    return [own for k in range(len(names) + 1) for own in itertools.combinations(names, k)]


def answers(task: Task, names: tuple[str, ...]) -> list[tuple[Tensor, Tensor]]:
    """Return logits and encoded label of one row, for every label and every answer."""
    grid = itertools.product([-1.0, 1.0], repeat=len(names))
    logits = [torch.tensor([row]) + 0.01 * torch.arange(len(names)) for row in grid]
    encoded = [task.encode([label], names) for label in labels_of(task, names)]
    return list(itertools.product(logits, encoded))


def batch(task: Task, names: tuple[str, ...] = ("a", "b", "c")) -> tuple[Tensor, Tensor]:
    """Return logits and encoded labels of some rows."""
    rows = labels_of(task, names) * 2
    logits = torch.randn(len(rows), len(names), generator=torch.Generator().manual_seed(5))
    return logits, task.encode(rows, names)


@EVERY
def test_a_rows_loss_is_its_own(task: Task) -> None:
    logits, targets = batch(task)
    losses = task.losses(logits, targets)
    assert (losses.shape, losses.dtype) == ((len(logits),), torch.float32)
    alone = [task.losses(z[None], y[None]) for z, y in zip(logits, targets, strict=True)]
    torch.testing.assert_close(losses, torch.cat(alone))
    others = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.losses(others, targets)[1], others)
    assert gradient[1].abs().sum() > 0
    assert not gradient[[i for i in range(len(logits)) if i != 1]].any()


@EVERY
def test_learning_lowers_the_loss_and_ends_right(task: Task) -> None:
    logits, targets = batch(task)
    logits.requires_grad_()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(task.losses(logits, targets).sum(), logits)
        logits = (logits - gradient).detach().requires_grad_()
    metrics = task.metrics(logits.detach(), targets, ("a", "b", "c"))
    assert metrics["accuracy"] == metrics["macro_f1"] == 1
    right, wrong = task.count(logits.detach(), targets)[:2]
    assert (right, wrong) == (len(logits), 0)


@EVERY
def test_metrics_and_counts_agree(task: Task) -> None:
    logits, targets = batch(task)
    metrics = task.metrics(logits, targets, ("a", "b", "c"))
    assert {"accuracy", "macro_f1", "majority"} <= set(metrics)
    assert all(type(value) is float and 0 <= value <= 1 for value in metrics.values())
    counts = task.count(logits, targets)
    assert counts.dtype == np.int64
    assert len(counts) == len(task.counted(("a", "b", "c")).names)
    assert counts[0] / counts[:2].sum() == pytest.approx(metrics["accuracy"])
    scores = task.scores(counts.tolist(), 0.0, ("a", "b", "c"))
    for name in set(scores) & set(metrics):
        assert scores[name].value == pytest.approx(metrics[name])


@EVERY
@pytest.mark.parametrize("count", [2, 3])
def test_no_row_moves_the_counts_by_more_than_is_said_and_some_by_as_much(
    task: Task, count: int
) -> None:
    names = tuple("abc"[:count])
    moved = [task.count(*answer) for answer in answers(task, names)]
    assert min(int(counts.min()) for counts in moved) >= 0  # the bound under replace rests on it
    worst = max(float(np.linalg.norm(counts)) for counts in moved)
    assert worst == pytest.approx(task.counted(names).row_norm, rel=1e-12)


@EVERY
def test_counts_add_up_and_nothing_counts_nothing(task: Task) -> None:
    logits, targets = batch(task)
    parts = [task.count(logits[i : i + 3], targets[i : i + 3]) for i in range(0, len(logits), 3)]
    assert (task.count(logits, targets) == np.sum(parts, axis=0)).all()
    assert not task.count(logits[:0], targets[:0]).any()


@EVERY
def test_all_that_the_noise_swamps_is_kept_back(task: Task) -> None:
    counted = task.counted(("a", "b"))
    for score in task.scores([1] * len(counted.names), 1e6, ("a", "b")).values():
        assert (score.value, score.standard_error) == (None, None)


@pytest.mark.sample(2)
@EVERY
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_network_says_what_it_is(task: Task, pooling: str) -> None:
    names = ("a", "b", "c")
    model = Model(task=task.name, labels=names, pooling=pooling)  # type: ignore[arg-type]
    net = load(model, Seed(0))
    assert net.config.problem_type == task.head.problem_type
    assert net.config.id2label == dict(enumerate(names))
    logits, targets = batch(task)
    # The network's own loss, that trainers use, is of the same kind: it reads the same targets.
    ids = torch.full((len(logits), 4), 7)
    loss = net(input_ids=ids, attention_mask=torch.ones_like(ids), labels=targets).loss
    assert torch.isfinite(loss)
