"""A site's life between system calls, and what the world outside knows of its ledger then."""

import contextlib
import fcntl
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmodel import _files
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, RefusedError
from fedmodel.ledger import Ledger
from fedmodel.ledger.entries import Part
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState

CALLS = {"open", "read", "write", "fsync", "ftruncate", "replace", "unlink", "mkdir", "close"}
CALLS |= {"fstat", "lseek"}
JOB = "ab" * 32
STEPS = Part.of(Spend(0.1, 1.0, 2), DPSGD)
TERMS = Request(
    unit="record",
    adjacency="add-remove",
    epsilon=8.0,
    delta=1e-5,
    parts=(Part.of(Spend(0.1, 1.0, 12), DPSGD),),
)


class Module:
    """Stands in for ``os`` (or ``fcntl``) in :mod:`fedmodel._files`."""

    def __init__(self, real: Any, around: Callable[..., Any]) -> None:
        self._real = real
        self._around = around

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in CALLS and name != "flock":
            return real
        return lambda *args: self._around(name, real, *args)


def install(around: Callable[..., Any]) -> None:
    _files.os = Module(os, around)  # type: ignore[attr-defined, assignment]
    _files.fcntl = Module(fcntl, around)  # type: ignore[attr-defined, assignment]


def uninstall() -> None:
    _files.os, _files.fcntl = os, fcntl  # type: ignore[attr-defined]


class Known:
    """What the world outside knows of a ledger: what was asked for, and what was answered."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # run → steps that spend() was called for
        self.answered: Counter[str] = Counter()  # … that it returned for: noise may be drawn
        self.reserved: set[str] = set()  # runs whose reserve() returned …
        self.released: set[str] = set()  # … and whose release() was called

    def say(self, what: str) -> None:
        verb, run = what.split()
        if verb == "spend?":
            self.asked[run] += STEPS.steps
        elif verb == "spend!":
            self.answered[run] += STEPS.steps
        elif verb == "reserve!":
            self.reserved.add(run)
            self.released.discard(run)
        elif verb == "release?":
            self.released.add(run)

    def check(self, folder: Path) -> None:
        """Fail unless the ledger counts at least what was answered and at most what was asked."""
        book = SiteState(folder, "a").ledger().book()
        for run in self.asked | self.answered | Counter(self.reserved):
            ours = book.of(run)
            spent = sum(s.steps for r in ours for s in r.done())
            held = sum(s.steps for r in ours for s in r.held())
            if not self.answered[run] <= spent <= self.asked[run]:
                raise AssertionError(
                    f"run {run}: {spent} steps counted, {self.answered[run]} answered, "
                    f"{self.asked[run]} asked"
                )
            whole = TERMS.parts[0].steps
            if run in self.reserved - self.released and spent + held < whole:
                raise AssertionError(f"run {run}: {spent} + {held} of {whole} reserved steps")


def live(folder: Path, rng: random.Random, say: Callable[[str], None], most: int) -> None:
    """Live a while: join, reserve, spend, release, in several runs."""
    state = SiteState(folder, "a")
    ledger = state.ledger()
    texts = [f"row {i}" for i in range(rng.randrange(4))]
    state.note_rows(ledger, texts, ["x"] * len(texts))
    for _ in range(most):
        run = rng.choice("uvw")
        with contextlib.suppress(BudgetError, RefusedError):
            act(ledger, run, rng.random(), say)
    ledger.head()


def act(ledger: Ledger, run: str, choice: float, say: Callable[[str], None]) -> None:
    if ledger.reservation(run, JOB) is None:
        ledger.reserve(TERMS, run=run, job=JOB, code="test")
        say(f"reserve! {run}")
    elif choice < 0.8:
        say(f"spend? {run}")
        ledger.spend(STEPS, run=run, job=JOB, round=0, clip=1.0, within=lambda spent, held: ())
        say(f"spend! {run}")
    else:
        say(f"release? {run}")
        ledger.give_back(run, JOB, failed=choice < 0.9)


def count_calls(folder: Path, seed: int, most: int) -> int:
    calls = 0

    def count(name: str, real: Callable[..., Any], *args: Any) -> Any:
        nonlocal calls
        calls += 1
        return None if name == "fsync" else real(*args)

    install(count)
    live(folder, random.Random(seed), lambda what: None, most)
    uninstall()
    return calls


def go_on(folder: Path, known: Known) -> None:
    """Spend once more: whatever was left, the ledger is of use again."""
    ledger = SiteState(folder, "a").ledger()
    if ledger.reservation("u", JOB) is None:
        act(ledger, "u", 0.0, known.say)
    act(ledger, "u", 0.0, known.say)
    ledger.head()
    known.check(folder)


class scratch:  # noqa: N801
    """A folder in memory where there is one: these tests sync thousands of times."""

    def __enter__(self) -> Path:
        memory = Path("/dev/shm")
        usable = memory.is_dir() and os.access(memory, os.W_OK)
        self.path = Path(tempfile.mkdtemp(dir=memory if usable else None))
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
