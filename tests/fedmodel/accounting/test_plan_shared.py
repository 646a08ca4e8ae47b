"""Plans whose noise the sites share: what they promise, to whom, and what a ledger has of them."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from fedmodel.accounting.adversaries import adversaries
from fedmodel.accounting.claims import claim, epsilon
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import DeltaError, check_delta, make_plan, plan_for, plan_of
from fedmodel.accounting.remaining import Remaining
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, ConfigError, PrivacyError
from fedmodel.job import Federation, Privacy, SecAgg, Train
from fedmodel.ledger.caps import Caps, Charge, total
from fedmodel.ledger.entries import ReserveEntry, SpendEntry
from fedmodel.ledger.lines import decode, encode
from fedmodel.ledger.mechanism import Mechanism
from fedmodel.ledger.request import Request, part_of
from fedmodel.ledger.site_state import SiteState
from fedmodel.mechanisms.shares import Shares
from tests.jobs import make_job, summed

UNION = Privacy(mechanism="distributed", unit="patient", epsilon=3.0, delta=1e-5, rate=0.1)
SITES = Privacy(
    mechanism="site", unit="site", epsilon=6.0, delta=1e-3, clip=0.5, evaluation="suppressed"
)
JOB = "ab" * 32


def made(privacy: Privacy, evaluate: bool = True, **change: Any) -> Plan:
    numbers = {"batch_size": 16, "rounds": 12, "steps": 1, "honest": 7, "survivors": 9, **change}
    return make_plan(privacy, evaluate=evaluate, **numbers)


@pytest.mark.long
def test_the_promise_does_not_depend_on_how_it_is_shared() -> None:
    plan, alone = (
        made(UNION),
        made(dataclasses.replace(UNION, mechanism="dpsgd"), honest=1, survivors=1),
    )
    assert (plan.mechanism, plan.unit, plan.honest, plan.survivors) == (
        "distributed",
        "patient",
        7,
        9,
    )
    assert (plan.spends(), plan.noise_std(1)) == (alone.spends(), alone.noise_std(1))
    assert epsilon(plan.spends(), plan.delta) <= 3.0
    assert (plan.shared, alone.shared) == (True, False)
    assert alone.share_std(1) == alone.noise_std(1)


@pytest.mark.slow
@pytest.mark.long
def test_h_shares_make_up_the_noise() -> None:
    plan = made(dataclasses.replace(UNION, decay=0.5))
    for round_ in (1, 5, 12):
        assert math.sqrt(7) * plan.share_std(round_) == pytest.approx(plan.noise_std(round_))
        assert plan.share_std(round_, clip=3.0) == pytest.approx(3 * plan.share_std(round_))
    shares = Shares(std=plan.noise_std(5), honest=plan.honest, parties=10, bits=24)
    assert shares.share_std == plan.share_std(5)


def test_a_site_is_one_unit_of_one_step_a_round() -> None:
    plan = made(SITES, steps=40, batch_size=64)
    assert (plan.rate, plan.steps, plan.expected_batch, plan.unit) == (1.0, 1, 1, "site")
    assert plan.total_steps == 12
    assert plan.evaluation() is None
    assert plan == made(dataclasses.replace(SITES, rate=1.0))
    assert 5.9 < epsilon(plan.spends(), plan.delta) <= 6.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("privacy", "change", "says"),
    [
        (UNION, {"honest": 0}, "plan.honest must be at least 1"),
        (UNION, {"honest": 10}, "at least plan.honest"),
        (UNION, {"clipping": "adaptive"}, "doesn't cover the count"),
        (UNION, {"unit": "site"}, "go together"),
        (UNION, {"mechanism": "dpsgd"}, "must be 1, got 7 and 9"),
        (SITES, {"unit": "record"}, "go together"),
        (SITES, {"rate": 0.5}, "must be 1"),
        (SITES, {"steps": 2}, "must be 1"),
        (SITES, {"evaluation_noise": 10.0}, "null"),
    ],
)
def test_plans_are_checked(privacy: Privacy, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(made(privacy, evaluate=False), **change)


def test_a_plan_by_each_site_has_no_shares() -> None:
    with pytest.raises(ConfigError, match=r"plan\.honest and plan\.survivors must be 1"):
        made(dataclasses.replace(UNION, mechanism="dpsgd"))


@pytest.mark.parametrize(("colluders", "honest"), [(0, 7), (1, 7), (2, 6)])
def test_the_plan_of_a_job(colluders: int, honest: int) -> None:
    """One share at least isn't counted on: every site knows its own."""
    job = make_job(
        train=Train(rounds=12, steps=1, batch_size=16),
        privacy=UNION,
        secagg=summed(10, colluders=colluders, survivors=8, threshold=7),
        federation=Federation(sites=10, test="held-out"),
    )
    plan = plan_of(job)
    assert plan == made(UNION, honest=honest, survivors=8)
    assert plan.evaluation() == Spend(1.0, 10.0, 1, "evaluate")
    assert plan_of(dataclasses.replace(job, seed=1)) is plan  # worked out once
    with pytest.raises(ConfigError, match=r"privacy\.mechanism=distributed needs secagg=on"):
        plan_for(job.privacy, job.train, None, evaluate=True)
    local = dataclasses.replace(job.privacy, mechanism="dpsgd")
    alone = plan_of(dataclasses.replace(job, privacy=local, secagg=SecAgg()))
    assert (alone.honest, alone.survivors, alone.spends()) == (1, 1, plan.spends())


def test_delta_for_sites_is_held_against_their_number() -> None:
    check_delta(SITES, 999)
    with pytest.raises(DeltaError, match=r"1/sites of this federation.*with more sites"):
        check_delta(SITES, 1000)
    with pytest.raises(ConfigError, match="federation needs at least 1 site"):
        check_delta(SITES, 0)


# -- adversaries ---------------------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("privacy", [UNION, SITES])
@pytest.mark.parametrize("colluders", [1, 2, 3])
def test_who_knows_shares_learns_more(privacy: Privacy, colluders: int) -> None:
    plan = made(privacy, honest=9 - colluders)
    found = adversaries(plan, plan.spends())
    released, coordinator, another, together = found.values()
    assert list(found) == [
        "released model",
        "coordinator",
        "another site",
        f"coordinator + {colluders} site{'s' * (colluders > 1)}",
    ]
    assert released == coordinator < another <= together
    assert (another == together) == (colluders == 1)
    assert together == claim(plan.spends(), plan.delta).epsilon <= plan.epsilon
    # By hand: what isn't known of nine shares, each 1/√honest of the noise.
    for unknown, value in ((9, released), (8, another)):
        noise = plan.noise_multiplier * math.sqrt(unknown / plan.honest)
        steps = [Spend(plan.rate, noise, plan.total_steps)]
        rest = [Spend(1.0, 10.0, 1)] if plan.evaluation() else []
        assert value == pytest.approx(claim([*steps, *rest], plan.delta).epsilon, rel=1e-9)


@pytest.mark.long
def test_without_colluders_a_site_is_the_worst() -> None:
    plan = made(UNION, honest=9)
    found = adversaries(plan, plan.spends())
    assert found["released model"] == found["coordinator"] == found["coordinator + 0 sites"]
    assert found["another site"] > found["coordinator"]
    careful = made(UNION, honest=8)
    found = adversaries(careful, careful.spends(), 0)
    assert found["another site"] <= careful.epsilon
    assert found["coordinator + 0 sites"] == found["coordinator"] < found["another site"]


def test_an_evaluation_is_nobodys_share() -> None:
    plan = made(UNION, honest=3)
    evaluation = plan.evaluation()
    assert evaluation is not None
    assert plan.seen_without([evaluation], 0) == (evaluation,)
    step = plan.spend(1)
    assert plan.seen_without([step, evaluation], 6) == (step, evaluation)
    (seen,) = plan.seen_without([step], 0)
    assert seen.noise_multiplier == pytest.approx(step.noise_multiplier * math.sqrt(3))
    assert (seen.rate, seen.steps) == (step.rate, step.steps)


def test_adversaries_of_what_was_really_spent() -> None:
    plan = made(UNION, honest=8)
    some = [plan.spend(1), plan.spend(2), plan.spend(2)]  # a round that was taken twice
    found = adversaries(plan, some)
    assert 0 < found["coordinator"] < found["another site"] < plan.epsilon
    assert set(adversaries(plan, []).values()) == {0.0}
    for known in (-1, 9):
        with pytest.raises(PrivacyError, match="0 to 8 can be known"):
            plan.seen_without(some, known)
    with pytest.raises(PrivacyError, match="can be known"):
        adversaries(plan, some, 9)


def test_where_each_site_adds_all_noise_all_adversaries_are_alike() -> None:
    plan = made(dataclasses.replace(UNION, mechanism="dpsgd"), honest=1, survivors=1)
    found = adversaries(plan, plan.spends(), 2)
    assert set(found.values()) == {claim(plan.spends(), plan.delta).epsilon}


# -- ledgers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("privacy", [UNION, SITES])
def test_a_ledger_takes_them_as_any_other(privacy: Privacy, tmp_path: Path) -> None:
    plan = made(privacy)
    terms = Request.of(plan)
    assert (terms.unit, terms.epsilon) == (privacy.unit, privacy.epsilon)
    assert terms.parts[0].spend() == Spend(plan.rate, plan.noise_multiplier, 12)
    entry = terms.entry(run="r", job=JOB, code="test")
    assert decode(encode(entry)) == entry
    ledger = SiteState(tmp_path / "a", "a").ledger()
    ledger.reserve(terms, run="r", job=JOB, code="test")
    budget = Remaining(plan)
    for round_ in (1, 2, 3):
        budget.take_steps(round_, 1)
        step = part_of(plan, plan.spend(round_))
        written = ledger.spend(step, run="r", job=JOB, round=round_, clip=plan.clip)
        assert (written.unit, written.delta) == (privacy.unit, repr(privacy.delta))
        assert written.mechanism == Mechanism(name=plan.mechanism, honest=7, survivors=9)
    ledger.give_back("r", JOB)
    again = SiteState(tmp_path / "a", "a").ledger()  # from disk
    spent, held = again.book().charges()
    assert (spent, held) == (
        terms.charges([part_of(plan, plan.spend(1, 3))]),
        [],
    )
    assert total(spent, privacy.unit).epsilon == budget.claim().epsilon
    units = {e.unit for e in again.entries() if isinstance(e, ReserveEntry | SpendEntry)}
    assert units == {privacy.unit}


def test_a_site_level_spend_bounds_its_rows_and_patients_by_exchange() -> None:
    # Whatever one row does, the site's update has norm C before and after: 2C apart at most.
    spends = [Spend(1.0, 8.0, 10)]
    charges = [Charge(s, "site", "add-remove", 1e-5) for s in spends]
    exchanged = claim(spends, 1e-5, "replace").epsilon
    assert total(charges, "site").epsilon == claim(spends, 1e-5).epsilon < exchanged
    for unit in ("record", "patient"):
        found = total(charges, unit)
        assert (found.epsilon, found.basis.adjacency) == (exchanged, "replace")
    patients = Charge(Spend(0.1, 1.0, 10), "patient", "add-remove", 1e-5)
    both = claim([*spends, patients.spend], 1e-5, "replace").epsilon
    assert total([*charges, patients], "patient").epsilon == both
    for less in (patients, dataclasses.replace(patients, unit="record")):
        with pytest.raises(PrivacyError, match=f"protect {less.unit}s say nothing about sites"):
            total([*charges, less], "site")


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_caps_count_site_level_spends_as_exchanged(unit: Any) -> None:
    new = [Charge(Spend(1.0, 8.0, 10), "site", "add-remove", 1e-5)]
    cost = claim([new[0].spend], 1e-5, "replace").epsilon
    Caps(unit=unit, epsilon=cost * 1.0001).check(spent=[], held=[], new=new)
    with pytest.raises(BudgetError, match=rf"budget\.epsilon.*{unit}, replace"):
        Caps(unit=unit, epsilon=cost * 0.999).check(spent=[], held=[], new=new)
    record = [Charge(Spend(0.1, 1.0, 10), "record", "add-remove", 1e-5)]
    if unit == "patient":
        with pytest.raises(BudgetError, match="protect records only"):
            Caps(unit="patient").check(spent=record, held=[], new=new)
