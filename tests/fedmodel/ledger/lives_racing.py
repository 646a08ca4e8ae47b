"""Processes that ask at once for what only one of them can have."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError
from fedmodel.ledger.caps import Caps, total
from fedmodel.ledger.entries import Part
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.site_state import SiteState
from tests.fedmodel.ledger.lives import JOB, TERMS, scratch


def race(times: int, seed: int) -> dict[str, int]:
    # Composed, two cost less than twice as much as one: the cap lies between.
    caps = Caps(epsilon=(_cost(1) + _cost(2)) / 2)
    won = []
    with scratch() as root:
        for number in range(times):
            folder = root / f"site-{number}"
            SiteState(folder, "a").ledger().head()
            won.append(racers(folder, caps, 3))
            book = SiteState(folder, "a").ledger().book()
            if len(book.open_ones()) != 1 or won[-1] != 1:
                raise AssertionError(f"{won[-1]} of 3 got what one can have")
            won.append(drawers(folder, 3))
            if won[-1] != 12 // 4:
                raise AssertionError(f"{won[-1]} drew 4 of 12 steps")
            SiteState(folder, "a").ledger().entries()
    return {"races": len(won)}


def _cost(jobs: int) -> float:
    return total(TERMS.charges() * jobs, "record").epsilon


def racers(folder: Path, caps: Caps, count: int) -> int:
    def reserve(number: int) -> bool:
        SiteState(folder, "a").ledger(caps=caps).reserve(
            TERMS, run=f"r{number}", job=JOB, code="test"
        )
        return True

    return together(reserve, count)


def drawers(folder: Path, count: int) -> int:
    (held,) = SiteState(folder, "a").ledger().book().open_ones()
    four = Part.of(Spend(0.1, 1.0, 4), DPSGD)

    def draw(number: int) -> bool:
        ledger = SiteState(folder, "a").ledger()
        for _ in range(2):
            ledger.spend(four, run=held.entry.run, job=JOB, round=number, clip=1.0)
        return True

    # Three ask for 8 of the 12 steps each; whoever comes too late for its second has drawn one.
    together(draw, count)
    book = SiteState(folder, "a").ledger().book()
    return len(book.open_ones()[0].spent)


def together(act: Callable[[int], bool], count: int) -> int:
    """Fork processes that wait for the same moment; return how many succeeded."""
    inlet, outlet = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(outlet)
            os.read(inlet, 1)  # until the other end closes
            try:
                os._exit(0 if act(number) else 1)
            except BudgetError:
                os._exit(1)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(2)
        children.append(child)
    os.close(inlet)
    os.close(outlet)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if not set(codes) <= {0, 1}:
        raise AssertionError(f"exit codes {codes}")
    return codes.count(0)
