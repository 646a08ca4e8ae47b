"""A site's life with fixed entropy and clock: it has written ``vectors/ledger_v3*.jsonl``."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmodel.accounting.spends import Spend
from fedmodel.ledger import Ledger, Mechanism, Part, Request
from fedmodel.ledger.mechanism import COUNTS, DPSGD
from fedmodel.ledger.site_state import SiteState
from fedmodel.seeds import Entropy

__all__ = ["Fixed", "live", "live_on"]

CODE = "fedmodel 0.1.0 " + "5" * 64
FALLING = [Spend(0.1, noise, 2) for noise in (1.75, 1.25, 0.875)]
ASK = Spend(1.0, 10.0, 1, "evaluate")
SHARED = Mechanism(name="distributed", honest=7, survivors=9)
SITES = Mechanism(name="site", honest=3, survivors=4)
ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


class Fixed(Entropy):
    """Bytes that follow from a seed."""

    def __init__(self, seed: str) -> None:
        self._state = hashlib.sha256(seed.encode()).digest()

    def bytes(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            self._state = hashlib.sha256(self._state).digest()
            out += self._state
        return out[:count]


class Clock:
    """Tells a minute more each time."""

    def __init__(self) -> None:
        self._minute = -1

    def __call__(self) -> str:
        self._minute += 1
        return f"2026-12-01T{self._minute // 60:02d}:{self._minute % 60:02d}:00Z"


def asked(unit: str, adjacency: str, epsilon: float, delta: float, *parts: Part) -> Request:
    return Request(unit=unit, adjacency=adjacency, epsilon=epsilon, delta=delta, parts=parts)  # type: ignore[arg-type]


def live(folder: Path) -> Ledger:
    """Write a ledger with every type of entry that schema 3 began with, and return it."""
    entropy, clock = Fixed("golden 3"), Clock()
    state = SiteState(folder, "north", entropy)

    def ledger() -> Ledger:
        opened = state.ledger()
        return Ledger(opened.path, opened.owner, entropy=entropy, clock=clock)

    def spend(
        to: Ledger, spend: Spend, by: Mechanism, run: str, job: str, round_: int, clip: float
    ) -> None:
        def within(spent: Sequence[Spend], held: Sequence[Spend]) -> Sequence[Spend]:
            return [Spend(0.1, 0.875, 1)]  # the last step of the schedule

        part = Part.of(spend, by)
        to.spend(part, run=run, job=job, round=round_, clip=clip, within=within)

    ledger_ = ledger()
    state.note_rows(ledger_, ["cough", "fever", "rash"], ["a", "b", "a"], ["p1", "p1", "p2"])
    # Noise that falls, a round taken twice with a later step given up for it, the evaluation.
    parts = [*(Part.of(s, DPSGD) for s in FALLING), Part.of(ASK, COUNTS)]
    ledger_.reserve(
        asked("record", "add-remove", 3.0, 1e-5, *parts), run="first-01234567", job=ONE, code=CODE
    )
    for round_ in (1, 2, 2):
        spend(ledger_, FALLING[round_ - 1], DPSGD, "first-01234567", ONE, round_, 0.5)
    spend(ledger_, ASK, COUNTS, "first-01234567", ONE, 0, 1.0)
    ledger_.give_back("first-01234567", ONE)
    # Noise in shares; the run failed, the power too, and it goes on and is still open.
    ledger_ = ledger()
    state.note_rows(ledger_, ["cough", "rash", "fall"], ["a", "a", "b"], ["p1", "p2", "p3"])
    step = Spend(0.1, 1.5, 1)
    held = [Part.of(Spend(0.1, 1.5, 6), SHARED), Part.of(ASK, COUNTS)]
    wanted = asked("patient", "replace", 3.0, 1e-6, *held)
    ledger_.reserve(wanted, run="second", job=TWO, code=CODE)
    for round_ in (1, 2):
        spend(ledger_, step, SHARED, "second", TWO, round_, 1.0)
    ledger_.give_back("second", TWO, failed=True)
    with ledger_.path.open("ab") as file:
        file.write(b'{"adjacency":"replace","attempt":1,"cl')
    ledger_ = ledger()
    ledger_.reserve(wanted, run="second", job=TWO, code=CODE)
    spend(ledger_, step, SHARED, "second", TWO, 2, 1.0)
    # Whole sites; the operator gave it up.
    whole = Spend(1.0, 4.0, 1)
    ledger_.reserve(
        asked("site", "add-remove", 6.0, 1e-3, Part.of(Spend(1.0, 4.0, 4), SITES)),
        run="third",
        job=THREE,
        code=CODE,
    )
    spend(ledger_, whole, SITES, "third", THREE, 1, 0.25)
    ledger_.give_back_run("third")
    return ledger_


def live_on(folder: Path) -> Ledger:
    """Write what :func:`live` does, and then a run whose second round is begun three times."""
    ledger = live(folder)
    step = Part.of(Spend(0.1, 1.5, 1), SHARED)
    names: dict[str, Any] = {"run": "fourth", "job": "4" * 64}
    wanted = asked("record", "add-remove", 3.0, 1e-6, Part.of(Spend(0.1, 1.5, 3), SHARED))
    ledger.reserve(wanted, **names, code=CODE)
    for round_ in (1, 2):
        ledger.spend(step, **names, round=round_, clip=1.0)
    for _ in range(2):
        ledger.repeat(**names, round=2)
    ledger.spend(step, **names, round=3, clip=1.0)
    ledger.give_back(**names)
    return ledger
