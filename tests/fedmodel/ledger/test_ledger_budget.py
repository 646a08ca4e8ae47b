"""Reserve, spend, release: what a run may, what it may not, and what stays counted."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.remaining import Remaining, give_up
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, LedgerError, RefusedError
from fedmodel.job import Privacy
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps, total
from fedmodel.ledger.entries import AbortEntry, GiveBackEntry, Part, SpendEntry
from fedmodel.ledger.mechanism import COUNTS, DPSGD, Mechanism
from fedmodel.ledger.request import Request
from fedmodel.ledger.site_state import SiteState

JOB, OTHER = "ab" * 32, "cd" * 32
TRAIN, TEST = Spend(0.1, 1.25, 10), Spend(1.0, 20.0, 1, "evaluate")
FOUR, ASK = Part.of(Spend(0.1, 1.25, 4), DPSGD), Part.of(TEST, COUNTS)


def terms(*parts: Part, unit: str = "record", delta: float = 1e-5) -> Request:
    chosen = parts or (Part.of(TRAIN, DPSGD), ASK)
    return Request(unit=unit, adjacency="add-remove", epsilon=8.0, delta=delta, parts=chosen)  # type: ignore[arg-type]


def cost(*terms_: Request) -> float:
    return total([c for t in terms_ for c in t.charges()], "record").epsilon


class Site:
    def __init__(self, folder: Path) -> None:
        self.state = SiteState(folder, "a")

    def ledger(self, **caps: object) -> Ledger:
        return self.state.ledger(caps=Caps(**caps))  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "a")


def reserve(ledger: Ledger, run: str = "r", job: str = JOB, what: Request | None = None) -> None:
    ledger.reserve(what or terms(), run=run, job=job, code="test")


def spend(ledger: Ledger, part: Part = FOUR, round: int = 1, **more: object) -> SpendEntry:
    values: dict[str, object] = {"run": "r", "job": JOB, "clip": 0.5}
    return ledger.spend(part, round=round, **(values | more))  # type: ignore[arg-type]


def test_a_job_from_beginning_to_end(site: Site) -> None:
    ledger = site.ledger()
    reserve(ledger)
    held = ledger.reservation("r", JOB)
    assert held is not None
    assert sorted(held.held(), key=lambda s: s.rate) == [TRAIN, TEST]
    spend(ledger)
    assert (held.left(TRAIN), held.left(TEST), held.left(Spend(0.5, 1.0, 1))) == (6, 1, 0)
    spend(ledger, ASK)
    spent, kept = ledger.book().charges()
    assert total([*spent, *kept], "record").epsilon == cost(terms())
    ledger.give_back("r", JOB)
    spent, kept = ledger.book().charges()
    assert not kept
    assert [c.spend for c in spent] == [FOUR.spend(), TEST]
    before = len(ledger.entries())
    ledger.give_back("r", JOB)  # ending twice is nothing
    assert len(ledger.entries()) == before
    end = ledger.entries()[-1]
    assert isinstance(end, GiveBackEntry)
    assert end.by == "site"


def test_nothing_is_spent_without_a_reservation(site: Site) -> None:
    ledger = site.ledger()
    with pytest.raises(RefusedError, match="holds no reservation"):
        spend(ledger)
    reserve(ledger)
    for run, job in (("other", JOB), ("r", OTHER)):
        with pytest.raises(RefusedError, match="holds no reservation"):
            spend(ledger, run=run, job=job)
    ledger.give_back("r", JOB, failed=True)
    assert isinstance(ledger.entries()[-1], AbortEntry)
    with pytest.raises(RefusedError, match="resume=true to reserve anew"):
        spend(ledger)
    assert ledger.spends() == []


def test_attempts_are_counted(site: Site) -> None:
    ledger = site.ledger()
    reserve(ledger)
    two = Part.of(Spend(0.1, 1.25, 2), DPSGD)
    assert [spend(ledger, two, r).attempt for r in (1, 1, 2)] == [1, 2, 1]
    assert spend(site.ledger(), two, 1).attempt == 3
    assert spend(ledger, ASK, 1).attempt == 1


def test_a_crashed_run_stays_counted_until_it_goes_on_or_is_given_up(site: Site) -> None:
    limit = cost(terms(), terms()) * 0.99
    reserve(site.ledger(epsilon=limit))
    spend(site.ledger(epsilon=limit))
    # The process is gone; its 10 steps and its evaluation still count.
    with pytest.raises(BudgetError, match=r"budget\.epsilon"):
        reserve(site.ledger(epsilon=limit), "s")
    # It comes back: nothing new is reserved.
    before = len(site.ledger().entries())
    reserve(site.ledger(epsilon=limit))
    assert len(site.ledger().entries()) == before
    # Its operator gives it up: only what was spent counts.
    given = site.ledger().give_back_run("r")
    assert [r.entry.run for r in given] == ["r"]
    last = site.ledger().entries()[-1]
    assert isinstance(last, GiveBackEntry)
    assert last.by == "operator"
    assert site.ledger().give_back_run("r") == []
    reserve(site.ledger(epsilon=limit), "s")


def test_a_run_that_failed_and_goes_on_holds_what_is_left_of_it(site: Site) -> None:
    ledger = site.ledger(epsilon=cost(terms()))
    reserve(ledger)
    spend(ledger)
    ledger.give_back("r", JOB, failed=True)
    reserve(ledger)  # the cap has room for the job once, not for it and what it spent
    held = ledger.reservation("r", JOB)
    assert held is not None
    assert (held.left(TRAIN), held.left(TEST)) == (6, 1)
    spend(ledger)
    # The same job in another run is new: nothing of it is spent yet.
    with pytest.raises(BudgetError):
        reserve(ledger, "s")


def test_a_cap_that_was_lowered_counts_when_a_run_goes_on(site: Site) -> None:
    one = cost(terms())
    reserve(site.ledger(epsilon=one))
    spend(site.ledger(epsilon=one))
    before = site.ledger().entries()
    for caps in ({"epsilon": one * 0.99}, {"run_epsilon": one * 0.99}, {"unit": "patient"}):
        with pytest.raises(BudgetError, match=r"budget\.") as caught:
            reserve(site.ledger(**caps))
        assert "asked for" not in str(caught.value)
    assert site.ledger().entries() == before
    reserve(site.ledger(epsilon=one))  # raised again, it goes on


def test_what_was_given_up_is_not_held_again(site: Site) -> None:
    early, late = (Part.of(Spend(0.1, noise, 4), DPSGD) for noise in (2.0, 1.0))
    what = terms(early, late, ASK)
    reserve(site.ledger(), what=what)
    spend(site.ledger(), early)
    spend(site.ledger(), early, within=lambda spent, held: [Spend(0.1, 1.0, 3)])
    before = total([c for some in site.ledger().book().charges() for c in some], "record").epsilon
    for _ in range(2):
        site.ledger().give_back("r", JOB, failed=True)
        reserve(site.ledger(epsilon=before), what=what)  # the cap has no room for more
        held = site.ledger().reservation("r", JOB)
        assert held is not None
        assert [held.left(p.spend()) for p in (early, late, ASK)] == [0, 1, 1]
    charges = [c for some in site.ledger().book().charges() for c in some]
    assert total(charges, "record").epsilon == before


@pytest.mark.long
@pytest.mark.parametrize("repeated", [1, 2])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_a_failed_run_with_repeated_rounds_fits_into_its_jobs_own_epsilon(
    site: Site, repeated: int, rate: float
) -> None:
    privacy = Privacy(mechanism="dpsgd", epsilon=4.0, delta=1e-3, rate=rate, decay=0.5)
    plan = make_plan(privacy, batch_size=8, rounds=3, steps=2, evaluate=True)
    ledger = site.ledger(epsilon=4.0)  # the job's own, to the last bit
    reserve(ledger, what=Request.of(plan))
    for round_ in (1, repeated, 2, 3):
        spent = ledger.spends("r", JOB)
        steps = Remaining(plan, spent).affordable(round_, 2)
        if steps:
            part = Part.of(plan.spend(round_, steps), DPSGD)
            spend(ledger, part, round_, within=lambda spent, held: give_up(plan, spent, held))
        ledger.give_back("r", JOB, failed=True)
        reserve(ledger, what=Request.of(plan))
        assert total([c for some in ledger.book().charges() for c in some], "record").epsilon <= 4.0
    assert any(e.given_up for r in ledger.book().of() for e in r.spent)


def test_other_jobs_count_and_others_go_on(site: Site) -> None:
    one = cost(terms())
    ledger = site.ledger(epsilon=one)
    reserve(ledger)
    for run, job in (("r", OTHER), ("s", JOB)):
        with pytest.raises(BudgetError, match="with what is asked for"):
            reserve(ledger, run, job)
    spend(ledger)
    assert [r.entry.run for r in ledger.book().open_ones()] == ["r"]


class Job:
    """Stands in for the job's own budget."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.asked: list[tuple[Sequence[Spend], Sequence[Spend]]] = []

    def __call__(self, spent: Sequence[Spend], held: Sequence[Spend]) -> Sequence[Spend]:
        self.asked.append((spent, held))
        if sum(s.steps for s in (*spent, *held)) > self.most:
            raise BudgetError("the job doesn't cover it")
        return ()


def test_beyond_the_reservation_job_and_caps_are_asked(site: Site) -> None:
    ledger = site.ledger()
    reserve(ledger)
    job = Job(14)
    for _ in range(2):
        spend(ledger, within=job)
    assert not job.asked  # 8 of 10 are within it
    with pytest.raises(BudgetError, match="2 beyond what this run has reserved"):
        spend(ledger)
    spend(ledger, within=job)
    assert [(sum(s.steps for s in a), list(b)) for a, b in job.asked] == [(12, [TEST])]
    with pytest.raises(BudgetError, match="doesn't cover"):
        spend(ledger, within=job)
    # What went beyond doesn't take from the rest, and isn't given back twice.
    spend(ledger, ASK)
    assert sum(s.steps for s in ledger.spends()) == 13
    ledger.give_back("r", JOB)
    spent, held = ledger.book().charges()
    assert (sum(c.spend.steps for c in spent), held) == (13, [])


def test_beyond_the_reservation_a_cap_can_say_no(site: Site) -> None:
    ledger = site.ledger(epsilon=cost(terms()))
    reserve(ledger)
    for _ in range(2):
        spend(ledger)
    with pytest.raises(BudgetError, match=r"budget\.epsilon"):
        spend(ledger, within=lambda spent, held: ())
    spend(ledger, Part.of(Spend(0.1, 1.25, 2), DPSGD))
    assert sum(s.steps for s in ledger.spends()) == 10


def test_a_runs_cap(site: Site) -> None:
    ledger = site.ledger(run_epsilon=cost(terms()))
    reserve(ledger)
    reserve(ledger, "s")
    with pytest.raises(BudgetError, match=r"budget\.run_epsilon"):
        reserve(ledger, "r", OTHER)


def test_the_caps_unit(site: Site) -> None:
    ledger = site.ledger(unit="patient")
    with pytest.raises(BudgetError, match="privacy=patient"):
        reserve(ledger)
    reserve(ledger, what=terms(unit="patient"))
    entry = spend(ledger)
    assert entry.unit == "patient"


def test_a_job_with_a_smaller_delta_makes_the_total_one_for_it(site: Site) -> None:
    first, second = terms(), terms(delta=1e-7)
    together = total([*first.charges(), *second.charges()], "record")
    assert together.basis.delta == 1e-7
    reserve(site.ledger())
    with pytest.raises(BudgetError, match="δ = 1e-07"):
        reserve(site.ledger(epsilon=together.epsilon * 0.999), "s", what=second)
    reserve(site.ledger(epsilon=together.epsilon), "s", what=second)


@pytest.mark.parametrize("cap", ["epsilon", "run_epsilon"])
def test_a_round_taken_again_takes_the_place_of_later_ones(site: Site, cap: str) -> None:
    early, late = (Part.of(Spend(0.1, noise, 4), DPSGD) for noise in (2.0, 1.0))
    what = terms(early, late, ASK)
    ledger = site.ledger(**{cap: cost(what)})
    reserve(ledger, what=what)
    spend(ledger, early)
    entry = spend(ledger, early, within=lambda spent, held: [Spend(0.1, 1.0, 3)])
    assert [(p.noise_multiplier, p.steps) for p in entry.given_up] == [("1.0", 3)]
    held = Ledger(ledger.path).reservation("r", JOB)
    assert held is not None
    assert [held.left(p.spend()) for p in (early, late, ASK)] == [0, 1, 1]
    # What is given up is gone: the caps count what is left.
    spent, kept = ledger.book().charges()
    assert total([*spent, *kept], "record").epsilon < cost(what)
    with pytest.raises(BudgetError, match="beyond"):
        spend(ledger, late)
    with pytest.raises(LedgerError, match="gives up steps"):
        spend(ledger, early, within=lambda spent, held: [Spend(0.1, 1.0, 2)])


def test_a_spend_is_by_the_mechanism_that_was_reserved(site: Site) -> None:
    ledger = site.ledger()
    shared = Mechanism(name="distributed", honest=3, survivors=4)
    reserve(ledger, what=terms(Part.of(TRAIN, shared)))
    for other in (DPSGD, Mechanism(name="distributed", honest=3, survivors=5)):
        with pytest.raises(LedgerError, match="agree on the mechanism"):
            spend(ledger, Part.of(FOUR.spend(), other))
    assert spend(ledger, Part.of(FOUR.spend(), shared)).mechanism == shared


def test_a_run_gives_back_what_it_holds_itself_and_nothing_of_others(site: Site) -> None:
    ledger = site.ledger()
    pairs = [("r", JOB), ("r", OTHER), ("s", JOB)]
    for run, job in pairs:
        reserve(ledger, run, job)
    for ended in (("r", OTHER), ("s", JOB), ("r", JOB)):
        ledger.give_back(*ended)
        pairs.remove(ended)
        assert [(r.entry.run, r.entry.job) for r in ledger.book().open_ones()] == pairs
