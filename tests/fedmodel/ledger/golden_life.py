"""A site's life with fixed entropy and clock: it has written ``vectors/ledger_v4.jsonl``."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmodel import config
from fedmodel.accounting.spends import Spend
from fedmodel.identity import SigningKey
from fedmodel.ledger import (
    Approval,
    CapsInForce,
    Entry,
    Grounds,
    Ledger,
    Mechanism,
    OutcomeEntry,
    Part,
    RepeatEntry,
    Request,
    SpendEntry,
)
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.grounds import DECISION
from fedmodel.ledger.mechanism import COUNTS, DPSGD
from fedmodel.ledger.site_line import Begun
from fedmodel.ledger.site_state import SiteState
from fedmodel.seeds import Entropy

__all__ = ["Clock", "Fixed", "live"]

CODE = "fedmodel 0.1.0 " + "5" * 64
FALLING = [Spend(0.1, noise, 2) for noise in (1.75, 1.25, 0.875)]
ASK = Spend(1.0, 10.0, 1, "evaluate")
SHARED = Mechanism(name="distributed", honest=7, survivors=9)
SITES = Mechanism(name="site", honest=3, survivors=4)
JOBS = [
    {"format": "fedmodel.job/2", "labels": ["æ", "b"], "train": {"lr": 0.1, "of": n}}
    for n in range(4)
]
ONE, TWO, THREE, FOUR = (config.digest(job) for job in JOBS)
GIVEN, MASKED = "a" * 64, "b" * 64


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


def begun(entries: int) -> Begun:
    return Begun(model=f"{entries:064x}", entries=entries, root=f"{entries + 16:064x}")


def approval(run: str, job: str) -> Approval:
    person = SigningKey(b"\7" * 32)
    said = {
        "run": run, "job": job, "page": "d" * 64, "verdict": "approved", "why": "as agreed",
        "at": "2026-12-01T08:00:00+00:00", "expires": "2026-12-31T08:00:00+00:00",
    }  # fmt: skip
    signature = person.sign(DECISION + config.canonical(said)).hex()
    return Approval(decision=said, key=person.public.hex(), signature=signature)


def grounds(number: int, **more: Any) -> Grounds:
    usual: dict[str, Any] = {
        "agreed": JOBS[number],
        "divisor": 64,
        "packages": {"numpy": "2.3.0", "opacus": "1.5.4", "torch": "2.13.0"},
        "preflight": "passed",
        "caps": CapsInForce(),
        "policy": "c" * 64,
        "needed": 0,
    }
    return Grounds(**(usual | more))


def outcome(
    ledger: Ledger, of: Entry, *clips: str, failed: bool = False, manifest: str = ""
) -> None:
    assert isinstance(of, SpendEntry | RepeatEntry)
    ledger.note_outcome(
        OutcomeEntry(
            of=of.seq,
            run=of.run,
            job=of.job,
            kind=of.kind if isinstance(of, SpendEntry) else "train",
            round=of.round,
            attempt=of.attempt,
            result="failed" if failed else "given",
            update="" if failed else MASKED if manifest else GIVEN,
            manifest=manifest,
            steps=0 if failed else of.steps if isinstance(of, SpendEntry) else 1,
            clips=clips,
        )
    )


def live(folder: Path) -> Ledger:
    """Write a ledger with every type of entry, and return it."""
    entropy, clock = Fixed("golden 4"), Clock()
    state = SiteState(folder, "north", entropy)

    def ledger() -> Ledger:
        opened = state.ledger()
        return Ledger(opened.path, opened.owner, entropy=entropy, clock=clock)

    def within(spent: Sequence[Spend], held: Sequence[Spend]) -> Sequence[Spend]:
        return [Spend(0.1, 0.875, 1)]  # the last step of the schedule

    ledger_ = ledger()
    _live_alone(ledger_, state, within)
    _live_shared(ledger_, ledger, state)
    _live_on(ledger_)
    return ledger_


def _live_alone(ledger: Ledger, state: SiteState, within: Any) -> None:
    """Noise that falls, a round taken twice with a later step given up for it, the evaluation."""
    state.note_rows(ledger, ["cough", "fever", "rash"], ["a", "b", "a"], ["p1", "p1", "p2"])
    parts = [*(Part.of(s, DPSGD) for s in FALLING), Part.of(ASK, COUNTS)]
    names: dict[str, Any] = {"run": "first-01234567", "job": ONE}
    ledger.reserve(
        asked("record", "add-remove", 3.0, 1e-5, *parts),
        **names,
        code=CODE,
        grounds=grounds(
            0,
            caps=CapsInForce.of(Caps(epsilon=8.0, delta=1e-5)),
            needed=1,
            approved=(approval(**names),),
        ),
    )
    for seen, round_ in enumerate((1, 2, 2), 4):
        part = Part.of(FALLING[round_ - 1], DPSGD)
        spent = ledger.spend(
            part, **names, round=round_, clip=0.5, within=within, start=begun(seen)
        )
        outcome(ledger, spent, *(() if seen == 5 else ("0.5", "0.4375")), failed=seen == 5)
    spent = ledger.spend(
        Part.of(ASK, COUNTS), **names, round=0, clip=1.0, within=within, start=begun(9)
    )
    outcome(ledger, spent)
    ledger.give_back(**names, start=begun(10))


def _live_shared(ledger_: Ledger, again: Any, state: SiteState) -> None:
    """Noise in shares; the run failed, the power too, and it goes on and is still open."""
    state.note_rows(ledger_, ["cough", "rash", "fall"], ["a", "a", "b"], ["p1", "p2", "p3"])
    step = Part.of(Spend(0.1, 1.5, 1), SHARED)
    names: dict[str, Any] = {"run": "second", "job": TWO}
    held = [Part.of(Spend(0.1, 1.5, 6), SHARED), Part.of(ASK, COUNTS)]
    wanted = asked("patient", "replace", 3.0, 1e-6, *held)
    ledger_.reserve(wanted, **names, code=CODE, grounds=grounds(1))
    for round_ in (1, 2):
        ledger_.spend(step, **names, round=round_, clip=1.0)  # of the second nobody knows more
    ledger_.give_back(**names, failed=True)
    with ledger_.path.open("ab") as file:
        file.write(b'{"adjacency":"replace","attempt":1,"cl')
    ledger_ = again()
    ledger_.reserve(wanted, **names, code=CODE, grounds=grounds(1))
    ledger_.spend(step, **names, round=2, clip=1.0)
    # Whole sites; the operator gave it up.
    whole = Part.of(Spend(1.0, 4.0, 1), SITES)
    held = [Part.of(Spend(1.0, 4.0, 4), SITES)]
    wanted = asked("site", "add-remove", 6.0, 1e-3, *held)
    ledger_.reserve(
        wanted, run="third", job=THREE, code=CODE, grounds=grounds(2, preflight="none", divisor=1)
    )
    ledger_.spend(whole, run="third", job=THREE, round=1, clip=0.25)
    ledger_.give_back_run("third")


def _live_on(ledger: Ledger) -> None:
    """A run whose second round is begun three times, and one hidden twice in a secure sum."""
    step = Part.of(Spend(0.1, 1.5, 1), SHARED)
    names: dict[str, Any] = {"run": "fourth", "job": FOUR}
    wanted = asked("record", "add-remove", 3.0, 1e-6, Part.of(Spend(0.1, 1.5, 3), SHARED))
    ledger.reserve(wanted, **names, code=CODE, grounds=grounds(3))
    for round_ in (1, 2):
        spent = ledger.spend(step, **names, round=round_, clip=1.0, start=begun(round_))
        outcome(ledger, spent, manifest=f"{round_:064x}")
    for attempt in (2, 3):
        again = ledger.repeat(**names, round=2, start=begun(attempt))
        outcome(ledger, again, manifest=f"{16 + attempt:064x}", failed=False)
    spent = ledger.spend(step, **names, round=3, clip=1.0)
    for attempt in (1, 2):
        outcome(ledger, spent, manifest=f"{32 + attempt:064x}")
    ledger.give_back(**names)
