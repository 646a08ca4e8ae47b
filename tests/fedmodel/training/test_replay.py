"""One unit more moves a clipped sum by the clip norm at most, whatever the parameters are."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from fedmodel.errors import PrivacyError
from fedmodel.gradients import clippers, shapes, units
from fedmodel.job import Model, Performance, Train
from fedmodel.seeds import Seed
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training import replay
from fedmodel.training.evaluate import count
from fedmodel.training.learner import Learner

NAMES = ("a", "b", "c", "d")


def learner_of(method: Any = "head", precision: Any = "float32", **changed: Any) -> Learner:
    train = Train(method=method, precision=precision)
    model = Model(labels=NAMES, max_length=24, **changed)
    return Learner(model, train, Seed(0), torch.device("cpu"))


def moved(learner: Learner, engine: Any, grouped: bool, rows: int, physical: int = 32) -> list[Any]:
    """Return by how many clip norms a short row, put first, moves the sum: for each parameters."""
    performance = Performance(device="cpu", engine=engine, physical_batch=physical)
    generator = np.random.default_rng(0)
    lengths = [3, *generator.integers(4, 24, rows).tolist()]
    more = replay._examples(learner, lengths, "test", grouped)
    fewer = more.without(more.units.rows_of(0))
    for examples in (more, fewer):
        replay.prove_steps(learner, examples, performance)
    found = []
    with replay.borrowed(learner):
        for name, vector in replay.worst_parameters(learner, fewer):
            learner.load_vector(vector)
            sums = [replay._sum(learner, e, performance) for e in (more, fewer)]
            found.append((name, float(np.linalg.norm(sums[0] - sums[1])) / replay._CLIP))
    return found


ALL = list(
    itertools.product(
        ["head", "lora", "ffa", "full"], ["float32", "bf16"], ["fast", "hooks"], [False, True]
    )
)
SOME = {
    ("head", "float32", "fast", False),
    ("head", "bf16", "fast", False),
    ("lora", "float32", "fast", True),
    ("full", "float32", "fast", False),
    ("full", "float32", "hooks", False),
}
# Each method in bf16 with one engine, and groups with the others; all of them in the longest tests.
SLOW = {
    ("head", "bf16", "hooks", True),
    ("lora", "bf16", "hooks", False),
    ("ffa", "bf16", "fast", True),
    ("full", "bf16", "fast", False),
}


def tier(way: tuple[str, str, str, bool]) -> tuple[pytest.MarkDecorator, ...]:
    """Return what says how often a way is tried: in bf16 it takes ten times as long."""
    if way in SOME:
        return ()
    return (pytest.mark.soak if way[1] == "bf16" and way not in SLOW else pytest.mark.slow,)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(
    ("method", "precision", "engine", "grouped"),
    [pytest.param(*way, marks=tier(way)) for way in ALL],
)
def test_the_sum_moves_by_no_more_than_the_clip_norm(
    method: str, precision: str, engine: str, grouped: bool
) -> None:
    found = moved(learner_of(method, precision), engine, grouped, 24)
    assert len(found) == 4
    assert max(factor for _, factor in found) > 0.99  # the bound isn't idle
    for name, factor in found:
        assert factor <= 1, name


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("changed", [{"pooling": "cls"}, {"task": "multi-label-classification"}])
def test_so_it_is_with_other_pooling_and_several_labels_a_row(changed: dict[str, Any]) -> None:
    found = [f for _, f in moved(learner_of(**changed), "fast", False, 24)]
    assert 0.99 < max(found) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("physical", [1, 3, 8, 100])
def test_so_it_is_with_any_physical_batch(physical: int) -> None:
    assert max(f for _, f in moved(learner_of(), "fast", False, 40, physical)) <= 1


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("engine", ["fast", "hooks"])
@pytest.mark.parametrize("clip", [1e-20, 1e-23, 1e-26])
def test_no_clip_norm_is_too_small_to_bound_a_row(
    engine: Any, clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A head that is sure of a row leaves it a gradient whose square is 0 in float32.
    monkeypatch.setattr(replay, "_CLIP", clip)
    learner, performance = learner_of(), Performance(device="cpu", engine=engine)
    more = replay._examples(learner, [9, 3, 14, 5], "sure")
    fewer = more.without(np.array([0]))
    found = []
    with replay.borrowed(learner):
        _, linear = replay._last_linear(learner) or ("", None)
        assert linear is not None
        own = replay._read_by(learner, linear, more)[0]
        for margin in range(44, 62):
            sure = np.zeros((len(NAMES), len(own)), np.float32)
            sure[0] = margin * own / (own @ own)
            learner.load_vector(sure.ravel())
            one, other = (replay._sum(learner, e, performance) for e in (more, fewer))
            found.append(float(np.linalg.norm(one - other)) / clip)
    assert 0 < max(found) <= 1


# -- each defence, taken out ----------------------------------------------------------------------


def _as_wide_as_the_batch(patch: pytest.MonkeyPatch) -> None:
    # As it was: cut from a list sorted by length, each batch as wide as its longest row.
    def passes(self: Any, indices: Any, own: Any, shapes: Any) -> Any:
        for part in self.chunks(indices, 8):
            yield part, int(self.lengths[part].max()), len(part)

    patch.setattr(rows_as_tensors.Examples, "passes", passes)


def _any_shape(patch: pytest.MonkeyPatch) -> None:
    def cut(self: Any, width: int, count: int, rows: int = 1) -> list[tuple[int, int]]:
        return [(1, rows)] * count if count % 2 else [(count, count * rows)]

    patch.setattr(shapes.Shapes, "cut", cut)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("defence", [_as_wide_as_the_batch, _any_shape])
def test_without_it_one_row_moves_others(defence: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    defence(monkeypatch)
    found = dict(moved(learner_of(), "fast", False, 33))
    assert found["with a head that is blind to all rows"] > 1.1
    rows_as_tensors._kept.clear()


@pytest.mark.long
def test_a_replay_refuses_what_moves_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clippers, "_ROUNDING", 1.01)
    with pytest.raises(PrivacyError, match=r"one row more changed the clipped sum by 1\.01 times"):
        replay.check(learner_of(), Performance(device="cpu"), False)


def test_a_patients_batch_holds_patients_of_as_many_rows_and_one_width() -> None:
    own = units.Units(np.array([8, 8, 16, 8, 8, 8, 8]), list("aabbccd"))
    alike = shapes.Shapes({8: (1, 64), 16: (1, 64)}, 64)
    found = {
        (batch.width, batch.count, len(batch.rows))
        for batch in own.batches(np.arange(4), 8, None, alike)  # type: ignore[arg-type]
    }
    assert found == {(8, 2, 4), (16, 1, 2), (8, 1, 1)}


def test_what_is_kept_of_a_row_is_made_as_wide_as_its_own_length_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = learner_of()
    examples = replay._examples(learner, [24, 3, 9, 4], "kept")
    seen, padded = dict[int, int](), examples._pad

    def noting(rows: Any, width: int, size: int) -> Any:
        seen.update(dict.fromkeys(rows.tolist(), width))
        return padded(rows, width, size)

    monkeypatch.setattr(examples, "_pad", noting)
    rows_as_tensors._kept.clear()
    examples.run_frozen()
    assert seen == {0: 24, 1: 16, 2: 16, 3: 16}


def test_counted_rows_are_as_wide_as_their_own_length_says() -> None:
    learner = learner_of("full")
    examples = replay._examples(learner, [3, 9, 20, 4], "counted")
    seen, logits = list[Any](), learner.logits

    def noting(batch: Any) -> torch.Tensor:
        seen.append(batch["input_ids"].shape[1])
        return logits(batch)

    learner.logits = noting  # type: ignore[method-assign]
    count(learner, examples, np.arange(4))
    assert seen == [16, 16, 16, 20]  # nothing was proven, so each is alone


def test_a_trial_compares_layers_there_and_back_losses_and_norms() -> None:
    learner = learner_of("lora")
    rows = replay._stand_ins(learner, 16)
    with replay.borrowed(learner):
        bits = replay._Step(learner, rows, 16, "fast")(np.array([0, 1]), 4)
    for what in ("losses", "norms", "classifier", "lora_A", "'s gradient"):
        assert any(what in name for name in bits), what
    trained = sum(p.requires_grad for p in learner.module.parameters())
    assert sum(name.startswith("norms") for name in bits) == trained
    assert all(len(found) == 2 for found in bits.values())
