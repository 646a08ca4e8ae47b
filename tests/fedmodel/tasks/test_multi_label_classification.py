"""Sets of labels: loss, metrics and counts against naive oracles, and bugs that these catch."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from fedmodel import tasks
from fedmodel.job import Privacy
from fedmodel.mechanisms.counts import largest_contribution
from fedmodel.tasks import Counted, Task

TASK = tasks.of("multi-label-classification")
NAMES = ("cough", "fever", "pain")
ROWS: list[tasks.Label] = [("fever",), (), ("cough", "pain"), NAMES, ("pain",), ("fever",)]
TRUTH = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 1, 0]]).float()
LOGITS = torch.tensor(
    [
        [-2.0, 1.0, -1.0],
        [-1.0, -0.5, -3.0],
        [0.2, 0.3, 2.0],
        [1.0, 0.1, 4.0],
        [0.4, -1.0, -0.2],
        [-0.1, -0.2, -0.3],
    ]
)


def answers(labels: int) -> list[tuple[Tensor, Tensor]]:
    """Return logits and truth of one row, for every truth and every answer."""
    both = itertools.product(itertools.product([0.0, 1.0], repeat=labels), repeat=2)
    return [(torch.tensor([guess]) * 2 - 1, torch.tensor([truth])) for truth, guess in both]


# -- what is checked; each takes a task, so that a wrong one can be handed in ---------------------


def the_encoding_names_the_labels(task: Task) -> None:
    assert torch.equal(task.encode(ROWS, NAMES), TRUTH)
    assert task.encode([], NAMES).shape == (0, 3)


def the_loss_is_each_rows_log_likelihood(task: Task) -> None:
    expected = []
    for logits, truth in zip(LOGITS.tolist(), TRUTH.tolist(), strict=True):
        yes = [1 / (1 + math.exp(-z)) for z in logits]
        expected.append(-sum(math.log(p if t else 1 - p) for p, t in zip(yes, truth, strict=True)))
    losses = task.losses(LOGITS, TRUTH)
    assert losses.shape == (6,)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    alone = torch.cat([task.losses(LOGITS[i : i + 1], TRUTH[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(losses, alone)


def the_metrics_are_scikit_learns(task: Task) -> None:
    y, z = TRUTH.numpy(), (torch.sigmoid(LOGITS) > 0.5).float().numpy()
    found = task.metrics(LOGITS, TRUTH, NAMES)
    each = f1_score(y, z, average=None, zero_division=0.0)
    assert found == pytest.approx(
        {
            "accuracy": float((y == z).all(axis=1).mean()),
            "micro_f1": float(f1_score(y, z, average="micro")),
            "macro_f1": float(f1_score(y, z, average="macro", zero_division=0.0)),
            "majority": 2 / 6,
            **{f"f1.{name}": float(value) for name, value in zip(NAMES, each, strict=True)},
        }
    )


def the_counts_are_counted_by_hand(task: Task) -> None:
    said, true = (LOGITS > 0).tolist(), (TRUTH > 0).tolist()
    right = sum(a == b for a, b in zip(said, true, strict=True))
    expected = {"right": right, "wrong": 6 - right}
    for k, name in enumerate(NAMES):
        pairs = [(s[k], t[k]) for s, t in zip(said, true, strict=True)]
        expected[f"tp.{name}"] = pairs.count((True, True))
        expected[f"fp.{name}"] = pairs.count((True, False))
        expected[f"fn.{name}"] = pairs.count((False, True))
    found = task.count(LOGITS, TRUTH)
    assert found.dtype == np.int64
    assert dict(zip(task.counted(NAMES).names, found.tolist(), strict=True)) == expected


def one_row_moves_the_counts_by_the_norm(task: Task) -> None:
    for labels in (1, 2, 3, 4):
        counted = task.counted([f"l{k}" for k in range(labels)])
        rows = [task.count(*answer) for answer in answers(labels)]
        assert {len(row) for row in rows} == {len(counted.names)}
        # All that a record more or less can do, and the worst of it is no less than what is said.
        worst = max(float(np.linalg.norm(row)) for row in rows)
        assert worst == pytest.approx(largest_contribution(Privacy(), counted), rel=1e-12)


def a_unit_moves_the_counts_by_no_more(task: Task) -> None:
    privacy = Privacy(mechanism="dpsgd", unit="patient", rows_per_patient=2)
    counted = task.counted(("a", "b"))
    limit = largest_contribution(privacy, counted)
    units = [
        task.count(torch.cat([x[0], y[0]]), torch.cat([x[1], y[1]]))
        for x, y in itertools.product(answers(2), repeat=2)
    ]
    units.append(np.zeros_like(units[0]))  # whose rows aren't there
    assert max(np.linalg.norm(u) for u in units) == pytest.approx(limit, rel=1e-12)
    # One unit exchanged for another; the accountant reckons with twice the norm under replace.
    apart = max(float(np.linalg.norm(u - v)) for u, v in itertools.product(units, units))
    assert apart == pytest.approx(math.sqrt(2) * limit)
    assert apart <= 2 * limit


def counts_of_parts_add_up(task: Task) -> None:
    whole = task.count(LOGITS, TRUTH)
    parts = task.count(LOGITS[:2], TRUTH[:2]) + task.count(LOGITS[2:], TRUTH[2:])
    assert (whole == parts).all()
    assert not task.count(LOGITS[:0], TRUTH[:0]).any()


def without_noise_the_scores_are_the_metrics(task: Task) -> None:
    found = task.scores(task.count(LOGITS, TRUTH).tolist(), 0.0, NAMES)
    metrics = task.metrics(LOGITS, TRUTH, NAMES)
    for name in ("micro_f1", "macro_f1", *(f"f1.{label}" for label in NAMES)):
        assert found[name].value == pytest.approx(metrics[name])
        assert found[name].standard_error == 0
    for k, label in enumerate(NAMES):
        share = float(((LOGITS[:, k] > 0) == (TRUTH[:, k] > 0)).float().mean())
        assert found[f"accuracy.{label}"].value == pytest.approx(share)
    assert len(found) == 2 + 2 * len(NAMES)


CHECKS: tuple[Callable[[Task], None], ...] = (
    the_encoding_names_the_labels,
    the_loss_is_each_rows_log_likelihood,
    the_metrics_are_scikit_learns,
    the_counts_are_counted_by_hand,
    one_row_moves_the_counts_by_the_norm,
    a_unit_moves_the_counts_by_no_more,
    counts_of_parts_add_up,
    without_noise_the_scores_are_the_metrics,
)


@pytest.mark.long
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_task(check: Callable[[Task], None]) -> None:
    check(TASK)


# -- planted bugs ---------------------------------------------------------------------------------


def smaller(labels: Any) -> Counted:
    return replace(TASK.counted(labels), row_norm=math.sqrt(len(labels)))


def larger(labels: Any) -> Counted:
    return replace(TASK.counted(labels), row_norm=math.sqrt(2 + len(labels)))


def halved(labels: Any) -> Counted:
    return replace(TASK.counted(labels), row_norm=1.0)


def by_kind(logits: Tensor, targets: Tensor) -> Any:
    found = TASK.count(logits, targets)
    return np.concatenate([found[:2], found[2:].reshape(-1, 3).T.reshape(-1)])


def two_a_row(logits: Tensor, targets: Tensor) -> Any:
    # True negatives stand among the true positives.
    found = TASK.count(logits, targets)
    found[2::3] += ((logits <= 0) & (targets < 0.5)).sum(0).numpy()
    return found


def twice_wrong(logits: Tensor, targets: Tensor) -> Any:
    found = TASK.count(logits, targets)
    found[1] += int((logits[:, 0] > 0).sum())
    return found


def mean_of_batch(logits: Tensor, targets: Tensor) -> Tensor:
    return TASK.losses(logits, targets) / len(logits)


def mean_of_labels(logits: Tensor, targets: Tensor) -> Tensor:
    return TASK.losses(logits, targets) / targets.shape[1]


def softmax(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def at_one_half(logits: Tensor, targets: Tensor, names: Any) -> dict[str, float]:
    return TASK.metrics(logits - 0.5, targets, names)


def one_label_off(rows: Any, names: Any) -> Tensor:
    return TASK.encode(rows, names).roll(1, dims=1)


def padded(rows: Any, names: Any) -> Tensor:
    return torch.nn.functional.pad(TASK.encode(rows, names), (0, 1))


def first_only(rows: Any, names: Any) -> Tensor:
    return TASK.encode([row[:1] for row in rows], names)


def shifted_scores(total: Any, std: float, names: Any) -> Any:
    return TASK.scores([*total[:2], *total[3:], total[2]], std, names)


BUGS: dict[str, tuple[Task, Callable[[Task], None]]] = {
    "a sensitivity without the row itself": (
        replace(TASK, counted=smaller),
        one_row_moves_the_counts_by_the_norm,
    ),
    "a patient's too": (replace(TASK, counted=smaller), a_unit_moves_the_counts_by_no_more),
    "a single label's sensitivity": (
        replace(TASK, counted=halved),
        one_row_moves_the_counts_by_the_norm,
    ),
    "noise for nothing": (replace(TASK, counted=larger), one_row_moves_the_counts_by_the_norm),
    "counts in another order": (replace(TASK, count=by_kind), the_counts_are_counted_by_hand),
    "true negatives counted": (replace(TASK, count=two_a_row), the_counts_are_counted_by_hand),
    "a row that counts twice": (
        replace(TASK, count=twice_wrong),
        one_row_moves_the_counts_by_the_norm,
    ),
    "a loss over the batch": (
        replace(TASK, losses=mean_of_batch),
        the_loss_is_each_rows_log_likelihood,
    ),
    "a mean over labels": (
        replace(TASK, losses=mean_of_labels),
        the_loss_is_each_rows_log_likelihood,
    ),
    "a softmax": (replace(TASK, losses=softmax), the_loss_is_each_rows_log_likelihood),
    "logits cut at 0.5": (replace(TASK, metrics=at_one_half), the_metrics_are_scikit_learns),
    "labels shifted by one": (replace(TASK, encode=one_label_off), the_encoding_names_the_labels),
    "a padded vector of labels": (replace(TASK, encode=padded), the_encoding_names_the_labels),
    "a row's first label only": (replace(TASK, encode=first_only), the_encoding_names_the_labels),
    "scores of another count": (
        replace(TASK, scores=shifted_scores),
        without_noise_the_scores_are_the_metrics,
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_noticed(bug: str) -> None:
    task, check = BUGS[bug]
    with pytest.raises(AssertionError):
        check(task)


# -- figures made of noised counts ----------------------------------------------------------------


def test_a_label_that_nobody_has_or_gets_scores_zero_without_a_warning() -> None:
    found = TASK.metrics(LOGITS[:2] - 9, TRUTH[1:2].repeat(2, 1), NAMES)
    assert found == {
        "accuracy": 1.0,
        "micro_f1": 0.0,
        "macro_f1": 0.0,
        "majority": 1.0,
        **{f"f1.{name}": 0.0 for name in NAMES},
    }


def test_the_standard_errors_are_the_spread_of_the_scores() -> None:
    std, exact = 8.0, np.array([500, 400, 300, 60, 90, 150, 40, 220, 400, 100, 30])
    draws = np.random.default_rng(11).normal(0, std, (3000, len(exact)))
    found = [
        TASK.scores(np.rint(exact + noise).astype(int).tolist(), std, NAMES) for noise in draws
    ]
    truth = TASK.scores(exact.tolist(), 0.0, NAMES)
    for name in found[0]:
        values = np.array([f[name].value for f in found], dtype=float)
        errors = np.array([f[name].standard_error for f in found], dtype=float)
        assert values.mean() == pytest.approx(truth[name].value, abs=0.004), name
        assert errors.mean() == pytest.approx(values.std(), rel=0.07), name


def test_what_the_noise_swamps_is_not_told() -> None:
    clear, faint = [100, 10, 90, 5, 5], [1, 0, 3]
    found = TASK.scores([*clear[:2], *clear[2:], *faint], 4.0, ("a", "b"))
    assert found["f1.a"].value == pytest.approx(180 / 190)
    assert (found["f1.b"].value, found["f1.b"].standard_error) == (None, None)
    assert found["macro_f1"].value is None  # of a and b, or of nothing
    assert found["micro_f1"].value is not None
    assert found["accuracy.b"].value == pytest.approx(1 - 3 / 110)
    nothing = TASK.scores([-5, 3, -1, 0, 0], 4.0, ("a",))
    assert {e.value for e in nothing.values()} == {None}


def test_scores_stay_between_0_and_1() -> None:
    found = TASK.scores([1000, 0, 500, -300, -200], 1.0, ("a",))
    assert {e.value for e in found.values()} == {1.0}
    found = TASK.scores([1000, 0, -100, 5000, 5000], 1.0, ("a",))
    assert {e.value for e in found.values()} == {0.0}
