"""Replays: a step's sum over a dataset, and over the same with one unit more, in equal conditions.

What sensitivity means is tried, on made-up rows, where a real fault would show: at parameters that
a coordinator could choose so that a number's last bit decides a whole gradient.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.clippers import Flat
from fedmodel.gradients.engines import Engine, make_engine
from fedmodel.gradients.units import Batch
from fedmodel.job import Performance
from fedmodel.seeds import Entropy, Seed
from fedmodel.training import made_up
from fedmodel.training.dpsgd import accumulate, backward
from fedmodel.training.evaluate import EVALUATION, SIZE
from fedmodel.training.examples import Examples
from fedmodel.training.learner import NUDGE, Learner
from fedmodel.training.steady import ROWS, Bits, Run, Witness
from fedmodel.update import Vector

__all__ = [
    "borrowed",
    "check",
    "dropout_off",
    "made_up_examples",
    "prove_evaluation",
    "prove_steps",
    "worst_parameters",
]

_LENGTHS = (3, 9, 14, 5, 7, 12, 4)  # the first one's row is the one more
_CLIP = 1e-3  # below every gradient's norm, so that each counts in full
_LARGE = 1e10


@contextmanager
def borrowed(learner: Learner) -> Iterator[None]:
    """Within this context a learner may be set as one likes; afterwards it is as before.

    It begins at the job's starting parameters, nudged (adapters start at zero, which hides
    mistakes), in training mode, with dropout off.
    """
    before, precision, training = learner.flatten(), learner.precision, learner.module.training
    try:
        learner.load_vector(_nudged(learner))
        dropout_off(learner)
        yield
    finally:
        learner.precision = precision
        learner.module.train(training)
        learner.module.zero_grad(set_to_none=True)
        for p in learner.module.parameters():
            p.summed_grad = None  # type: ignore[attr-defined]
        learner.load_vector(before)


def dropout_off(learner: Learner) -> None:
    """Put a network into training mode, but for its dropout."""
    if learner.dropout == 0:
        learner.module.train()
        return
    # Attention draws its dropout in a function, asking its own `training`, so switching off the
    # Dropout modules isn't enough; Opacus's hooks on a layer ask that layer's.
    for module in learner.module.modules():
        module.training = any(p.requires_grad for p in module.parameters(recurse=False))


def _nudged(learner: Learner) -> Vector:
    # From where the job starts: what a coordinator sent may not decide what is refused.
    noise = Seed(0).child("preflight").numpy().standard_normal(learner.initial.size)
    return (learner.initial + NUDGE * noise).astype(np.float32)


def made_up_examples(learner: Learner, *, grouped: bool) -> Examples:
    """Return a few rows of different lengths that nobody has; always the same.

    Args:
        learner: the network that reads them.
        grouped: whether some of them are of one patient.
    """
    lengths = [min(length, learner.longest) for length in _LENGTHS]
    return _examples(learner, lengths, "replay", grouped)


def _examples(learner: Learner, lengths: list[int], name: str, grouped: bool = False) -> Examples:
    longest = max(lengths)
    names = [learner.labels[i % len(learner.labels)] for i in range(len(lengths))]
    targets = learner.task.targets(
        [(n,) for n in names] if learner.task.label_sets else names, learner.labels
    )
    whose = [f"patient {(i + 1) // 2}" for i in range(len(lengths))] if grouped else None
    tokens = made_up.texts(learner.tokenizer, lengths, name)
    return Examples(learner, tokens, targets, longest, patients=whose)


# -- shapes ---------------------------------------------------------------------------------------


def prove_steps(learner: Learner, examples: Examples, performance: Performance) -> None:
    """Find which shapes of a step's passes leave every row its bits.

    Args:
        learner: the network; its parameters are set and reset.
        examples: the rows that there are, for their widths and how many there are of each.
        performance: which engine, and how many rows fit into a pass.
    """
    kind = performance.engine
    grouped = len(examples.units) < len(examples)

    def run_of(rows: Examples, width: int) -> Run:
        return _Step(learner, rows, width, kind)

    _prove(learner, examples, kind, performance.physical_batch, run_of, grouped=grouped)


def prove_evaluation(learner: Learner, examples: Examples) -> None:
    """Find which shapes of an evaluation's passes leave every row its bits.

    Args:
        learner: the network; its parameters are set and reset.
        examples: the rows that there are.
    """

    def run_of(rows: Examples, width: int) -> Run:
        return _Evaluation(learner, rows, width)

    _prove(learner, examples, EVALUATION, SIZE, run_of)


def _prove(
    learner: Learner,
    examples: Examples,
    kind: str,
    size: int,
    run_of: Callable[[Examples, int], Run],
    *,
    grouped: bool = False,
) -> None:
    """Try a kind of pass at each width that the examples have."""
    examples.run_frozen()
    kinds, counts = np.unique(examples.widths, return_counts=True)
    for width, own in zip(kinds.tolist(), counts.tolist(), strict=True):
        count = len(examples) if grouped else own  # a patient's rows are as wide as the widest
        if learner.steady.due(kind, width, size, count):
            rows = _stand_ins(learner, width)
            with borrowed(learner):
                learner.steady.prove(kind, width, size, count, run_of(rows, width))


def _stand_ins(learner: Learner, width: int) -> Examples:
    length = width if learner.head is None else 8
    rows = _examples(learner, [max(1, length - 2 * i) for i in range(ROWS)], f"shapes {length}")
    rows.run_frozen()
    return rows


class _Evaluation:
    """Made-up rows' way through the network."""

    def __init__(self, learner: Learner, rows: Examples, width: int) -> None:
        self._learner, self._rows, self._width = learner, rows, width

    def __call__(self, indices: NDArray[np.int64], size: int) -> Bits:
        self._learner.module.eval()
        inputs = self._rows.batch(indices, self._width, size)
        with torch.inference_mode(), Witness(self._learner.module, size, len(indices)) as seen:
            seen.note("logits", self._learner.logits(inputs))
        return seen.bits


class _Step(_Evaluation):
    """Made-up rows' way through the network and back, and their gradients' norms."""

    def __init__(self, learner: Learner, rows: Examples, width: int, engine: str) -> None:
        super().__init__(learner, rows, width)
        self._engine = make_engine(engine, learner.trained)

    def __call__(self, indices: NDArray[np.int64], size: int) -> Bits:
        count = len(indices)
        batch = Batch(indices, np.arange(count), count, self._width, size)
        dropout_off(self._learner)
        self._rows.batch(indices, self._width, size)  # so that no frozen layer is seen
        with self._engine.attached(), Witness(self._learner.module, size, count) as seen:
            losses, squares = backward(self._learner, self._rows, batch, self._engine)
            for name, values in (("losses", [losses]), ("norms", squares.values())):
                for value in values:
                    whole = value.new_zeros(size)
                    whole[:count] = value[:count]
                    seen.note(name, whole)
        return seen.bits


# -- one unit more --------------------------------------------------------------------------------


def check(learner: Learner, performance: Performance, grouped: bool) -> None:
    """Check that one unit more changes a step's clipped sum by no more than the clip norm.

    Args:
        learner: the network; its parameters are set and reset.
        performance: which engine, and how many rows fit into a pass.
        grouped: whether a unit has several rows.

    Raises:
        PrivacyError: saying at which parameters it isn't so.
    """
    more = made_up_examples(learner, grouped=grouped)
    fewer = more.without(more.units.rows_of(0))
    for examples in (more, fewer):
        prove_steps(learner, examples, performance)
    with borrowed(learner):
        for name, vector in worst_parameters(learner, fewer):
            learner.load_vector(vector)
            one, other = (_sum(learner, e, performance) for e in (more, fewer))
            moved = float(np.linalg.norm(one - other)) / _CLIP
            if not moved <= 1:
                raise PrivacyError(
                    f"one {'patient' if grouped else 'row'} more changed the clipped sum by "
                    f"{moved:.3g} times the clip norm ({name}, on made-up rows), so no noise would "
                    "hide it; use privacy.engine=fast with train.precision=float32, or another "
                    "model"
                )


def worst_parameters(learner: Learner, examples: Examples) -> Iterator[tuple[str, Vector]]:
    """Yield parameters to try, with what they are; each is made when it is asked for.

    Args:
        learner: the network.
        examples: the rows that a coordinator would know.
    """
    start = _nudged(learner)
    yield "at the job's parameters", start
    yield "with all parameters 30 times as large", 30 * start
    last = _last_linear(learner)
    if last is None:
        return
    name, linear = last
    place = learner.layout.names.index(name)
    begin, shape = learner.layout.offsets[place], learner.layout.shapes[place]
    end = begin + int(np.prod(shape))
    saturated = start.copy()
    saturated[begin:end] *= 1e6
    yield "with a head that is always sure", saturated
    learner.load_vector(start)
    vectors = _read_by(learner, linear, examples)
    across = np.linalg.svd(vectors, full_matrices=True)[2][::-1]
    blind = start.copy()
    blind[begin:end] = (_LARGE * np.resize(across[: shape[0]], shape)).astype(np.float32).ravel()
    yield "with a head that is blind to all rows", blind


def _last_linear(learner: Learner) -> tuple[str, nn.Linear] | None:
    trained = {n for n, p in learner.module.named_parameters() if p.requires_grad}
    found = [
        (f"{name}.weight", module)
        for name, module in learner.module.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == len(learner.labels)
    ]
    found = [(name, module) for name, module in found if name in trained]
    return found[-1] if found else None


def _read_by(learner: Learner, linear: nn.Linear, examples: Examples) -> NDArray[np.float64]:
    """Return what a linear layer reads of every row, ``[rows, H]``."""
    seen: list[Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    try:
        with torch.no_grad():
            for row, width in enumerate(examples.widths):
                learner.logits(examples.batch(np.array([row]), int(width)))
    finally:
        hook.remove()
    return np.stack([x.double().reshape(-1, x.shape[-1])[-1].cpu().numpy() for x in seen])


def _sum(learner: Learner, examples: Examples, performance: Performance) -> NDArray[np.float64]:
    """Return the clipped sum over all units."""
    engine: Engine = make_engine(performance.engine, learner.trained)
    shapes = learner.steady.shapes(engine.name, performance.physical_batch)
    everybody = np.arange(len(examples.units))
    for p in engine.parameters:
        p.grad = p.summed_grad = None  # type: ignore[attr-defined]
    with engine.attached():
        for batch in examples.units.batches(everybody, len(examples), Entropy(), shapes):
            accumulate(learner, examples, batch, engine, Flat(_CLIP))
    found = [getattr(p, "summed_grad", None) for p in engine.parameters]
    return np.concatenate([t.double().cpu().numpy().ravel() for t in found if t is not None])
