"""What a plan asks a ledger for, and what of it is given up for a round taken twice."""

import pytest

from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.remaining import covers, give_up
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError
from fedmodel.job import Privacy
from fedmodel.ledger.book import Reservation
from fedmodel.ledger.caps import total
from fedmodel.ledger.request import Request


def plan(decay: float = 1.0, evaluate: bool = True) -> Plan:
    privacy = Privacy(mechanism="dpsgd", epsilon=2.0, delta=1e-5, rate=0.1, decay=decay)
    return make_plan(privacy, batch_size=8, rounds=4, steps=5, evaluate=evaluate)


def held(plan: Plan) -> list[Spend]:
    return Reservation(Request.of(plan).entry(run="r", job="ab" * 32, code="x")).held()


@pytest.mark.long
def test_a_constant_schedule_is_one_part() -> None:
    train, evaluate = Request.of(plan()).parts
    assert (train.kind, train.steps, evaluate.kind, evaluate.steps) == ("train", 20, "evaluate", 1)
    assert len(Request.of(plan(evaluate=False)).parts) == 1


@pytest.mark.long
def test_a_decaying_one_has_a_part_for_each_round() -> None:
    decaying = plan(0.5)
    terms = Request.of(decaying)
    assert [p.spend() for p in terms.parts] == list(decaying.spends())
    assert held(decaying) == list(decaying.spends())
    assert total(terms.charges(), "record").epsilon <= decaying.epsilon


def test_nothing_is_given_up_where_all_fits() -> None:
    decaying = plan(0.5)
    first, *rest = held(decaying)
    assert give_up(decaying, [first], rest) == ()


def test_the_fewest_last_steps_are_given_up_and_never_the_evaluation() -> None:
    decaying = plan(0.5)
    first, *rest = held(decaying)
    evaluation = rest[-1]
    off = give_up(decaying, [first, first], rest)
    assert evaluation not in off
    count = sum(s.steps for s in off)
    assert 0 < count < 15
    # From the last round first.
    assert off[0].noise_multiplier == decaying.noise_at(4)
    left = {(s.rate, s.noise_multiplier): s.steps for s in rest}
    for spend in off:
        left[spend.rate, spend.noise_multiplier] -= spend.steps
    kept = [Spend(*kind, steps) for kind, steps in left.items() if steps]
    assert covers(decaying, [first, first, *kept])
    one_more = Spend(off[-1].rate, off[-1].noise_multiplier, 1)
    assert not covers(decaying, [first, first, *kept, one_more])


def test_where_even_that_is_not_enough_the_answer_is_no() -> None:
    decaying = plan(0.5)
    much = Spend(0.1, decaying.noise_at(4), 200)
    assert epsilon([much], 1e-5) > decaying.epsilon
    with pytest.raises(BudgetError, match="would exceed"):
        give_up(decaying, [much], held(decaying))
