"""What counts towards a cap, and on which basis."""

import pytest

from fedmodel.accounting.claims import claim
from fedmodel.accounting.spends import Spend
from fedmodel.errors import BudgetError, ConfigError, PrivacyError
from fedmodel.ledger.caps import Basis, Caps, Charge, total

A, B, C = Spend(0.1, 1.0, 10), Spend(0.2, 2.0, 5), Spend(1.0, 10.0, 1)


def record(spend: Spend, delta: float = 1e-5, adjacency: str = "add-remove") -> Charge:
    return Charge(spend, "record", adjacency, delta)  # type: ignore[arg-type]


def patient(spend: Spend, delta: float = 1e-5, adjacency: str = "add-remove") -> Charge:
    return Charge(spend, "patient", adjacency, delta)  # type: ignore[arg-type]


def eps(*spends: Spend, delta: float = 1e-5, replace: bool = False) -> float:
    return claim(spends, delta, "replace" if replace else "add-remove").epsilon


@pytest.mark.long
def test_a_total_is_composed_not_summed() -> None:
    both = total([record(A), record(B)], "record")
    assert both.epsilon == eps(A, B) < eps(A) + eps(B)
    assert both.basis == Basis("record", "add-remove", 1e-5)
    assert total([], "record", 1e-6).epsilon == 0


def test_the_smallest_delta_counts_unless_one_is_named() -> None:
    charges = [record(A, 1e-4), record(B, 1e-6)]
    assert total(charges, "record").epsilon == eps(A, B, delta=1e-6)
    assert total(charges, "record", 1e-3).epsilon == eps(A, B, delta=1e-3)


def test_one_promise_against_exchange_makes_the_total_one() -> None:
    charges = [record(A), record(B, adjacency="replace")]
    assert total(charges, "record").epsilon == eps(A, B, replace=True) > eps(A, B)


def test_a_patient_level_spend_bounds_a_row_by_exchanging_its_patient() -> None:
    # One row less changes a patient's clipped sum by up to 2C: as if the patient were exchanged.
    assert total([patient(A)], "patient").epsilon == eps(A)
    assert total([patient(A)], "record").epsilon == eps(A, replace=True)
    assert total([patient(A), record(B)], "record").epsilon == eps(A, B, replace=True)


def test_a_record_level_spend_says_nothing_about_patients() -> None:
    with pytest.raises(PrivacyError, match="say nothing about patients"):
        total([patient(A), record(B)], "patient")
    caps = Caps(unit="patient")
    caps.check(spent=[patient(A)], held=[], new=[patient(B)])
    with pytest.raises(BudgetError, match=r"budget\.unit=patient.*privacy=patient"):
        caps.check(spent=[patient(A)], held=[], new=[record(B)])
    for spent, held in (([record(A)], []), ([], [record(A)])):
        with pytest.raises(BudgetError, match="no ε for its patients"):
            caps.check(spent=spent, held=held, new=[patient(B)])


def test_without_caps_everything_goes() -> None:
    Caps().check(spent=[record(A)], held=[record(B)], new=[record(Spend(1.0, 0.1, 1000))])


def test_what_is_held_counts_as_if_it_were_spent() -> None:
    whole = eps(A, B, C)
    for spent, held in (([A, B], []), ([A], [B]), ([], [A, B])):
        parts = {"spent": [record(s) for s in spent], "held": [record(s) for s in held]}
        Caps(epsilon=whole).check(**parts, new=[record(C)])
        with pytest.raises(BudgetError, match=r"budget\.epsilon"):
            Caps(epsilon=whole * (1 - 1e-6)).check(**parts, new=[record(C)])


def test_the_refusal_has_the_numbers() -> None:
    with pytest.raises(BudgetError) as caught:
        Caps(epsilon=1.0).check(spent=[record(A)], held=[record(B)], new=[record(C)])
    told = str(caught.value)
    for number in (eps(A), eps(A, B), eps(A, B, C)):
        assert f"{number:.2f}"[:-1] in told
    assert "budget.epsilon = 1 " in told
    assert "record, add-remove, δ = 1e-05" in told


def test_a_runs_own_cap_counts_that_run_alone() -> None:
    caps = Caps(epsilon=100.0, run_epsilon=eps(A, C))
    caps.check(spent=[record(A), record(B)], held=[], new=[record(C)], run=[record(A)])
    with pytest.raises(BudgetError, match=r"budget\.run_epsilon"):
        caps.check(spent=[record(B)], held=[], new=[record(C)], run=[record(A), record(B)])


@pytest.mark.parametrize("key", ["epsilon", "run_epsilon"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_caps_are_numbers(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"budget.{key}"):
        Caps(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [0.0, 1.0, 1e-13, float("nan")])
def test_the_caps_delta_is_one(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"budget\.delta"):
        Caps(delta=delta)
