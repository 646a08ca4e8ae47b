"""The preflight before a first private step: per-unit gradients against one unit at a time.

Libraries can get per-unit gradients wrong without an error (a shared layer, an input without a
batch dimension, a loss that is averaged over the batch), and then clipping bounds nothing.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmodel import models
from fedmodel.errors import PrivacyError
from fedmodel.gradients.engines import Engine, make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.job import Performance
from fedmodel.training import replay
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.losses import example_losses
from fedmodel.training.padding import reads_padding

__all__ = ["compare_gradients", "of_nobodys_rows", "preflight"]

# Of a parameter's own largest gradient, and of the largest of all parameters: what rounding may do
# to a parameter whose true gradient is zero (measured: below 1e-6, and below 2e-3 in bf16).
_TOLERANCE = {"float32": (1e-3, 1e-5), "bf16": (5e-2, 1e-2)}

# What a layer that isn't made for per-unit gradients may raise.
_FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)


def of_nobodys_rows(learner: Learner, performance: Performance, unit: str) -> None:
    """Check as :func:`preflight`, on rows that nobody has: what comes of it tells of no row.

    Args:
        learner: the network.
        performance: which engine, and how many rows fit into a pass.
        unit: of the job's privacy: where it is a patient, some have several of the rows.

    Raises:
        PrivacyError: saying what isn't so.
    """
    preflight(learner, replay.made_up_examples(learner, grouped=unit == "patient"), performance)


def preflight(learner: Learner, examples: Examples, performance: Performance) -> None:
    """Check, before a network's first private step, that clipping will bound what a unit can do.

    That no layer looks at padding, before anything is kept of the frozen part; that per-unit
    gradients are right (:func:`compare_gradients`); that one unit more moves the clipped sum by no
    more than its share (:mod:`.replay`); and, for every new set of rows, in which shapes of a pass
    a row keeps its bits (:mod:`.steady`).

    Args:
        learner: the network.
        examples: rows; those of :func:`of_nobodys_rows`, but for tests.
        performance: which engine, and how many rows fit into a pass.

    Raises:
        PrivacyError: saying what isn't so.
    """
    if reads_padding(learner):
        raise PrivacyError(
            f"'{models.family(learner.module)}' looks at padding: what it makes of a text "
            "changes with how far the text is padded, so rows of one batch change each other; "
            "use another model (BERT, RoBERTa, ModernBERT and most others don't)"
        )
    if len(examples) == 0:
        return
    engine, grouped = performance.engine, len(examples.units) < len(examples)
    if (engine, grouped) not in learner.preflights_passed:
        compare_gradients(learner, examples, engine)
        replay.check(learner, performance, grouped)
    replay.prove_steps(learner, examples, performance)


def compare_gradients(learner: Learner, examples: Examples, engine: str) -> None:
    """Compare an engine's per-unit gradients and norms with plain autograd, on a few rows.

    Three rows of different lengths in a batch, against the same rows alone, for every trainable
    parameter; the last two as one patient where patients are the unit. And the batch again with
    its last row exchanged: the others' losses must stay. The weights are nudged first, since
    adapters start at zero and would hide mistakes.

    A job in bf16 is checked in float32 too, where rounding can't hide a mistake. At last the batch
    is run as in training, with checkpointing and dropout: some layers fail only then. A network
    that has passed isn't checked again in the same process, with the same engine and kind of unit.

    Args:
        learner: the network.
        examples: rows.
        engine: its name.

    Raises:
        PrivacyError: naming the parameter, if any differs by more than 0.1 % (5 % in bf16).
    """
    _refuse_running_statistics(learner)
    grouped = len(examples.units) < len(examples)
    rows = _pick(examples)
    examples.run_frozen()  # now: it would undo the settings made below
    precision = learner.precision
    checks: tuple[Literal["float32"], Literal["float32", "bf16"]] = ("float32", precision)
    with replay.borrowed(learner):
        for learner.precision in dict.fromkeys(checks):
            _check(learner, examples, rows, engine)
        expected = [_alone(learner, examples, row) for row in rows] if learner.dropout == 0 else []
        learner.module.train()
        with torch.random.fork_rng(devices=[]):
            groups = Groups.records(len(rows), learner.device)
            _compare_all(learner, examples, rows, groups, engine, expected)
    # One row alone can't show that rows mix; then the next site's rows are checked too.
    if len(rows) > 1:
        learner.preflights_passed.add((engine, grouped))


def _check(learner: Learner, examples: Examples, rows: NDArray[np.int64], engine: str) -> None:
    _check_rows_stay_apart(learner, examples, rows)
    alone = [_alone(learner, examples, row) for row in rows]
    units = [np.arange(len(rows))]
    if len(examples.units) < len(examples) and len(rows) == 3:
        units.append(np.array([0, 1, 1]))
    for unit in units:
        expected = [_sum(alone, unit == u) for u in range(int(unit.max()) + 1)]
        groups = Groups(torch.from_numpy(unit).to(learner.device))
        _compare_all(learner, examples, rows, groups, engine, expected)


def _refuse_running_statistics(learner: Learner) -> None:
    # Also in frozen layers: in training they mix the rows of a batch.
    for name, module in learner.module.named_modules():
        if getattr(module, "track_running_stats", False):
            raise PrivacyError(
                f"'{name}' keeps statistics of the batch ({type(module).__name__}), so one row "
                "changes another's gradient; use a model without batch normalisation"
            )


def _pick(examples: Examples) -> NDArray[np.int64]:
    order = np.argsort(examples.lengths, kind="stable")
    # The shortest, one in the middle and the longest: two lengths wherever there are two. Where
    # the longest is as long as there are rows, one fewer: else lengths pass for rows.
    places = sorted({0, len(order) // 2, len(order) - 1})
    if int(examples.lengths.max()) == len(places) > 1:
        places = places[1:]
    return np.sort(order[places])


def _check_rows_stay_apart(learner: Learner, examples: Examples, rows: NDArray[np.int64]) -> None:
    if len(rows) < 2:
        return
    # The longest row stays, so that the padding does; the shortest is exchanged.
    other = rows.copy()
    place = int(np.argmin(examples.lengths[rows]))
    other[place] = rows[place - 1]
    with torch.no_grad():
        first, second = (
            example_losses(learner, examples.batch(r), examples.labels(rows)) for r in (rows, other)
        )
    stay = torch.arange(len(rows), device=first.device) != place
    relative, absolute = _TOLERANCE[learner.precision]
    if not torch.allclose(first[stay], second[stay], rtol=relative / 10, atol=absolute):
        raise PrivacyError(
            "a row's loss changes when another row of the batch does, so no row's gradient is its "
            "own; use a model without batch normalisation and without losses over the batch"
        )


Gradients = dict[str, Tensor]


def _alone(learner: Learner, examples: Examples, row: int) -> Gradients:
    one = np.array([row])
    learner.module.zero_grad(set_to_none=True)
    losses = example_losses(learner, examples.batch(one), examples.labels(one))
    torch.autograd.backward(losses.sum())
    grads = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().float().clone()
        for name, p in learner.module.named_parameters()
        if p.requires_grad
    }
    learner.module.zero_grad(set_to_none=True)
    return grads


def _sum(alone: list[Gradients], chosen: NDArray[np.bool_]) -> Gradients:
    parts = [grads for grads, own in zip(alone, chosen, strict=True) if own]
    return {name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]}


def _compare_all(
    learner: Learner,
    examples: Examples,
    rows: NDArray[np.int64],
    groups: Groups,
    name: str,
    expected: list[Gradients],
) -> None:
    engine = make_engine(name, learner.trained)
    with engine.attached():
        try:
            engine.begin(len(rows))
            losses = example_losses(learner, examples.batch(rows), examples.labels(rows))
            engine.backward(losses, groups)
            squares = engine.squares()
        except _FAILURES as error:
            raise PrivacyError(
                f"per-example gradients fail for this model ({type(error).__name__}); "
                "choose another train.method (head and lora work for most models) or "
                "privacy.engine"
            ) from error
        named = learner.module.named_parameters()
        known = {n: squares[p].sqrt().tolist() for n, p in named if p in squares}
        for unit, alone in enumerate(expected):
            norms = {n: known[n][unit] if n in known else 0.0 for n in alone}
            _compare(learner, _one(learner, engine, groups, unit), norms, alone)


def _one(learner: Learner, engine: Engine, groups: Groups, unit: int) -> Gradients:
    """Return what the engine takes for one unit's gradient."""
    named: dict[str, nn.Parameter] = {
        n: p for n, p in learner.module.named_parameters() if p.requires_grad
    }
    for p in named.values():
        p.summed_grad = None  # type: ignore[attr-defined]
    factors = torch.zeros(groups.count, device=learner.device)
    factors[unit] = 1.0
    engine.add(factors, keep=True)
    return {n: p.summed_grad for n, p in named.items()}  # type: ignore[attr-defined]


def _compare(learner: Learner, found: Gradients, norms: dict[str, float], alone: Gradients) -> None:
    relative, absolute = _TOLERANCE[learner.precision]
    scale = max(float(g.abs().max()) for g in alone.values()) or 1.0
    for name, expected in alone.items():
        error = float((found[name] - expected).abs().max())
        if not error <= relative * float(expected.abs().max()) + absolute * scale:
            raise PrivacyError(
                f"the per-example gradient of '{name}' is wrong for this model (relative error "
                f"above {relative:g} against one example at a time), so clipping would not bound a "
                "row; freeze it (another train.method, train.frozen or "
                "train.lora.target_modules), or try another privacy.engine"
            )
    true = {name: float(g.double().norm()) for name, g in alone.items()}
    norm = math.hypot(*true.values())
    # Of all parameters together it is right, and of none is it too small: a layer may be clipped
    # on its own.
    whole = abs(math.hypot(*norms.values()) - norm) <= (relative + absolute) * norm + 1e-9
    if not whole or any(norms[n] < (1 - relative) * true[n] - absolute * norm for n in true):
        raise PrivacyError(
            f"the norm of a row's gradient is wrong for this model (by more than {relative:g}), so "
            "clipping would not bound a row; try another privacy.engine"
        )
