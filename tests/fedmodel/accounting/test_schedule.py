"""The noise of each round: shares of 1/σ² that add up to one release's."""

import math
from typing import Any

import pytest

from fedmodel.accounting.claims import Spend, epsilon
from fedmodel.accounting.planning import make_plan
from fedmodel.accounting.schedule import factor
from fedmodel.job import Privacy


def factors(rounds: int, decay: float = 1.0, start: Any = "means") -> list[float]:
    found = [factor(r, rounds=rounds, decay=decay, start=start) for r in range(1, rounds + 1)]
    assert found[0] == 1.0
    return found


@pytest.mark.parametrize("decay", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("rounds", [3, 4, 12, 20])
def test_mean_class_sums_and_steps_have_6_34_and_60_percent(rounds: int, decay: float) -> None:
    shares = [noise**-2 for noise in factors(rounds, decay)]
    whole = sum(shares)
    assert shares[0] / whole == pytest.approx(0.06)
    assert shares[1] / whole == pytest.approx(0.34)
    assert sum(shares[2:]) / whole == pytest.approx(0.60)
    assert math.sqrt(shares[2] / shares[-1]) == pytest.approx(decay if rounds > 3 else 1.0)


def test_without_steps_the_class_sums_have_the_rest() -> None:
    one, other = factors(2)
    assert one**-2 / (one**-2 + other**-2) == pytest.approx(0.12)
    assert factors(1) == [1.0]


@pytest.mark.parametrize("decay", [1.0, 0.25, 1.7])
def test_from_zero_it_changes_geometrically(decay: float) -> None:
    found = factors(4, decay, "zero")
    assert found == pytest.approx([decay ** (r / 3) for r in range(4)])


@pytest.mark.parametrize("rounds", [1, 2, 3, 12])
def test_all_releases_together_cost_what_one_of_the_same_information_does(rounds: int) -> None:
    """At rate 1 all are Gaussian releases, of which μ² adds: one number says what all cost."""
    privacy = Privacy(mechanism="dpsgd", epsilon=1.0, delta=1e-4, rate=1.0)
    plan = make_plan(privacy, batch_size=100, rounds=rounds, steps=1, evaluate=False, start="means")
    noises = [plan.noise_at(r) for r in range(1, rounds + 1)]
    assert [n / noises[0] for n in noises] == pytest.approx(factors(rounds))
    alone = sum(n**-2 for n in noises) ** -0.5
    assert epsilon([Spend(1.0, alone, 1)], 1e-4) == pytest.approx(1.0, rel=2e-3)
    assert epsilon(plan.spends(), 1e-4) == pytest.approx(1.0, rel=2e-3)
    assert [s.noise_multiplier for s in plan.spends()] == noises
