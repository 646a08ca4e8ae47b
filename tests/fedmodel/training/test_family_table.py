"""Every family × method × engine against plain autograd; what comes out is docs/models.md's table.

A row of the table passes the real preflight and then is compared with the oracle, or is refused by
that preflight with the name of a layer. To write the file anew::

    FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/training/test_family_table.py
"""

import functools
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedmodel.errors import PrivacyError
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip import Groups
from fedmodel.training.losses import example_losses
from fedmodel.training.preflight import compare_gradients
from tests.fedmodel.training.families import (
    CPU,
    ENGINES,
    METHODS,
    ROWS,
    Row,
)
from tests.fedmodel.training.family_models import made

DOCS = Path(__file__).parents[3] / "docs" / "models.md"


# The largest error allowed, as a share of a parameter's largest true gradient; for parameters whose
# gradient is nearly zero (a key's bias has none) as a share of a hundredth of the largest of all.
TOLERANCE, FLOOR = 1e-4, 1e-2


# -- the comparison ------------------------------------------------------------------------------


def _named(learner: Any) -> dict[str, nn.Parameter]:
    return {n: p for n, p in learner.module.named_parameters() if p.requires_grad}


def _truth(learner: Any, examples: Any, rows: NDArray[np.int64], dropout: bool) -> list[Any]:
    """Return each row's gradients by plain autograd: alone, or with dropout in its batch."""
    named, out = _named(learner), []
    torch.manual_seed(11)
    together = example_losses(learner, examples.batch(rows), examples.labels(rows))
    for i in range(len(rows)):
        one = rows[i : i + 1]
        loss = together[i]
        if not dropout:
            loss = example_losses(learner, examples.batch(one), examples.labels(one)).sum()
        grads = torch.autograd.grad(
            loss, list(named.values()), retain_graph=True, allow_unused=True
        )
        pairs = zip(named.items(), grads, strict=True)
        out.append({n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs})
    return out


def _error(engine: Any, learner: Any, examples: Any, rows: NDArray[np.int64], true: Any) -> float:
    """Return the largest error of a gradient or norm, as :data:`TOLERANCE` means it."""
    named = _named(learner)
    torch.manual_seed(11)
    engine.begin(len(rows))
    losses = example_losses(learner, examples.batch(rows), examples.labels(rows))
    engine.backward(losses, Groups.records(len(rows), CPU))
    squares = torch.stack(list(engine.squares().values())).sum(0)
    largest = {n: max(float(t[n].abs().max()) for t in true) for n in named}
    floor = FLOOR * max(largest.values())
    worst = 0.0
    for i, expected in enumerate(true):
        for p in named.values():
            p.summed_grad = None  # type: ignore[attr-defined]
        engine.add(torch.eye(len(rows))[i], keep=True)
        for name, p in named.items():
            error = (p.summed_grad - expected[name]).abs().max()  # type: ignore[attr-defined]
            worst = max(worst, float(error) / max(largest[name], floor))
        norm = torch.stack([g.double().square().sum() for g in expected.values()]).sum().sqrt()
        assert squares[i].sqrt() >= norm * (1 - 1e-5)
        assert squares[i].sqrt() <= norm * (1 + 1e-3)
    return worst


def _compare(learner: Any, examples: Any, name: str, known: dict[Any, Any]) -> None:
    nudge = np.random.default_rng(5).standard_normal(learner.initial.size) * 0.02
    learner.load_vector((learner.flatten() + nudge).astype(np.float32))
    rows = np.array([0, 1, 2, 3])
    assert len(set(examples.lengths[rows])) > 1
    assert len(rows) not in examples.lengths
    engine = make_engine(name, learner.trained)
    for dropout, chosen in ((False, rows), (False, rows[:1]), (True, rows)):
        learner.module.train()
        rates = {m: m.p for m in learner.module.modules() if isinstance(m, nn.Dropout)}
        with _without_dropout(learner, rates) if not dropout else torch.enable_grad():
            key = (dropout, len(chosen))
            if key not in known:
                known[key] = _truth(learner, examples, chosen, dropout)
            with engine.attached():
                error = _error(engine, learner, examples, chosen, known[key])
        assert error <= TOLERANCE, (name, dropout, len(chosen), error)
        learner.module.zero_grad(set_to_none=True)


class _without_dropout:  # noqa: N801 - reads as a function
    """Within this context dropout is off, though the module trains."""

    def __init__(self, learner: Any, rates: dict[Any, float]) -> None:
        self.module, self.rates = learner.module, rates
        # Attention keeps its own probability, where it isn't a Dropout module.
        self.own = [
            (m, name, value)
            for m in self.module.modules()
            for name, value in vars(m).items()
            if "drop" in name and isinstance(value, float)
        ]

    def __enter__(self) -> None:
        for m in self.rates:
            m.p = 0.0
        for m, name, _ in self.own:
            setattr(m, name, 0.0)

    def __exit__(self, *_: Any) -> None:
        for m, p in self.rates.items():
            m.p = p
        for m, name, value in self.own:
            setattr(m, name, value)


# -- verdicts ------------------------------------------------------------------------------------


@functools.cache
def _verdicts(row: Row, method: str) -> tuple[str, ...]:
    """Return for each engine ``""`` if it is right, or the layer for which it is refused."""
    learner, examples = made(row, method)
    found: list[str] = []
    known: dict[Any, Any] = {}  # the truth doesn't depend on the engine
    start = learner.flatten()
    for engine in ENGINES:
        learner.load_vector(start)
        try:
            compare_gradients(learner, examples, engine)
        except PrivacyError as error:
            found.append(_refusal(learner, str(error)))
        else:
            _compare(learner, examples, engine, known)
            found.append("")
    return tuple(found)


def _refusal(learner: Any, message: str) -> str:
    layer = re.search(r"'([\w.]+)'", message)
    assert layer, message
    known = {n for n, _ in learner.module.named_modules()}
    known |= {n for n, _ in learner.module.named_parameters(remove_duplicate=False)}
    assert layer[1] in known, message
    assert re.search(r"freeze it|privacy\.engine", message), message
    return re.sub(r"\.(weight|bias)$", "", layer[1])


CASES = [(row, method) for row in ROWS for method in row.methods]


# Of every family one method, in turns; the others, and with them the whole table, are slow.
SOME = [(row, row.methods[i % len(row.methods)]) for i, row in enumerate(ROWS)]


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("row", "method"),
    [pytest.param(*case, marks=() if case in SOME else pytest.mark.slow) for case in CASES],
    ids=[f"{r.label} {m} {r.settings}".strip() for r, m in CASES],
)
def test_right_or_refused_by_name(row: Row, method: str) -> None:
    fast, *opacus = _verdicts(row, method)
    # Ours is never the one that is refused where Opacus's are right.
    assert not fast or all(opacus)
    assert _documented(row)[METHODS.index(method)] == _cell(row, method)


def test_dropout_was_on_and_changes_gradients() -> None:
    learner, examples = made(ROWS[0], "full")
    learner.module.train()
    learner.load_vector((learner.flatten() + 0.02).astype(np.float32))
    rows = np.array([0, 1])
    wet, other = (_truth(learner, examples, rows, True)[0] for _ in "ab")
    with _without_dropout(learner, {m: m.p for m in learner.module.modules() if hasattr(m, "p")}):
        dry = _truth(learner, examples, rows, True)[0]
    name = max(wet, key=lambda n: float(wet[n].abs().max()))
    assert torch.equal(wet[name], other[name])
    assert not torch.allclose(wet[name], dry[name], rtol=0.01)


# -- docs/models.md ------------------------------------------------------------------------------

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def _cell(row: Row, method: str) -> str:
    if method not in row.methods:
        return ""
    right = [e for e, layer in zip(ENGINES, _verdicts(row, method), strict=True) if not layer]
    return ", ".join(right) or "refused"


def _documented(row: Row) -> list[str]:
    """Return the cells of a row as the document has them."""
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        label, settings, *cells = [part.strip() for part in line.split("|")[1:-1]] or [""] * 2
        if (label, settings.strip("`")) == (row.label, row.settings.replace("'", "")):
            return cells
    raise AssertionError(f"{row.label} {row.settings} isn't in the table")


def _table() -> str:
    lines = [
        "| family | settings | `lora` | `head` | `full` |",
        "|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = " | ".join(_cell(row, method) for method in METHODS)
        settings = f"`{row.settings}`".replace("'", "") if row.settings else ""
        lines.append(f"| {row.label} | {settings} | {cells} |")
    lines += ["", "| family | `train.method` | engine | refused because of |", "|---|---|---|---|"]
    for row, method in CASES:
        layers: dict[str, list[str]] = {}
        for engine, layer in zip(ENGINES, _verdicts(row, method), strict=True):
            if layer:
                layers.setdefault(layer, []).append(engine)
        also = f", `{row.settings}`".replace("'", "") if row.settings else ""
        for layer, engines in layers.items():
            lines.append(f"| {row.label} | `{method}`{also} | {', '.join(engines)} | `{layer}` |")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_documented_table_is_this_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n\n{_table()}\n\n{END}{after}"
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        DOCS.write_text(wanted, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == wanted, (
        "docs/models.md's table isn't what the engines do; write it anew with "
        "FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/training/test_family_table.py"
    )
