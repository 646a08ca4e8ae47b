"""Repeats: other attempts of a round that is paid, of which at most one is ever opened."""

from dataclasses import replace
from typing import Any

import pytest

from fedmodel.accounting.spends import Spend
from fedmodel.errors import LedgerError, RefusedError
from fedmodel.ledger import Ledger, Mechanism, OutcomeEntry, Part, RepeatEntry
from fedmodel.ledger.entries import Entry
from fedmodel.ledger.mechanism import DPSGD
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState

JOB = "ab" * 32
SHARED = Mechanism(name="distributed", honest=3, survivors=4)
WHOLE = Mechanism(name="site", honest=3, survivors=4)
NAMES: dict[str, Any] = {"run": "r", "job": JOB}


def ledger_of(site: SiteState, mechanism: Mechanism = SHARED) -> Ledger:
    """Return a ledger in which a run has reserved ten steps, and spent one in round 1."""
    unit: Any = "site" if mechanism is WHOLE else "record"
    steps = Part.of(Spend(0.5, 1.25, 10), mechanism)
    ledger = site.ledger()
    ledger.reserve(
        Request(unit=unit, adjacency="add-remove", epsilon=8.0, delta=1e-5, parts=(steps,)),
        **NAMES,
        code="test",
    )
    ledger.spend(replace(steps, steps=1), **NAMES, round=1, clip=0.5)
    return ledger


@pytest.mark.parametrize("mechanism", [SHARED, WHOLE])
def test_a_repeat_is_written_down_and_costs_nothing(site: SiteState, mechanism: Mechanism) -> None:
    ledger = ledger_of(site, mechanism)
    before = ledger.book().charges()
    entry = ledger.repeat(**NAMES, round=1)
    assert (entry.round, entry.attempt, entry.reservation) == (1, 2, 1)
    assert ledger.repeat(**NAMES, round=1).attempt == 3
    assert ledger.book().charges() == before
    read = Ledger(ledger.path)
    assert [e.type for e in read.entries()] == ["open", "reserve", "spend", "repeat", "repeat"]
    assert read.book().charges() == before
    assert read.book().attempts("r", JOB, "train", 1) == 3


def test_a_spend_after_a_repeat_is_one_more(site: SiteState) -> None:
    ledger = ledger_of(site)
    ledger.repeat(**NAMES, round=1)
    step = Part.of(Spend(0.5, 1.25, 1), SHARED)
    assert ledger.spend(step, **NAMES, round=1, clip=0.5).attempt == 3
    ((charge,), _) = ledger.book().charges()
    assert charge.spend == Spend(0.5, 1.25, 2)


def test_only_a_round_that_is_paid_is_repeated(site: SiteState) -> None:
    ledger = ledger_of(site)
    with pytest.raises(LedgerError, match="round 2 was spent on 0 times"):
        ledger.repeat(**NAMES, round=2)
    with pytest.raises(RefusedError, match="holds no reservation"):
        ledger.repeat(run="other", job=JOB, round=1)
    ledger.give_back("r", JOB)
    with pytest.raises(RefusedError, match="holds no reservation"):
        ledger.repeat(**NAMES, round=1)
    assert len(ledger.entries()) == 4


def test_noise_of_a_sites_own_is_paid_each_time(site: SiteState) -> None:
    with pytest.raises(LedgerError, match="only a round of noise in shares"):
        ledger_of(site, DPSGD).repeat(**NAMES, round=1)


@pytest.mark.parametrize("attempt", [1, 3, 7])
def test_a_line_that_repeats_what_was_not_is_refused(site: SiteState, attempt: int) -> None:
    book = ledger_of(site).book()
    entry: Entry = RepeatEntry(seq=3, reservation=1, **NAMES, round=1, attempt=attempt)
    with pytest.raises(LedgerError, match="isn't the one that follows"):
        book.check(entry)


def test_what_came_of_a_repeat_is_one_step_that_costs_nothing(site: SiteState) -> None:
    ledger = ledger_of(site)
    before, again = ledger.book().charges(), ledger.repeat(**NAMES, round=1)
    gave: dict[str, Any] = {"of": again.seq, "kind": "train", "round": 1, "attempt": 2}
    gave |= {"result": "given", "update": "1" * 64, "manifest": "2" * 64, **NAMES}
    with pytest.raises(LedgerError, match="2 steps were taken, and 1 were charged"):
        ledger.note_outcome(OutcomeEntry(**gave, steps=2))
    ledger.note_outcome(OutcomeEntry(**gave, steps=1))
    assert ledger.book().charges() == Ledger(ledger.path).book().charges() == before
