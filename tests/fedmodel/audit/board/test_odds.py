"""Odds in plain words, held against published values and against a mechanism that attains them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.spends import Spend
from fedmodel.audit.board.odds import gaussian_mu, right_guesses


@pytest.mark.parametrize(
    ("told", "mu"),
    [(0.340669, 0.1), (1.993091, 0.5), (4.377178, 1.0), (9.997256, 2.0), (16.675494, 3.0)],
)
def test_the_gaussian_that_is_as_strong_is_the_published_one(told: float, mu: float) -> None:
    assert gaussian_mu(told, 1e-5) == pytest.approx(mu, rel=1e-5)


@pytest.mark.long  # of the accountant's libraries' imports
def test_it_agrees_with_the_accountant() -> None:
    found = epsilon([Spend(1.0, 1 / 0.8, 1)], 1e-5)
    assert gaussian_mu(found, 1e-5) == pytest.approx(0.8, rel=1e-3)


@given(st.floats(0, 30), st.floats(0, 0.1))
def test_no_test_of_a_mechanism_that_is_as_weak_as_allowed_is_right_more_often(
    told: float, delta: float
) -> None:
    """With δ the bit is shown; else it is turned round with 1/(1 + e^ε): (ε, δ)-DP, and no less."""
    shown = delta + (1 - delta) / (1 + math.exp(-told))
    assert right_guesses(told, delta) == pytest.approx(shown, abs=1e-12)


def test_however_large_it_stays_a_share() -> None:
    assert right_guesses(0, 0) == 0.5
    assert right_guesses(1e6, 1e-5) == 1.0
